//! A thousand modules on one node over real sockets. Alone in its process, whose limit of open files it raises.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use modipc_api::{Event, EventType};
use modipc_core::{CloseReason, SubscribeOptions};
use modipc_module::{Client, Delivery, EventStream};
use modipc_tests::SECOND;
use modipc_tests::house::House;
use modipc_tests::node::HEIGHT;
use modipc_tests::world::{Tokio, World as _};
use modipc_transport_uds::raise_nofile_limit;

const MODULES: usize = 1000;

/// Both ends of each connection are in this process, and some files are open besides.
const FILES: u64 = 2 * MODULES as u64 + 200;

/// How many connect at a time.
const AT_A_TIME: usize = 100;

#[test]
fn a_thousand_modules_over_real_sockets() {
    raise_nofile_limit(FILES).unwrap_or_else(|error| panic!("{error}"));
    let house = House::new(Tokio::threads());
    house.run(async {
        let mut modules = Vec::new();
        while modules.len() < MODULES {
            let names = modules.len()..MODULES.min(modules.len() + AT_A_TIME);
            let connecting: Vec<_> = names.map(|n| spawned(&house, joined(&house, n))).collect();
            for one in connecting {
                modules.push(one.take().await);
            }
        }
        assert_eq!(house.node.modules().len(), MODULES);

        let event = Event::HeadersSynced { height: 1 };
        let position = house.node.publish(&event).await.unwrap();
        let expected = Some(Delivery::Event { position, event });
        for (_, events) in &mut modules {
            assert_eq!(events.next().await, expected);
        }

        let report = house.node.shutdown(1, "the test is over", 30 * SECOND).await;
        assert_eq!(report.drained.len(), MODULES, "lost {:?}, aborted {:?}", report.lost, report.aborted);
        for (client, mut events) in modules {
            assert_eq!(events.next().await, None);
            let end = client.wait_closed().await;
            assert!(matches!(end, CloseReason::Drained { reason: 1, .. }), "{}: {end}", client.module_id());
        }
    });
}

/// Handshake, a call, and a subscription.
fn joined(house: &House<Tokio>, n: usize) -> impl Future<Output = (Client, EventStream)> + Send + 'static {
    let (runtime, transport) = (house.world.runtime(), house.world.knock());
    async move {
        let hello = modipc_tests::house::hello(&format!("m-{n}"));
        let client = Client::connect(runtime, transport, hello).await.unwrap();
        assert_eq!(client.get_block_height().await, Ok(HEIGHT));
        let events = client.subscribe(EventType::HeadersSynced, SubscribeOptions::default()).await.unwrap();
        (client, events)
    }
}

/// Runs a task, and gives where its result will be.
fn spawned<T: Send + 'static>(
    house: &House<Tokio>,
    task: impl Future<Output = T> + Send + 'static,
) -> modipc_tests::mailbox::Mailbox<T> {
    let result = modipc_tests::mailbox::Mailbox::default();
    let out = result.clone();
    house.world.runtime().spawn(Box::pin(async move { out.put(task.await) }));
    result
}
