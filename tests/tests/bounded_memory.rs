//! A module that never reads: what it costs the node, and what it is told when it reads again. Alone in its process, whose
//! memory it measures.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use modipc_api::{Event, EventType};
use modipc_node::NodeConfig;
use modipc_tests::raw::{
    EVENT, LAGGED, Payload, RESPONSE, RawPeer, SUBSCRIBE_EVENTS, event_types, request, x1_hello,
};
use modipc_tests::server::Server;

/// Events that the node keeps.
const KEPT: u64 = 512;

/// Events that are published, of about 10 KB each: 300 MB in all.
const PUBLISHED: u64 = 30_000;
const EVENT_BYTES: usize = 10_000;

/// What the node may hold for the module: 64 KiB of events, one that is more than that, and the batch that the socket does not
/// take.
const OUTBOX_BYTES_MAX: usize = 96 << 10;

/// What the process may grow by: the log, twice, and what the allocator keeps.
const GROWTH_BYTES_MAX: u64 = 2 * KEPT * EVENT_BYTES as u64 + (16 << 20);

/// A topic that only the deaf module hears.
fn fault(n: u64) -> Event {
    Event::NodeFault { part: n.to_string(), reason: "x".repeat(EVENT_BYTES) }
}

#[test]
fn a_module_that_never_reads_costs_bounded_memory_and_gets_a_lag_notice_with_exact_positions() {
    let server = Server::with(NodeConfig { events_max: KEPT as usize, ..NodeConfig::default() });
    let mut quick = subscriber(&server, "alice", EventType::HeadersSynced);
    let mut deaf = subscriber(&server, "bob", EventType::NodeFault);

    let mut memory_before = 0;
    for n in 1..=PUBLISHED {
        // The fault has an odd position, the height an even one.
        assert_eq!(server.node.try_publish(&fault(n)), Ok(2 * n - 1));
        assert_eq!(server.node.try_publish(&Event::HeadersSynced { height: n }), Ok(2 * n));
        // The quick one reads each before the next: the deaf one delays nobody.
        assert_eq!(event_at(&quick.expect(EVENT)), (2 * n, (2 * n).saturating_sub(2)));
        if n == 2 * KEPT {
            memory_before = resident_bytes();
        }
        if n % 1000 == 0 {
            let waiting = server.node.modules()[1].outbox_bytes;
            assert!(waiting <= OUTBOX_BYTES_MAX, "{waiting} bytes wait for the module that does not read");
        }
    }
    let grown = resident_bytes().saturating_sub(memory_before);
    assert!(grown < GROWTH_BYTES_MAX, "{grown} bytes more after {PUBLISHED} events");

    // Now it reads: what was on its way, then the notice, then everything that is still kept.
    let mut next = 1_u64;
    let notice = loop {
        let frame = deaf.frame().unwrap();
        match frame.kind() {
            EVENT => {
                assert_eq!(event_at(&frame), (next, next.saturating_sub(2)));
                next += 2;
            }
            LAGGED => break frame,
            other => panic!("a frame of kind {other}"),
        }
    };
    assert!(next > 1, "nothing was on its way");
    let (first, last) = (notice.u64(12), notice.u64(20));
    assert!(first == next || first == next - 1, "it missed nothing before {next}, and is told {first}");
    // The log keeps the last KEPT positions, so the last fault that is gone has the odd one before them.
    assert_eq!(last, 2 * PUBLISHED - KEPT - 1);
    for position in (last + 2..2 * PUBLISHED).step_by(2) {
        assert_eq!(event_at(&deaf.expect(EVENT)), (position, position - 2));
    }
    assert!(deaf.is_served(2) && quick.is_served(2));
    let _ = server.shut_down();
}

fn subscriber(server: &Server, module_id: &str, topic: EventType) -> RawPeer {
    let (mut peer, _) = server.peer();
    peer.greet(&x1_hello(module_id, b""));
    peer.send(&request(1, SUBSCRIBE_EVENTS, &event_types(&[topic.number()])));
    assert_eq!(peer.expect(RESPONSE).u32(12), 0, "not subscribed");
    peer
}

/// An event's position, and that of the previous one of its topic.
fn event_at(frame: &Payload) -> (u64, u64) {
    (frame.id(), frame.u64(12))
}

/// What of this process is in memory.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    kib << 10
}
