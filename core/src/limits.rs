//! Bounds for everything. No field has a value that means "unlimited".

/// What a receiver lets its peer do: announced in the handshake (PROTOCOL.md, section 4 `limits`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Limits {
    /// Longest payload of a frame, in bytes [F-2].
    pub frame_bytes_max: u32,
    /// Calls of the peer that may be open at a time [C-3].
    pub calls_max: u32,
    /// Calls that may be abandoned at a time [C-4].
    pub abandoned_max: u32,
    /// Longest body that travels in one piece in x1, in bytes [B-1].
    pub inline_bytes_max: u32,
    /// Longest body of a call or an answer, in bytes [B-1].
    pub body_bytes_max: u64,
    /// Bulk bytes that the peer may send before the first Credit frame: at least twice `body_bytes_max`, so that calls with long
    /// bodies leave room for the longest answer [B-2].
    pub credit_bytes: u64,
    /// Longest time that a call may ask for, in microseconds.
    pub call_deadline_us_max: u64,
}

impl Limits {
    /// Its length on the wire.
    pub const WIRE_BYTES: usize = 40;

    /// The limits that hold where a peer announced none (PROTOCOL.md, section 11).
    pub const DEFAULT: Limits = Limits {
        frame_bytes_max: 16 << 20,
        calls_max: 1024,
        abandoned_max: 1024,
        inline_bytes_max: 16 << 10,
        body_bytes_max: 16 << 20,
        credit_bytes: 32 << 20,
        call_deadline_us_max: 3_600_000_000,
    };

    /// The first frame of each direction is at most this long, in bytes [F-2].
    pub const FIRST_FRAME_BYTES_MAX: u32 = 64 << 10;

    /// These limits, each raised or lowered to where the protocol still works: a peer that announces nonsense gets the
    /// nearest sense.
    #[must_use]
    pub fn clamped(self) -> Limits {
        let frame = self.frame_bytes_max.clamp(Limits::FIRST_FRAME_BYTES_MAX * 5, 1 << 30);
        // An event has to fit in one piece, and a body that does not fill a fragment needs no second one.
        let inline = self.inline_bytes_max.clamp(EVENT_BYTES_MAX as u32, Limits::FIRST_FRAME_BYTES_MAX);
        let body = self.body_bytes_max.clamp(u64::from(inline), 1 << 30);
        Limits {
            frame_bytes_max: frame,
            calls_max: self.calls_max.clamp(1, 1 << 16),
            abandoned_max: self.abandoned_max.clamp(1, 1 << 16),
            inline_bytes_max: inline,
            body_bytes_max: body,
            credit_bytes: self.credit_bytes.clamp(2 * body, 1 << 32),
            call_deadline_us_max: self.call_deadline_us_max.clamp(1_000, 86_400_000_000),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits::DEFAULT
    }
}

/// Longest body of an event, in bytes: every receiver takes it in one piece [V-1].
pub const EVENT_BYTES_MAX: usize = 16 << 10;

/// What one side decides for itself: its limits as a receiver, and how long it waits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Config {
    /// What the peer may do.
    pub limits: Limits,
    /// How long the handshake may take, in microseconds.
    pub hello_us: u64,
    /// How long a Ping may stay unanswered, in microseconds.
    pub ping_us: u64,
    /// How long draining may take, in microseconds [G-1].
    pub drain_us: u64,
    /// Bytes that may wait for the transport before calls of the peer are answered Busy [C-3] and events, log records, progress and
    /// extensions are held back. Answers to calls that were let through come on top, and what the peer provokes: it is cut off
    /// for [`crate::Violation::Flood`] when as many refused calls and Pongs wait as no peer provokes that keeps to its window.
    pub outbox_bytes_max: u32,
    /// Events, log records and notices that may wait for the application, with at most this many times `inline_bytes_max` bytes of
    /// bodies. What exceeds it is dropped, counted, and reported. What is about calls is bounded by `calls_max` instead.
    pub inbox_max: u32,
    /// Offer (module) or confirm (host) the x1 profile.
    pub x1: bool,
}

impl Config {
    /// The values that suit a node and its modules.
    pub const DEFAULT: Config = Config {
        limits: Limits::DEFAULT,
        hello_us: 5_000_000,
        ping_us: 10_000_000,
        drain_us: 5_000_000,
        outbox_bytes_max: 1 << 20,
        inbox_max: 1024,
        x1: true,
    };
}

impl Default for Config {
    fn default() -> Self {
        Config::DEFAULT
    }
}
