//! Handshakes over a connection: refusals that the module reads, and connections that misbehave.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use modipc_api::CapabilitySet;
use modipc_core::{CloseReason, Config, Event, Refusal, RefusalCode};
use modipc_driver::Runtime as _;
use modipc_node::{AcceptFault, Acceptor, Credentials, NodeConfig};
use modipc_transport_mem::{LinkConfig, Listener, MemTransport, Network, NetworkConfig};

use crate::support::{Peer, SECOND, USER, World};

async fn refusal(peer: &mut Peer) -> Refusal {
    let Event::Refused(refusal) = peer.event().await else { panic!("admitted") };
    assert_eq!(peer.closed().await, CloseReason::Refused(refusal.code));
    refusal
}

#[test]
fn a_used_token_is_refused_and_the_next_one_is_good() {
    let world = World::new();
    world.run(async {
        let token = world.node.issue_token("watcher").unwrap();
        let (mut first, connection) = world.attached(USER);
        first.hello_with("watcher", token.as_bytes()).await;
        let Event::Accepted(accepted) = first.event().await else { panic!("refused") };
        assert_eq!(accepted.next_token.len(), 32);
        drop(first);
        connection.wait_closed().await;

        let (mut again, _) = world.attached(USER);
        again.hello_with("watcher", token.as_bytes()).await;
        let refusal = refusal(&mut again).await;
        assert_eq!(refusal.code, RefusalCode::BadToken);
        assert!(refusal.hint.contains("next_token"), "{}", refusal.hint);

        let (mut third, _) = world.attached(USER);
        third.hello_with("watcher", &accepted.next_token).await;
        assert!(matches!(third.event().await, Event::Accepted(_)));
    });
}

#[test]
fn whoever_started_a_module_learns_that_it_was_admitted_or_why_not() {
    let world = World::new();
    world.run(async {
        let (mut first, connection) = world.inherited("a", CapabilitySet::ALL);
        first.hello("a").await;
        assert_eq!(connection.wait_admitted().await, Ok(()));
        let (mut second, refused) = world.inherited("a", CapabilitySet::ALL);
        second.hello("a").await;
        assert_eq!(refused.wait_admitted().await, Err(CloseReason::Refused(RefusalCode::DuplicateId)));
        let (_silent, timed_out) = world.inherited("b", CapabilitySet::ALL);
        assert_eq!(timed_out.wait_admitted().await, Err(CloseReason::HandshakeTimeout));
        drop(first);
        connection.wait_closed().await;
        assert_eq!(connection.wait_admitted().await, Ok(()), "it was");
    });
}

#[test]
fn a_duplicate_id_is_refused_and_the_first_stays() {
    let world = World::new();
    world.run(async {
        let mut first = world.module("a").await;
        let (mut second, _) = world.inherited("a", CapabilitySet::ALL);
        second.hello("a").await;
        assert_eq!(refusal(&mut second).await.code, RefusalCode::DuplicateId);
        assert!(first.is_usable().await);
        assert_eq!(world.node.modules().len(), 1);
    });
}

#[test]
fn an_id_that_is_a_path_or_empty_is_refused_and_so_is_someone_elses() {
    let world = World::new();
    world.run(async {
        let cases = [
            ("../../etc/passwd", RefusalCode::BadModuleId),
            ("", RefusalCode::BadModuleId),
            ("other", RefusalCode::NotAllowed),
        ];
        for (id, code) in cases {
            let (mut peer, _) = world.inherited("a", CapabilitySet::ALL);
            peer.hello(id).await;
            let refusal = refusal(&mut peer).await;
            assert_eq!(refusal.code, code, "{}", refusal.message);
            assert!(!refusal.hint.is_empty());
        }
        assert!(world.node.modules().is_empty());
    });
}

#[test]
fn a_silent_connection_times_out_and_costs_others_nothing() {
    let world = World::new();
    world.run(async {
        let (mut silent, connection) = world.attached(USER);
        // Half a length prefix, and then nothing.
        let (mut half, _) = world.attached(USER);
        half.write_raw(&[40, 0]).await;
        let mut peer = world.module("a").await;
        assert!(peer.is_usable().await);
        assert_eq!((world.runtime.now(), world.node.handshakes()), (0, 2), "nobody waited for them");

        assert_eq!(connection.wait_closed().await, CloseReason::HandshakeTimeout);
        assert!(world.runtime.now() >= Config::DEFAULT.hello_us);
        assert_eq!(world.node.handshakes(), 0);
        // It is told why, although it said nothing.
        silent.hello("late").await;
        assert!(matches!(silent.event().await, Event::Refused(r) if r.code == RefusalCode::Timeout));
        assert!(peer.is_usable().await);
    });
}

#[test]
fn silent_connections_make_room_for_new_ones() {
    let world = World::with(NodeConfig { handshakes_max: 3, ..NodeConfig::default() });
    world.run(async {
        let silent: Vec<_> = (0..10).map(|_| world.attached(USER)).collect();
        let mut peer = world.module("a").await;
        assert!(peer.is_usable().await);
        assert_eq!(world.runtime.now(), 0, "it did not wait for a timeout");
        let dropped = silent.iter().filter(|(_, connection)| connection.closed().is_some()).count();
        assert_eq!(dropped, 8);
    });
}

/// Accepts from a network of names, and fails as often as it is told.
struct Door {
    listener: Listener,
    failures: Arc<Mutex<VecDeque<io::ErrorKind>>>,
}

#[async_trait]
impl Acceptor for Door {
    type Transport = MemTransport;

    async fn accept(&mut self) -> Result<(MemTransport, Credentials), AcceptFault> {
        if let Some(kind) = self.failures.lock().unwrap().pop_front() {
            let is_final = kind == io::ErrorKind::NotConnected;
            return Err(AcceptFault { source: io::Error::from(kind).into(), is_final });
        }
        let accepted = self.listener.accept().await;
        Ok((accepted.transport, Credentials { uid: USER, gid: USER, pid: None }))
    }
}

#[test]
fn neither_a_bad_handshake_nor_a_failed_accept_ends_the_server() {
    let world = World::new();
    let network = Network::new(world.runtime.clone(), NetworkConfig::default());
    let listener = network.listen("node").unwrap();
    let failures = Arc::new(Mutex::new(VecDeque::from([io::ErrorKind::ConnectionAborted; 3])));
    let door = Door { listener, failures: Arc::clone(&failures) };
    let node = world.node.clone();
    world.runtime.spawn_named("accept loop", async move { node.serve(door).await.unwrap() });
    let connect = || Peer::new(world.runtime.clone(), network.connect("node").unwrap(), Config::DEFAULT);
    world.run(async {
        let garbage: [&[u8]; 6] = [
            b"GET / HTTP/1.1\r\n\r\n",
            &[0; 64],
            &[255; 64],
            // A Request before the Hello.
            &[12, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
            // A Hello whose strings claim more than there is.
            &[12, 0, 0, 0, 6, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255],
            &[],
        ];
        for bytes in garbage {
            let mut bad = connect();
            bad.write_raw(bytes).await;
            drop(bad);
        }
        let mut peer = connect();
        peer.hello("seed").await;
        assert!(matches!(peer.event().await, Event::Accepted(_)));
        assert!(peer.is_usable().await);
        assert!(failures.lock().unwrap().is_empty());

        world.node.shutdown(1, "test", SECOND).await;
        assert!(!peer.connection.is_active() || matches!(peer.event().await, Event::Draining { .. }));
    });
    let waiting = world.sim.run_until_idle().unwrap();
    assert!(waiting.is_empty(), "the accept loop goes on after the shutdown: {waiting:?}");
}

#[test]
fn a_listener_that_is_broken_for_good_ends_the_loop_and_nothing_else() {
    let world = World::new();
    let network = Network::new(world.runtime.clone(), NetworkConfig::default());
    let listener = network.listen("node").unwrap();
    let failures = [io::ErrorKind::ConnectionAborted, io::ErrorKind::NotConnected];
    let door = Door { listener, failures: Arc::new(Mutex::new(failures.into())) };
    world.run(async {
        let mut peer = world.module("a").await;
        let fault = world.node.serve(door).await.unwrap_err();
        assert!(fault.is_final);
        assert!(peer.is_usable().await);
    });
}

#[test]
fn one_connection_in_a_handshake_does_not_make_another_wait() {
    let world = World::new();
    world.run(async {
        let (mut slow, _) = world.inherited("slow", CapabilitySet::ALL);
        let (theirs, ours) = world.runtime.link(&LinkConfig::default());
        let requires = CapabilitySet::EMPTY;
        let identity = modipc_node::PeerIdentity::Inherited {
            module_id: "fast".into(),
            grants: CapabilitySet::ALL,
            requires,
        };
        world.node.attach(ours, identity).unwrap();
        let mut fast = Peer::new(world.runtime.clone(), theirs, Config::DEFAULT);
        fast.hello("fast").await;
        assert!(matches!(fast.event().await, Event::Accepted(_)));
        slow.hello("slow").await;
        assert!(matches!(slow.event().await, Event::Accepted(_)));
        assert_eq!(world.runtime.now(), 0);
    });
}
