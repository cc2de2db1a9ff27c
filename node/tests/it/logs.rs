//! What modules log.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex};

use modipc_node::{LOG_TARGET, NodeConfig};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};

use crate::support::World;

/// Notes what is logged: `LEVEL target name=value …`.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl tracing::field::Visit for Line {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl<S: tracing::Subscriber> Layer<S> for Notes {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut line = Line(format!("{} {}", event.metadata().level(), event.metadata().target()));
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
}

impl Notes {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// Runs a test with its own log. The simulation has one thread, and so has the subscriber.
fn noted(config: NodeConfig, test: impl AsyncFnOnce(&World, &Notes)) {
    let notes = Notes::default();
    let subscriber = tracing_subscriber::registry().with(notes.clone());
    tracing::subscriber::with_default(subscriber, || {
        let world = World::with(config);
        world.run(test(&world, &notes));
    });
}

#[test]
fn a_log_record_arrives_with_level_module_target_and_fields() {
    noted(NodeConfig::default(), async |world, notes| {
        let mut peer = world.module("watcher-1").await;
        notes.take();
        peer.log("watcher-1", "block\nseen", "watcher::blocks", &[("height", "702861"), ("b", "c\x1b")])
            .await;
        assert!(peer.is_usable().await);
        let expected = format!(
            "WARN {LOG_TARGET} message=block\\nseen module=\"watcher-1\" module_target=watcher::blocks \
             fields={{height: \"702861\", b: \"c\\u{{1b}}\"}}"
        );
        assert_eq!(notes.take(), [expected]);
        assert_eq!(world.node.modules()[0].counts.logs, 1);
    });
}

#[test]
fn someone_elses_id_in_a_log_is_a_protocol_error_of_the_module_that_sent_it() {
    noted(NodeConfig::default(), async |world, notes| {
        let mut victim = world.module("victim").await;
        let mut peer = world.module("liar").await;
        notes.take();
        peer.log("victim", "I did it", "t", &[]).await;
        assert!(peer.is_usable().await && victim.is_usable().await);
        let lines = notes.take();
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert!(line.starts_with("WARN modipc_node"), "{line}");
        assert!(line.contains("module=liar") && line.contains("\"victim\""), "{line}");
        assert!(!line.contains("I did it"), "{line}");
        let counts: Vec<_> =
            world.node.modules().iter().map(|m| (m.counts.logs, m.counts.logs_refused)).collect();
        assert_eq!(counts, [(0, 1), (0, 0)]);
    });
}

#[test]
fn a_module_that_logs_without_end_is_bounded_and_what_was_dropped_is_reported() {
    let config = NodeConfig { logs_per_s: 10, logs_burst: 5, ..NodeConfig::default() };
    noted(config, async |world, notes| {
        let mut peer = world.module("noisy").await;
        notes.take();
        for n in 0..100 {
            peer.log("noisy", &format!("{n}"), "t", &[]).await;
        }
        assert!(peer.is_usable().await);
        let lines = notes.take();
        assert_eq!(lines.iter().filter(|line| line.contains(LOG_TARGET)).count(), 5);
        assert_eq!(lines.len(), 6, "and one line says that it begins: {lines:?}");
        assert_eq!(world.node.modules()[0].counts.logs_dropped, 95);
        drop(peer);
        let mut other = world.module("other").await;
        while world.node.modules().len() > 1 {
            assert!(other.is_usable().await);
        }
        let lines = notes.take();
        assert!(lines.iter().any(|line| line.contains("dropped=95")), "{lines:?}");
    });
}

#[test]
fn a_denial_is_logged_once_with_what_to_do() {
    noted(NodeConfig::default(), async |world, notes| {
        let grants = modipc_api::CapabilitySet::EMPTY;
        let mut peer = world.module_with("a", grants).await;
        notes.take();
        for _ in 0..5 {
            peer.ask(&modipc_api::Request::GetBlockHeight).await;
        }
        let lines = notes.take();
        let warnings: Vec<_> = lines.iter().filter(|line| line.starts_with("WARN")).collect();
        assert_eq!((warnings.len(), lines.len()), (1, 5), "{lines:?}");
        assert!(warnings[0].contains("grant ReadChainState in the policy of module a"), "{warnings:?}");
    });
}
