//! Whatever a peer sends or omits: one error that says what, who and what to do; the peer is told if the wire allows it; its
//! connection ends and no other. Each test has a node of its own on a real socket, and a healthy module that calls all the time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use modipc_api::{CapabilitySet, ErrorCode};
use modipc_core::{CloseReason, Config, RefusalCode, Violation};
use modipc_node::{Attached, Credentials, NodeConfig, PeerIdentity};
use modipc_tests::healthy::Healthy;
use modipc_tests::notes::Note;
use modipc_tests::raw::{
    ANSWER, CREDIT, EVENT, GET_BLOCK_HEIGHT, GOODBYE, HELLO, INVOCATION_RESULT, LAGGED, LOG, PING, PONG,
    Payload, REQUEST, RESPONSE, RawPeer, frame, hello_with_records, plain, request, seed_hello, string,
    with_id, x1_hello,
};
use modipc_tests::server::{Server, end_of};
use modipc_tests::world::own_user;

/// Kinds that have no other use here.
const CANCEL: u8 = 8;
const PROGRESS: u8 = 14;
const GRANTS_CHANGED: u8 = 15;

// ---- the stage ----

/// A node, a healthy module, and a peer that is about to do something wrong.
struct Stage {
    server: Server,
    healthy: Healthy,
    peer: RawPeer,
    attached: Attached,
}

/// What the guilty peer reads before the end of its stream.
enum Told {
    /// Goodbye, with this violation's number and words [G-3].
    Goodbye(Violation),
    /// An Answer that refuses, with this code, a message and a hint.
    Refused(RefusalCode),
    /// Nothing: the plain profile has nothing that a module could be told with.
    Nothing,
}

impl Stage {
    /// The peer has connected and said nothing.
    fn silent() -> Stage {
        Stage::with(NodeConfig::default(), Server::peer)
    }

    fn with(config: NodeConfig, connect: impl FnOnce(&Server) -> (RawPeer, Attached)) -> Stage {
        let server = Server::with(config);
        let healthy = Healthy::start(server.path());
        let _healthy_end = server.accepted();
        let (peer, attached) = connect(&server);
        Stage { server, healthy, peer, attached }
    }

    /// The peer is admitted as `bob`, with the profile x1.
    fn admitted() -> Stage {
        let mut stage = Stage::silent();
        stage.peer.greet(&x1_hello("bob", b""));
        stage
    }

    /// The peer is admitted as `bob`, with the plain profile.
    fn admitted_plain() -> Stage {
        let mut stage = Stage::silent();
        stage.peer.greet(&seed_hello("bob"));
        stage
    }

    fn sends(mut self, bytes: &[u8]) -> Stage {
        self.peer.send(bytes);
        self
    }

    /// The node ends the peer's connection for this reason, tells the peer, and writes one complaint with these words.
    fn ends(mut self, reason: CloseReason, told: &Told, words: &[&str]) {
        told.check(&self.peer.rest());
        assert_eq!(end_of(&self.attached), reason);
        let notes = self.over();
        let [complaint] = &complaints(&notes)[..] else { panic!("not one complaint: {notes:#?}") };
        for word in words {
            assert!(complaint.text.contains(word), "{word:?} is not in {:?}", complaint.text);
        }
    }

    /// As [`Stage::ends`], after a violation of an admitted module.
    fn violates(self, violation: Violation) {
        self.ends(CloseReason::Violation(violation), &Told::Goodbye(violation), &BY_BOB(violation));
    }

    /// As [`Stage::ends`], after a refusal. It names the module and says what to change.
    fn ends_refused(self, code: RefusalCode, words: &[&str]) {
        self.ends(CloseReason::Refused(code), &Told::Refused(code), words);
    }

    /// The peer is still served, and nobody complained of anything but these words; one complaint for each.
    fn goes_on(mut self, call: u64, words: &[&str]) {
        assert!(self.peer.is_served(call));
        assert_eq!(self.attached.closed(), None);
        let notes = self.over();
        let complaints = complaints(&notes);
        assert_eq!(complaints.len(), words.len(), "{complaints:#?}");
        for (complaint, word) in complaints.iter().zip(words) {
            assert!(complaint.text.contains(word), "{word:?} is not in {:?}", complaint.text);
        }
    }

    /// The healthy module has noticed nothing. Gives everything that was logged.
    fn over(self) -> Vec<Note> {
        self.healthy.end();
        drop(self.peer);
        self.server.shut_down().1
    }
}

/// What is said, of whom, and what to do.
#[allow(non_snake_case, reason = "it stands for a constant")]
fn BY_BOB(violation: Violation) -> [&'static str; 3] {
    [violation.text(), "module=\"bob\"", "author"]
}

fn complaints(notes: &[Note]) -> Vec<Note> {
    notes.iter().filter(|note| note.level <= tracing::Level::WARN).cloned().collect()
}

impl Told {
    fn check(&self, frames: &[Payload]) {
        match (self, frames) {
            (Told::Nothing, []) => {}
            (Told::Goodbye(violation), [.., goodbye]) => {
                assert_eq!((goodbye.kind(), goodbye.u32(12)), (GOODBYE, violation.goodbye_reason()));
                assert!(goodbye.text().contains(violation.text()), "{}", goodbye.text());
            }
            (Told::Refused(code), [answer]) => {
                assert_eq!((answer.kind(), answer.u32(4), answer.u32(8)), (ANSWER, 1, *code as u32));
                let message_bytes = usize::try_from(answer.u64(12)).unwrap();
                let hint_bytes = answer.u64(20 + message_bytes);
                assert!(message_bytes > 0 && hint_bytes > 0, "{}", answer.text());
            }
            _ => panic!("told {frames:?}"),
        }
    }
}

/// How the node calls a peer that has not said who it is.
fn nameless() -> String {
    format!("uid: {}", own_user())
}

/// A violation before the handshake is over.
fn before_the_handshake(bytes: &[u8], violation: Violation, code: RefusalCode) {
    let words = [violation.text(), &nameless(), "author"];
    Stage::silent().sends(bytes).ends(CloseReason::Violation(violation), &Told::Refused(code), &words);
}

// ---- garbage, truncated and oversized frames, claims ----

#[test]
fn garbage_instead_of_a_hello() {
    before_the_handshake(b"GET / HTTP/1.1\r\n\r\n", Violation::FrameTooLong, RefusalCode::Malformed);
    before_the_handshake(&[0; 64], Violation::FrameTooShort, RefusalCode::Malformed);
    before_the_handshake(&frame(b"nonsense"), Violation::UnknownKind, RefusalCode::Malformed);
    before_the_handshake(
        &plain(u32::from(HELLO), b"nonsense"),
        Violation::MalformedHello,
        RefusalCode::Malformed,
    );
}

#[test]
fn garbage_from_an_admitted_module() {
    Stage::admitted().sends(b"GET / HTTP/1.1\r\n\r\n").violates(Violation::FrameTooLong);
    Stage::admitted().sends(&[0; 64]).violates(Violation::FrameTooShort);
    Stage::admitted().sends(&frame(b"nonsense nonsense")).violates(Violation::UnknownKind);
}

#[test]
fn a_frame_that_ends_early_with_the_stream() {
    let stage = Stage::admitted().sends(&request(1, GET_BLOCK_HEIGHT, &[])[..15]);
    stage.peer.end_writing();
    stage.violates(Violation::Truncated);

    let stage = Stage::silent().sends(&x1_hello("bob", b"")[..20]);
    stage.peer.end_writing();
    let violation = Violation::Truncated;
    let words = [violation.text(), &nameless(), "author"];
    stage.ends(CloseReason::Violation(violation), &Told::Refused(RefusalCode::Malformed), &words);
}

#[test]
fn a_frame_that_is_longer_than_was_agreed() {
    // The first frame has a bound of its own.
    before_the_handshake(&65_537_u32.to_le_bytes(), Violation::FrameTooLong, RefusalCode::Malformed);
    // Four bytes are enough: nobody waits for the rest.
    let too_long = Config::DEFAULT.limits.frame_bytes_max + 1;
    Stage::admitted().sends(&too_long.to_le_bytes()).violates(Violation::FrameTooLong);
}

#[test]
fn a_length_with_nothing_behind_it() {
    let longest = Config::DEFAULT.limits.frame_bytes_max;
    let mut stage = Stage::admitted().sends(&longest.to_le_bytes());
    // Nothing happens until the stream ends: the others are served, and so are invocations of this one.
    stage.healthy.is_served();
    assert_eq!(stage.attached.closed(), None);
    stage.peer.end_writing();
    Told::Goodbye(Violation::Truncated).check(&stage.peer.rest());
    stage.violates_after_reading(Violation::Truncated);
}

impl Stage {
    fn violates_after_reading(self, violation: Violation) {
        assert_eq!(end_of(&self.attached), CloseReason::Violation(violation));
        let notes = self.over();
        let [complaint] = &complaints(&notes)[..] else { panic!("{notes:#?}") };
        assert!(BY_BOB(violation).iter().all(|word| complaint.text.contains(word)), "{complaint:?}");
    }
}

// ---- direction and kinds ----

#[test]
fn frames_that_only_a_host_may_send() {
    for kind in [RESPONSE, EVENT, LAGGED, GRANTS_CHANGED, ANSWER] {
        let bytes = if kind == EVENT {
            // With the field that each event has.
            with_id(u32::from(EVENT) | 1 << 11, 1, &[0; 8])
        } else {
            with_id(u32::from(kind), 0, &[])
        };
        Stage::admitted().sends(&bytes).violates(Violation::WrongDirection);
    }
    before_the_handshake(&plain(u32::from(ANSWER), &[]), Violation::WrongDirection, RefusalCode::NotHello);
}

#[test]
fn an_unknown_kind_below_128() {
    for kind in [16, 127] {
        Stage::admitted().sends(&with_id(kind, 0, &[])).violates(Violation::UnknownKind);
    }
    // The plain profile knows eight kinds.
    for kind in [8, 127, 128, 255] {
        let violation = Violation::UnknownKind;
        let stage = Stage::admitted_plain().sends(&plain(kind, &[0; 8]));
        stage.ends(CloseReason::Violation(violation), &Told::Nothing, &BY_BOB(violation));
    }
}

#[test]
fn an_unknown_kind_from_128_up_is_skipped() {
    let mut stage = Stage::admitted();
    for kind in [128, 200, 255] {
        stage = stage.sends(&plain(kind | 0xffff_ff00, b"whatever")).sends(&plain(kind, &[]));
    }
    stage.goes_on(1, &[]);
}

#[test]
fn flags_that_a_kind_does_not_have() {
    for flag in [8, 11, 12, 13, 14, 16, 31] {
        let bytes = with_id(u32::from(PING) | 1 << flag, 1, &[0; 16]);
        Stage::admitted().sends(&bytes).violates(Violation::BadFlags);
    }
}

// ---- trailing bytes ----

#[test]
fn trailing_bytes() {
    let mut hello = seed_hello("bob");
    hello.push(0);
    before_the_handshake(&relength(hello), Violation::MalformedHello, RefusalCode::Malformed);
    for (kind, id, body) in [(PING, 1, &[0][..]), (CREDIT, 0, &[255; 9]), (GOODBYE, 0, &[0; 21])] {
        Stage::admitted().sends(&with_id(u32::from(kind), id, body)).violates(Violation::MalformedControl);
    }
    // A body that does not decode is a fault of the call alone.
    let mut stage = Stage::admitted().sends(&request(1, GET_BLOCK_HEIGHT, &[0]));
    assert!(stage.peer.expect(RESPONSE).is_error(ErrorCode::InvalidRequest.number()));
    stage.goes_on(2, &[]);
}

/// The frame with the length that it has now.
fn relength(bytes: Vec<u8>) -> Vec<u8> {
    frame(&bytes[4..])
}

// ---- the order of the handshake ----

#[test]
fn a_second_handshake() {
    Stage::admitted().sends(&x1_hello("bob", b"")).violates(Violation::SecondHello);
    let violation = Violation::SecondHello;
    let stage = Stage::admitted_plain().sends(&seed_hello("bob"));
    stage.ends(CloseReason::Violation(violation), &Told::Nothing, &BY_BOB(violation));
    // Both before the first was answered.
    let twice = [x1_hello("bob", b""), x1_hello("bob", b"")].concat();
    before_the_handshake(&twice, violation, RefusalCode::Malformed);
}

#[test]
fn frames_before_the_handshake() {
    let early = request(1, GET_BLOCK_HEIGHT, &[]);
    before_the_handshake(&early, Violation::NotHello, RefusalCode::NotHello);
    let log = plain(u32::from(LOG), &[&2_u32.to_le_bytes()[..], &string("m"), &string("bob")].concat());
    before_the_handshake(&log, Violation::NotHello, RefusalCode::NotHello);
    // Behind the Hello, but before its answer.
    let eager = [x1_hello("bob", b""), early].concat();
    before_the_handshake(&eager, Violation::BeforeAnswer, RefusalCode::Malformed);
}

#[test]
fn connect_and_close() {
    let Stage { server, healthy, peer, attached } = Stage::silent();
    drop(peer);
    assert_eq!(end_of(&attached), CloseReason::PeerGone);
    healthy.end();
    let notes = server.shut_down().1;
    // Nothing was wrong: it is noted, and nobody complains.
    assert!(complaints(&notes).is_empty(), "{notes:#?}");
    let closed = notes.iter().filter(|note| note.text.contains(&CloseReason::PeerGone.to_string()));
    let [closed] = &closed.collect::<Vec<_>>()[..] else { panic!("{notes:#?}") };
    assert!(closed.text.contains(&nameless()), "{closed:?}");
}

#[test]
fn half_a_prefix_and_then_nothing() {
    let connection = Config { hello_us: 300_000, ..Config::DEFAULT };
    let stage = Stage::with(NodeConfig { connection, ..NodeConfig::default() }, Server::peer);
    let stage = stage.sends(&[40, 0]);
    stage.healthy.is_served();
    let reason = CloseReason::HandshakeTimeout;
    let words = ["handshake was not complete in time", &nameless(), "Hello"];
    stage.ends(reason, &Told::Refused(RefusalCode::Timeout), &words);
}

// ---- ids ----

#[test]
fn reused_ids() {
    let twice = [request(1, GET_BLOCK_HEIGHT, &[]), request(1, GET_BLOCK_HEIGHT, &[])].concat();
    Stage::admitted().sends(&twice).violates(Violation::StaleCallId);
    let falling = [request(7, GET_BLOCK_HEIGHT, &[]), request(6, GET_BLOCK_HEIGHT, &[])].concat();
    Stage::admitted().sends(&falling).violates(Violation::StaleCallId);
    Stage::admitted().sends(&request(0, GET_BLOCK_HEIGHT, &[])).violates(Violation::StaleCallId);
    let violation = Violation::StaleCallId;
    let mut stage = Stage::admitted_plain();
    assert!(stage.peer.is_served(3));
    let stage = stage.sends(&request(3, GET_BLOCK_HEIGHT, &[]));
    stage.ends(CloseReason::Violation(violation), &Told::Nothing, &BY_BOB(violation));
}

#[test]
fn answers_that_nobody_asked_for() {
    let body = 2_u32.to_le_bytes();
    for (kind, violation) in [
        (INVOCATION_RESULT, Violation::AnswerUnasked),
        (PONG, Violation::PongUnasked),
        (CANCEL, Violation::CancelUnissued),
        (PROGRESS, Violation::ProgressUnasked),
    ] {
        let body = match kind {
            INVOCATION_RESULT => &body[..],
            PROGRESS => &[0; 16],
            _ => &[],
        };
        Stage::admitted().sends(&with_id(u32::from(kind), 7, body)).violates(violation);
    }
}

// ---- text ----

#[test]
fn text_that_is_not_utf8() {
    before_the_handshake(&seed_hello(b"b\xffb"), Violation::MalformedHello, RefusalCode::Malformed);
    let goodbye = [&[0; 12][..], &string(b"\xc3\x28")].concat();
    let stage = Stage::admitted().sends(&with_id(u32::from(GOODBYE), 0, &goodbye));
    stage.violates(Violation::MalformedControl);
    // A log message that cannot be read is the log message's fault alone.
    let log = [&2_u32.to_le_bytes()[..], &string(b"\xff"), &string("bob")].concat();
    let stage = Stage::admitted().sends(&with_id(u32::from(LOG), 0, &log));
    stage.goes_on(1, &["a log record was refused"]);
}

// ---- admission ----

#[test]
fn an_empty_id_and_one_that_is_a_path() {
    for id in ["", "../../etc/passwd", "a/b", "..", "a..b", "BOB", &"x".repeat(65)] {
        let stage = Stage::silent().sends(&x1_hello(id, b""));
        let shown = if id.len() > 64 { "xxxx" } else { id };
        stage.ends_refused(RefusalCode::BadModuleId, &[shown, "no module id", "choose an id", &nameless()]);
    }
}

#[test]
fn someone_elses_id() {
    // On a connection that was given to another module.
    let inherited = |server: &Server| {
        let grants = CapabilitySet::ALL;
        let requires = CapabilitySet::EMPTY;
        server.peer_as(PeerIdentity::Inherited { module_id: "carol".into(), grants, requires })
    };
    let stage = Stage::with(NodeConfig::default(), inherited).sends(&x1_hello("bob", b""));
    stage.ends_refused(RefusalCode::NotAllowed, &["given to module \"carol\"", "\"bob\"", "MODULE_ID"]);

    // By a user whom the operator does not admit.
    let stranger = |server: &Server| {
        let credentials = Credentials { uid: own_user() + 1, gid: 0, pid: None };
        server.peer_as(PeerIdentity::Attached { credentials })
    };
    let stage = Stage::with(NodeConfig::default(), stranger).sends(&x1_hello("bob", b""));
    let user = format!("user {}", own_user() + 1);
    stage.ends_refused(RefusalCode::NotAllowed, &["module \"bob\"", &user, "policy"]);

    // An id that the operator's policy does not name, or reserves for modules that the host starts.
    let stage = Stage::silent().sends(&x1_hello("nobody", b""));
    stage.ends_refused(RefusalCode::NotAllowed, &["module \"nobody\"", "does not name", "add"]);
    let stage = Stage::silent().sends(&x1_hello("inherited-only", b""));
    stage.ends_refused(RefusalCode::NotAllowed, &["module \"inherited-only\"", "let the host start"]);

    // In a log message: it is dropped, and its sender is named.
    let log = [&2_u32.to_le_bytes()[..], &string("I did it"), &string("alice")].concat();
    let stage = Stage::admitted().sends(&with_id(u32::from(LOG), 0, &log));
    stage.goes_on(1, &["protocol error of module bob: a log record was refused"]);
}

#[test]
fn a_token_that_is_used_or_unknown_or_missing() {
    for (token, words) in [(&b"guessed"[..], "unknown or used"), (b"", "presented no token")] {
        let stage = Stage::silent().sends(&x1_hello("ticket", token));
        stage.ends_refused(RefusalCode::BadToken, &["\"ticket\"", words, "host's operator"]);
    }
    let used = |server: &Server| {
        let token = server.node.issue_token("ticket").unwrap();
        let (mut first, attached) = server.peer();
        first.greet(&x1_hello("ticket", token.as_bytes()));
        // In order, so that it is no complaint.
        first.send(&with_id(u32::from(GOODBYE), 0, &[0; 20]));
        first.rest();
        assert!(matches!(end_of(&attached), CloseReason::Drained { .. }));
        let (mut second, attached) = server.peer();
        second.send(&x1_hello("ticket", token.as_bytes()));
        (second, attached)
    };
    let stage = Stage::with(NodeConfig::default(), used);
    stage.ends_refused(RefusalCode::BadToken, &["\"ticket\"", "unknown or used", "next_token"]);
}

#[test]
fn a_duplicate_id() {
    // The healthy module is there under this name, and stays.
    let stage = Stage::silent().sends(&x1_hello("alice", b""));
    stage.ends_refused(RefusalCode::DuplicateId, &["\"alice\" is connected already", "stop the module"]);
}

#[test]
fn versions_and_critical_records() {
    let x1: &[(u16, u16, &[u8])] = &[(1, 0, &[])];
    let stage = Stage::silent().sends(&hello_with_records("bob", 0, b"", x1));
    let words = ["\"bob\"", "protocol version 0", "say protocol version 1"];
    stage.ends_refused(RefusalCode::UnsupportedVersion, &words);
    let stage = Stage::silent().sends(&hello_with_records("bob", 1, b"", &[(1, 0, &[]), (900, 1, b"x")]));
    stage.ends_refused(RefusalCode::UnknownCritical, &["\"bob\"", "record 900", "do without"]);
    // A later version is answered as version 1, and a record that is not critical is passed over.
    let mut stage = Stage::silent();
    stage.peer.greet(&hello_with_records("bob", 2, b"", &[(1, 0, &[]), (900, 0, b"x")]));
    stage.goes_on(1, &[]);
}

#[test]
fn a_module_that_cannot_work_with_what_it_is_granted() {
    let stage = Stage::silent().sends(&x1_hello("demanding", b""));
    let words = ["\"demanding\" requires", "ReadUTXO", "let the operator grant"];
    stage.ends_refused(RefusalCode::MissingCapability, &words);
}

// ---- requests that lie ----

#[test]
fn a_request_that_is_not_what_it_says_costs_its_sender_one_answer() {
    let no_type = with_id(u32::from(REQUEST), 1, &[]);
    let two_types = with_id(u32::from(REQUEST), 2, &[3, 0, 0, 0, 4, 0, 0, 0]);
    let later = request(3, 99, &[]);
    let claim = request(4, 6, &u64::MAX.to_le_bytes());
    let mut stage = Stage::admitted();
    for (bytes, code) in [
        (no_type, ErrorCode::InvalidRequest),
        (two_types, ErrorCode::InvalidRequest),
        (later, ErrorCode::UnknownRequest),
        (claim, ErrorCode::InvalidRequest),
    ] {
        stage = stage.sends(&bytes);
        assert!(stage.peer.expect(RESPONSE).is_error(code.number()), "{bytes:?}");
    }
    stage.goes_on(5, &[]);
}
