//! What can go wrong, split by whose fault it is: [`Violation`] (the peer's), the small refusals of single operations (our
//! caller's), and [`CloseReason`] (why a connection ended, and who began it).

use crate::hello::RefusalCode;

macro_rules! violations {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// A fault of the peer that ends the connection: one variant for each check (PROTOCOL.md, section 8).
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Violation { $($(#[$doc])* $name = $number,)* }

        impl Violation {
            /// Every violation, in order of its number.
            pub const ALL: &'static [Violation] = &[$(Violation::$name,)*];

            /// What the peer did, in words.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Violation::$name => $text,)* }
            }
        }
    };
}

violations! {
    /// [F-4]
    Truncated = 1, "the stream ended in the middle of a frame";
    /// [F-2]
    FrameTooShort = 2, "a frame is too short for its header";
    /// [F-2]
    FrameTooLong = 3, "a frame claims to be longer than the announced maximum";
    /// [E-2] [E-3]
    UnknownKind = 4, "a frame is of a kind that this profile does not have";
    /// [E-5]
    BadFlags = 5, "a frame has a flag that its kind does not allow";
    /// [E-5]
    BadField = 6, "a field in a frame's header does not fit or has a forbidden value";
    /// [E-4]
    WrongDirection = 7, "a frame is of a kind that only the other side may send";
    /// [H-1]
    NotHello = 8, "the first frame is not a Hello";
    /// [H-1]
    SecondHello = 9, "a Hello came after the handshake had begun";
    /// [H-1]
    BeforeAnswer = 10, "a frame came before the handshake was answered";
    /// [H-1]
    SecondAnswer = 11, "an Answer came after the handshake was over";
    /// section 4
    MalformedHello = 12, "the Hello cannot be read";
    /// section 4
    MalformedAnswer = 13, "the Answer cannot be read";
    /// [C-1]
    StaleCallId = 14, "a call has an id that does not rise";
    /// [C-2]
    AnswerUnasked = 15, "an answer came for a call that is not open";
    /// [C-4]
    CancelUnissued = 16, "a Cancel came for a call that was never issued";
    /// [G-5]
    PongUnasked = 17, "a Pong came that no Ping asked for";
    /// [G-1]
    AfterGoodbye = 18, "a call or an event came after the peer's own Goodbye";
    /// [G-1]
    SecondGoodbye = 19, "a second Goodbye came";
    /// [B-2]
    CreditShrunk = 20, "a Credit frame names a lower limit than before";
    /// [B-2]
    OverCredit = 21, "a bulk body exceeds the credit that was granted";
    /// [B-1]
    FragmentSize = 22, "a fragment has a size that the protocol does not allow";
    /// [B-1]
    FragmentStray = 23, "a fragment belongs to no body that has begun, or to one that is complete";
    /// [B-1]
    BodyTooLong = 24, "a body is longer than the announced maximum";
    /// [B-1]
    NotBulk = 25, "a body longer than the inline maximum came in one piece";
    /// section 3
    MalformedControl = 26, "the body of a control frame cannot be read";
    /// [V-1]
    PositionOrder = 27, "an event's position does not rise";
    /// [G-6]
    Flood = 28, "the peer keeps sending and does not read what it is answered";
    /// [C-8]
    ProgressUnasked = 29, "Progress came for a call that was never issued";
}

impl Violation {
    /// The reason number of the Goodbye that tells the peer [G-2].
    #[must_use]
    pub fn goodbye_reason(self) -> u32 {
        256 + self as u32
    }

    /// The violation that a Goodbye's reason names, if it names one.
    #[must_use]
    pub fn from_goodbye_reason(reason: u32) -> Option<Violation> {
        Violation::ALL.iter().copied().find(|v| v.goodbye_reason() == reason)
    }
}

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} (violation {})", self.text(), *self as u8)
    }
}

impl core::error::Error for Violation {}

/// Who began something.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Initiator {
    /// This side.
    Us,
    /// The other side.
    Peer,
}

/// Why a connection ended. It is set once and never changes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum CloseReason {
    /// The peer broke the protocol.
    #[error("the peer broke the protocol: {0}")]
    Violation(Violation),
    /// The peer says that we broke the protocol.
    #[error("the peer closed the connection and blames us: {}", Violation::from_goodbye_reason(*.0).map_or("unknown reason", Violation::text))]
    Blamed(u32),
    /// Both sides said goodbye and every call was answered.
    #[error("closed in order, begun by {}, reason {reason}", match .by { Initiator::Us => "us", Initiator::Peer => "the peer" })]
    Drained {
        /// Who said goodbye first.
        by: Initiator,
        /// The Goodbye's reason [G-2].
        reason: u32,
    },
    /// The host refused the handshake.
    #[error("the host refused the handshake: {0:?}")]
    Refused(RefusalCode),
    /// The handshake was not complete in time.
    #[error("the handshake was not complete in time")]
    HandshakeTimeout,
    /// The module did not keep up with its events, and its overflow policy is to end (or it speaks the plain profile, which has
    /// no lag notice) [V-4].
    #[error("the module did not keep up with its events")]
    SubscriberLagged,
    /// A Ping stayed unanswered.
    #[error("a ping stayed unanswered")]
    PingTimeout,
    /// Draining was not complete in time.
    #[error("calls were still open when the time for draining was over")]
    DrainTimeout,
    /// The peer closed the stream without a Goodbye: its process ended, or it speaks the plain profile.
    #[error("the peer closed the connection without a goodbye")]
    PeerGone,
    /// The transport failed.
    #[error("the transport failed")]
    TransportFailed,
    /// Our side dropped the connection.
    #[error("this side dropped the connection")]
    Aborted,
}

/// Why a command was not executed. The connection's state is as before.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Refused {
    /// The handshake is not complete.
    #[error("the handshake is not complete")]
    NotActive,
    /// This is a command of the handshake, which is over.
    #[error("the handshake is over")]
    HandshakeOver,
    /// Goodbye was said: nothing new begins.
    #[error("the connection is draining, nothing new begins")]
    Draining,
    /// The connection is closed.
    #[error("the connection is closed: {0}")]
    Closed(CloseReason),
    /// As many calls are open as the peer allows [C-3], or too many are abandoned [C-4].
    #[error("too many calls are open or abandoned: wait for answers")]
    WindowFull,
    /// The body is longer than the peer takes.
    #[error("the body is longer than the peer takes")]
    BodyTooLong,
    /// The outbox is full: wait until the transport has taken some.
    #[error("the outbox is full: the peer does not read")]
    OutboxFull,
    /// There is no open call of this id.
    #[error("no open call has this id")]
    UnknownCall,
    /// A Ping is under way.
    #[error("a ping is under way already")]
    PingUnderWay,
    /// The plain profile has no such frame.
    #[error("the plain profile has no frame for this")]
    PlainProfile,
    /// The call's deadline is zero or beyond what the peer allows.
    #[error("the deadline is zero or beyond what the peer allows")]
    BadDeadline,
    /// A field is too long for the frame.
    #[error("a field is too long for the frame")]
    FieldTooLong,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_have_distinct_numbers_and_come_back_from_a_goodbye() {
        for (i, violation) in Violation::ALL.iter().enumerate() {
            assert_eq!(*violation as usize, i + 1);
            assert_eq!(Violation::from_goodbye_reason(violation.goodbye_reason()), Some(*violation));
        }
        assert_eq!(Violation::from_goodbye_reason(0), None);
    }
}
