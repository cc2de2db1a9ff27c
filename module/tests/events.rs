//! Events, as a module's author sees them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "what a test did not expect ends it")]

mod support;

use bytes::Bytes;
use futures_lite::future::zip;
use futures_util::FutureExt;
use modipc_api::{
    AnyEvent, Capability, EventGroup, EventType, ModuleError, RawEvent, Request, Response, ResponseData,
};
use modipc_core::{
    Config, Event, EventLog, Head, Initiator, Kind, Overflow, SubscribeOptions, Subscription, TopicSet,
};
use modipc_driver::Runtime;
use modipc_module::{Client, Connect, Delivery, Error, EventStream, Topics};
use support::*;

const NEW_BLOCK: u8 = EventType::NewBlock.topic();

async fn subscribed(client: &Client, host: &mut Host, topics: impl Into<Topics>) -> EventStream {
    subscribed_from(client, host, topics, None).await
}

async fn subscribed_from(
    client: &Client,
    host: &mut Host,
    topics: impl Into<Topics>,
    resume: Option<u64>,
) -> EventStream {
    let options = SubscribeOptions { resume, ..SubscribeOptions::default() };
    let (stream, _) = zip(client.subscribe(topics, options), host.subscribe()).await;
    stream.unwrap()
}

fn block_at(position: u64, height: u64) -> Option<Delivery> {
    Some(Delivery::Event { position, event: new_block(height) })
}

fn head(position: u64, prev: u64) -> Head<'static> {
    Head { prev: Some(prev), ..Head::new(Kind::Event, position) }
}

fn body(event: impl Into<AnyEvent>) -> Vec<u8> {
    let mut body = Vec::new();
    event.into().encode(&mut body);
    body
}

/// Waits until the module's side has taken in everything that was sent.
async fn settle(runtime: &impl Runtime) {
    runtime.sleep_until(runtime.now() + SECOND).await;
}

#[test]
fn events_come_in_order_with_their_positions_and_a_cursor() {
    play(async |Stage { client, mut host, .. }| {
        host.publish(new_block(1));
        let mut events = subscribed(&client, &mut host, EventGroup::Chain).await;
        assert_eq!(events.cursor(), 2, "what was before the subscription is not wanted");
        for height in 2..5 {
            host.publish(new_block(height));
        }
        host.publish(modipc_api::Event::PeerUnbanned { address: "203.0.113.7".into() });
        host.publish(new_header(9));
        host.flush().await;
        for position in 2..5 {
            assert_eq!(events.next().await, block_at(position, position));
            assert_eq!(events.cursor(), position + 1);
        }
        let header = Delivery::Event { position: 6, event: new_header(9) };
        assert_eq!(events.next().await, Some(header));
        assert_eq!(events.next().now_or_never(), None);
    });
}

#[test]
fn a_stream_resumes_where_its_cursor_says() {
    play(async |Stage { client, mut host, .. }| {
        for height in 1..=6 {
            host.publish(new_block(height));
        }
        let mut events = subscribed_from(&client, &mut host, EventType::NewBlock, Some(4)).await;
        assert_eq!(events.cursor(), 4);
        for position in 4..=6 {
            assert_eq!(events.next().await, block_at(position, position));
        }
        assert_eq!(events.cursor(), 7);
    });
}

#[test]
fn an_event_may_arrive_before_a_response() {
    play(async |Stage { client, mut host, .. }| {
        let mut events = subscribed(&client, &mut host, EventType::NewBlock).await;
        let reply = client.get_chain_tip();
        let (id, _) = host.request().await;
        host.publish(new_block(1));
        host.flush().await;
        // The call is not polled, and nothing keeps the event from its reader.
        assert_eq!(events.next().await, block_at(1, 1));
        host.publish(new_block(2));
        host.reply(id, tip(2)).await;
        assert_eq!(reply.await.unwrap().height, 2);
        assert_eq!(events.next().await, block_at(2, 2));
    });
}

#[test]
fn after_an_unsubscribe_is_answered_nothing_of_it_comes_not_even_what_had_arrived() {
    play(async |Stage { runtime, client, mut host }| {
        let topics = [EventType::NewBlock, EventType::NewHeader];
        let mut events = subscribed(&client, &mut host, topics).await;
        host.publish(new_block(1));
        host.publish(new_header(1));
        host.flush().await;
        settle(&runtime).await;
        let script = async {
            host.publish(new_block(2));
            host.subscribe().await
        };
        let (done, asked) = zip(events.unsubscribe(EventType::NewBlock), script).await;
        done.unwrap();
        assert_eq!(asked, Subscription::Remove { topics: [NEW_BLOCK].into_iter().collect() });
        host.publish(new_block(3));
        host.publish(new_header(2));
        host.flush().await;
        assert_eq!(events.next().await, Some(Delivery::Event { position: 2, event: new_header(1) }));
        assert_eq!(events.next().await, Some(Delivery::Event { position: 5, event: new_header(2) }));
        // To remove nothing is not to remove all, which is what an empty list says on the wire.
        events.unsubscribe(Topics::NONE).await.unwrap();
        host.publish(new_header(3));
        host.flush().await;
        assert_eq!(events.next().await, Some(Delivery::Event { position: 6, event: new_header(3) }));
    });
}

#[test]
fn a_change_of_topics_neither_loses_nor_doubles_what_stays() {
    play(async |Stage { runtime, client, mut host }| {
        let mut events = subscribed(&client, &mut host, EventType::NewBlock).await;
        host.publish(new_block(1));
        host.publish(new_header(1));
        host.flush().await;
        settle(&runtime).await;
        host.publish(new_block(2));
        let (changed, _) =
            zip(events.change([EventType::NewBlock, EventType::NewHeader]), host.subscribe()).await;
        changed.unwrap();
        host.publish(new_header(2));
        host.publish(new_block(3));
        host.flush().await;
        assert_eq!(events.next().await, block_at(1, 1));
        assert_eq!(events.next().await, block_at(3, 2));
        assert_eq!(events.next().await, Some(Delivery::Event { position: 4, event: new_header(2) }));
        assert_eq!(events.next().await, block_at(5, 3));
        assert_eq!(events.cursor(), 6);
    });
}

#[test]
fn an_unknown_event_is_delivered_raw_and_an_undecodable_one_hurts_only_itself() {
    play(async |Stage { client, mut host, .. }| {
        let mut events = subscribed(&client, &mut host, EventType::NewBlock).await;
        let raw = RawEvent { topic: 250, payload: Bytes::from_static(&[250, 0, 0, 0, 1, 2]) };
        host.lie(&head(1, 0), &body(AnyEvent::Raw(raw.clone()))).await;
        host.lie(&head(2, 0), &[NEW_BLOCK, 0, 0, 0, NEW_BLOCK, 0, 0, 0, 9]).await;
        host.lie(&head(3, 0), &[1]).await;
        host.lie(&head(4, 2), &body(new_block(4))).await;
        assert_eq!(events.next().await, Some(Delivery::Unknown { position: 1, event: raw }));
        for position in [2, 3] {
            let Some(Delivery::Undecodable { position: at, .. }) = events.next().await else {
                panic!("not reported")
            };
            assert_eq!(at, position);
        }
        assert_eq!(events.next().await, block_at(4, 4));
    });
}

#[test]
fn a_lag_of_the_host_surfaces_with_exact_positions() {
    play(async |Stage { client, mut host, .. }| {
        host.log = EventLog::new(2, 1 << 20);
        let mut events = subscribed(&client, &mut host, EventType::NewBlock).await;
        // Five events in a log for two: one is of another topic.
        for event in [new_block(1), new_block(2), new_block(3), new_header(4), new_block(5)] {
            host.publish(event);
        }
        host.flush().await;
        assert_eq!(events.next().await, Some(Delivery::Lagged { first: 1, last: 3 }));
        assert_eq!(events.cursor(), 4);
        assert_eq!(events.next().await, block_at(5, 5));
    });
}

#[test]
fn a_stream_that_is_not_read_is_bounded_and_lags_with_exact_positions() {
    let config = Config { inbox_max: 4, ..Connect::CONFIG };
    let hello = Connect::new("watcher", "1.0").config(config);
    play_with(hello, Config::DEFAULT, async |Stage { runtime, client, mut host }| {
        let mut events = subscribed(&client, &mut host, EventType::NewBlock).await;
        for height in 1..=20 {
            host.publish(new_block(height));
            host.flush().await;
            settle(&runtime).await;
        }
        // Meanwhile calls pass.
        let (reply, ()) = zip(client.get_chain_tip(), host.give_tip(20)).await;
        assert_eq!(reply.unwrap().height, 20);
        for position in 1..=4 {
            assert_eq!(events.next().await, block_at(position, position));
        }
        assert_eq!(events.next().await, Some(Delivery::Lagged { first: 5, last: 20 }));
        assert_eq!(events.cursor(), 21);
        host.publish(new_block(21));
        host.flush().await;
        assert_eq!(events.next().await, block_at(21, 21));
    });
}

#[test]
fn a_gap_that_nobody_announced_is_reported() {
    play(async |Stage { client, mut host, .. }| {
        let mut events = subscribed(&client, &mut host, EventType::NewBlock).await;
        host.lie(&head(1, 0), &body(new_block(1))).await;
        // 5 came before, it says, and was never sent.
        host.lie(&head(7, 5), &body(new_block(7))).await;
        host.lie(&head(8, 7), &body(new_block(8))).await;
        assert_eq!(events.next().await, block_at(1, 1));
        assert_eq!(events.next().await, Some(Delivery::Lagged { first: 2, last: 5 }));
        assert_eq!(events.next().await, block_at(7, 7));
        assert_eq!(events.next().await, block_at(8, 8));
    });
}

#[test]
fn a_connection_has_one_stream_at_a_time_and_the_next_gets_nothing_of_the_last() {
    play(async |Stage { client, mut host, .. }| {
        let mut events = subscribed(&client, &mut host, EventType::NewBlock).await;
        let second = client.subscribe(EventType::NewHeader, SubscribeOptions::default()).await;
        let Err(Error::Module(ModuleError::ResourceExhausted { limit: Some(1), .. })) = second else {
            panic!("{second:?}");
        };
        host.publish(new_block(1));
        host.flush().await;
        assert_eq!(events.next().await, block_at(1, 1));
        drop(events);
        host.publish(new_block(2));
        let script = async {
            // First the end of the dropped stream, then the next one.
            let removed = host.subscribe().await;
            host.publish(new_block(3));
            (removed, host.subscribe().await)
        };
        let topics = [EventType::NewBlock, EventType::NewHeader];
        let (next, (removed, added)) =
            zip(client.subscribe(topics, SubscribeOptions::default()), script).await;
        assert_eq!(removed, Subscription::Remove { topics: TopicSet::ALL });
        assert!(matches!(added, Subscription::Replace { .. }), "{added:?}");
        let mut events = next.unwrap();
        host.publish(new_block(4));
        host.flush().await;
        assert_eq!(events.next().await, block_at(4, 4));
    });
}

#[test]
fn closing_a_stream_waits_for_the_answer() {
    play(async |Stage { client, mut host, .. }| {
        let events = subscribed(&client, &mut host, EventType::NewBlock).await;
        let (closed, removed) = zip(events.close(), host.subscribe()).await;
        closed.unwrap();
        assert_eq!(removed, Subscription::Remove { topics: TopicSet::ALL });
        let (reply, ()) = zip(client.get_chain_tip(), host.give_tip(1)).await;
        assert_eq!(reply.unwrap().height, 1, "no second unsubscribe");
    });
}

#[test]
fn a_subscription_that_is_denied_leaves_no_stream_behind() {
    each_link(async |runtime, ours, theirs| {
        let mut host = Host::new(&runtime, theirs, Config::DEFAULT);
        let hello = Connect::new("watcher", "1.0");
        let connecting = Client::connect(std::sync::Arc::new(runtime), ours, hello);
        let (client, ()) = zip(connecting, host.admit(all_but(Capability::ReadMempool))).await;
        let client = client.unwrap();
        let options = SubscribeOptions::default();
        let script = async {
            assert!(matches!(host.event().await, Event::CallDenied(..)));
            host.subscribe().await
        };
        let module = async {
            let denied = client.subscribe(EventGroup::Mempool, options).await;
            (denied, client.subscribe(EventGroup::Chain, options).await)
        };
        let ((denied, allowed), _) = zip(module, script).await;
        assert!(denied.unwrap_err().module_error().unwrap().lacks(Capability::ReadMempool));
        assert!(allowed.is_ok());
    });
}

#[test]
fn a_change_that_is_refused_leaves_the_topics_as_they_were() {
    play(async |Stage { client, mut host, .. }| {
        let mut events = subscribed(&client, &mut host, EventType::NewBlock).await;
        host.set_grants(all_but(Capability::ReadMempool)).await;
        let script = async {
            assert!(matches!(host.event().await, Event::CallDenied(..)));
            host.publish(new_block(1));
            host.flush().await;
        };
        let (changed, ()) = zip(events.change(EventGroup::Mempool), script).await;
        assert!(changed.is_err());
        assert_eq!(events.next().await, block_at(1, 1));
    });
}

#[test]
fn what_arrived_before_a_goodbye_is_read_and_then_the_stream_ends() {
    play(async |Stage { client, mut host, .. }| {
        let mut events = subscribed(&client, &mut host, EventType::NewBlock).await;
        host.publish(new_block(1));
        host.flush().await;
        host.goodbye(2).await;
        let draining = client.draining().await.unwrap();
        assert_eq!((draining.by, draining.reason), (Initiator::Peer, 2));
        assert_eq!(draining.resume, 2, "where to resume");
        assert_eq!(events.next().await, block_at(1, 1));
        assert_eq!(events.next().await, None);
    });
}

#[test]
fn the_overflow_policy_and_the_cursor_travel() {
    play(async |Stage { client, mut host, .. }| {
        for height in 1..=3 {
            host.publish(new_block(height));
        }
        let options = SubscribeOptions { resume: Some(2), overflow: Overflow::Wait };
        let (stream, asked) = zip(client.subscribe(EventType::NewBlock, options), host.subscribe()).await;
        assert_eq!(asked, Subscription::Replace { topics: [NEW_BLOCK].into_iter().collect(), options });
        assert_eq!(stream.unwrap().next().await, block_at(2, 2));
    });
}

#[test]
fn in_the_plain_profile_events_come_without_positions() {
    let plain = Config { x1: false, ..Connect::CONFIG };
    let hello = Connect::new("watcher", "1.0").config(plain);
    play_with(hello, Config::DEFAULT, async |Stage { client, mut host, .. }| {
        let mut events = subscribed(&client, &mut host, EventType::NewBlock).await;
        for height in 1..=3 {
            host.publish(new_block(height));
        }
        host.flush().await;
        for height in 1..=3 {
            assert_eq!(events.next().await, block_at(0, height));
        }
        assert_eq!(events.cursor(), 0);
    });
}

#[test]
fn an_answer_that_names_other_topics_is_believed() {
    play(async |Stage { client, mut host, .. }| {
        let topics = [EventType::NewBlock, EventType::NewHeader];
        let script = async {
            let Event::Subscribe(call, _) = host.event().await else { panic!("no subscription") };
            let event_types = vec![EventType::NewBlock];
            assert!(matches!(Request::decode(&call.body), Ok(Request::SubscribeEvents { .. })));
            host.reply(call.id, Response::from(ResponseData::Subscribed { event_types, position: 0 })).await;
        };
        let (stream, ()) = zip(client.subscribe(topics, SubscribeOptions::default()), script).await;
        let mut events = stream.unwrap();
        host.lie(&head(1, 0), &body(new_header(1))).await;
        host.lie(&head(2, 0), &body(new_block(2))).await;
        assert_eq!(events.next().await, block_at(2, 2));
    });
}

#[test]
fn a_second_stream_resumes_behind_what_has_arrived_and_not_before() {
    play(async |Stage { runtime, client, mut host }| {
        let events = subscribed(&client, &mut host, EventType::NewBlock).await;
        for height in 1..=3 {
            host.publish(new_block(height));
        }
        host.flush().await;
        settle(&runtime).await;
        let cursor = events.cursor();
        let (closed, _) = zip(events.close(), host.subscribe()).await;
        closed.unwrap();
        // Positions rise on a connection: to go back would end it.
        let options = SubscribeOptions { resume: Some(cursor), ..SubscribeOptions::default() };
        let refused = client.subscribe(EventType::NewBlock, options).await.unwrap_err();
        assert!(refused.to_string().contains("events up to 3 have arrived"), "{refused}");
        host.publish(new_block(4));
        let mut events = subscribed_from(&client, &mut host, EventType::NewBlock, Some(4)).await;
        assert_eq!(events.next().await, block_at(4, 4));
    });
}

#[test]
fn a_subscription_that_is_given_up_is_undone() {
    play(async |Stage { runtime, client, mut host }| {
        let mut subscribing = Box::pin(client.subscribe(EventType::NewBlock, SubscribeOptions::default()));
        assert!((&mut subscribing).now_or_never().is_none());
        let Event::Subscribe(call, subscription) = host.event().await else { panic!("no subscription") };
        drop(subscribing);
        // The host grants it all the same; it could not know.
        host.grant(&call, subscription);
        let mut next = host.event().await;
        if let Event::CallCancelled(id) = next {
            assert_eq!(id, call.id);
            next = host.event().await;
        }
        let Event::Subscribe(call, removal) = next else { panic!("{next:?}") };
        assert_eq!(removal, Subscription::Remove { topics: TopicSet::ALL });
        host.grant(&call, removal);
        host.flush().await;
        settle(&runtime).await;
        let mut events = subscribed(&client, &mut host, EventType::NewBlock).await;
        host.publish(new_block(1));
        host.flush().await;
        assert_eq!(events.next().await, block_at(1, 1));
    });
}
