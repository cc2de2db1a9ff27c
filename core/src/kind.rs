//! The kinds of frames and the two roles, with what each may send (PROTOCOL.md, section 3).

use core::fmt::Debug;
use core::hash::Hash;

/// What a frame is: bits 0–7 of its tag.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A call from the module to the host.
    Request = 0,
    /// The answer to a [`Kind::Request`].
    Response = 1,
    /// One event of the host's log.
    Event = 2,
    /// One log record of the module.
    Log = 3,
    /// A call from the host to the module.
    Invocation = 4,
    /// The answer to a [`Kind::Invocation`].
    InvocationResult = 5,
    /// The module's first frame.
    Hello = 6,
    /// The host's answer to it.
    Answer = 7,
    /// The caller no longer wants this call's answer.
    Cancel = 8,
    /// A question whether the peer is alive.
    Ping = 9,
    /// The answer to it.
    Pong = 10,
    /// No more calls and events from here on.
    Goodbye = 11,
    /// Events were overwritten before they could be sent.
    Lagged = 12,
    /// A higher limit for bulk bodies.
    Credit = 13,
    /// How far a running call is.
    Progress = 14,
    /// The module's capabilities changed.
    GrantsChanged = 15,
}

impl Kind {
    /// Every kind, in order of its number.
    pub const ALL: [Kind; 16] = [
        Kind::Request,
        Kind::Response,
        Kind::Event,
        Kind::Log,
        Kind::Invocation,
        Kind::InvocationResult,
        Kind::Hello,
        Kind::Answer,
        Kind::Cancel,
        Kind::Ping,
        Kind::Pong,
        Kind::Goodbye,
        Kind::Lagged,
        Kind::Credit,
        Kind::Progress,
        Kind::GrantsChanged,
    ];

    /// The kind with this number, if version 1 has one.
    #[must_use]
    pub fn from_u8(n: u8) -> Option<Kind> {
        Kind::ALL.get(usize::from(n)).copied()
    }

    /// Whether this kind carries a call or its answer, and so may travel as bulk.
    #[must_use]
    pub fn is_call_or_answer(self) -> bool {
        self.bit()
            & (Kind::Request.bit()
                | Kind::Response.bit()
                | Kind::Invocation.bit()
                | Kind::InvocationResult.bit())
            != 0
    }

    pub(crate) const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// Kinds from this number up are extensions: skipped and counted (PROTOCOL.md [E-3]).
pub const EXTENSION_FIRST: u8 = 128;

/// Which end of the connection this is. It never changes, so it is a type parameter: [`Host`] or [`Module`].
pub trait Role:
    Clone + Copy + Eq + Hash + Debug + Default + Send + Sync + Unpin + 'static + sealed::Sealed
{
    /// The kind of the calls that this role issues.
    const CALL: Kind;
    /// The kind of the answers to them.
    const CALL_ANSWER: Kind;
    /// The kind of the calls that this role serves.
    const SERVE: Kind;
    /// The kind of its answers to them.
    const SERVE_ANSWER: Kind;
    /// Bit set of the kinds that the *peer* of this role may send.
    const RECEIVES: u16;
    /// The role's name, for messages and traces.
    const NAME: &'static str;
    /// Whether this is the host.
    const IS_HOST: bool;
}

const BOTH: u16 = Kind::Cancel.bit()
    | Kind::Ping.bit()
    | Kind::Pong.bit()
    | Kind::Goodbye.bit()
    | Kind::Credit.bit()
    | Kind::Progress.bit();

/// The side that runs modules: a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Host;

impl Role for Host {
    const CALL: Kind = Kind::Invocation;
    const CALL_ANSWER: Kind = Kind::InvocationResult;
    const SERVE: Kind = Kind::Request;
    const SERVE_ANSWER: Kind = Kind::Response;
    const RECEIVES: u16 =
        BOTH | Kind::Request.bit() | Kind::Log.bit() | Kind::InvocationResult.bit() | Kind::Hello.bit();
    const NAME: &'static str = "host";
    const IS_HOST: bool = true;
}

/// The side that a module's process holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Module;

impl Role for Module {
    const CALL: Kind = Kind::Request;
    const CALL_ANSWER: Kind = Kind::Response;
    const SERVE: Kind = Kind::Invocation;
    const SERVE_ANSWER: Kind = Kind::InvocationResult;
    const RECEIVES: u16 = BOTH
        | Kind::Response.bit()
        | Kind::Event.bit()
        | Kind::Invocation.bit()
        | Kind::Answer.bit()
        | Kind::Lagged.bit()
        | Kind::GrantsChanged.bit();
    const NAME: &'static str = "module";
    const IS_HOST: bool = false;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Host {}
    impl Sealed for super::Module {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_number_and_belongs_to_a_sender() {
        for (n, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(Kind::from_u8(n as u8), Some(kind));
            assert_ne!((Host::RECEIVES | Module::RECEIVES) & kind.bit(), 0, "{kind:?} has no sender");
        }
        assert_eq!(Kind::from_u8(16), None);
    }
}
