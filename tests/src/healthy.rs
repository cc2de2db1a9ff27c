//! A module that does nothing wrong, and calls and calls.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use event_listener::{Event, Listener as _};
use modipc_core::CloseReason;
use modipc_module::Client;
use std::time::Duration;

use crate::PATIENCE_S;
use crate::house::hello;
use crate::node::HEIGHT;
use crate::world::{Tokio, World as _, knock_at};

/// The module, on a thread of its own with the real client.
pub struct Healthy {
    shared: Arc<Shared>,
    thread: JoinHandle<CloseReason>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    calls: AtomicU64,
    called: Event,
}

impl Healthy {
    /// Connects as `alice` and begins to call.
    #[must_use]
    pub fn start(path: &Path) -> Healthy {
        let shared = Arc::<Shared>::default();
        let (path, calling) = (path.to_owned(), Arc::clone(&shared));
        let body = move || {
            let world = Tokio::one_thread();
            world.run(async {
                let transport = knock_at(world.tokio(), &path);
                let client = Client::connect(world.runtime(), transport, hello("alice")).await.unwrap();
                while !calling.stop.load(Ordering::SeqCst) {
                    assert_eq!(client.get_block_height().await, Ok(HEIGHT));
                    client.ping().await.unwrap();
                    calling.calls.fetch_add(1, Ordering::SeqCst);
                    calling.called.notify(usize::MAX);
                }
                client.close(0, "done").await
            })
        };
        let thread = std::thread::Builder::new().name("healthy".into()).spawn(body).unwrap();
        let healthy = Healthy { shared, thread };
        healthy.is_served();
        healthy
    }

    /// Blocks until calls that were made after this began are answered.
    pub fn is_served(&self) {
        // The first may have been answered before.
        let enough = self.shared.calls.load(Ordering::SeqCst) + 2;
        loop {
            let called = self.shared.called.listen();
            if self.shared.calls.load(Ordering::SeqCst) >= enough {
                return;
            }
            let told = called.wait_timeout(Duration::from_secs(PATIENCE_S));
            assert!(told.is_some() && !self.thread.is_finished(), "the healthy module is not served");
        }
    }

    /// Ends in order. Panics if anything that it did failed.
    pub fn end(self) {
        self.is_served();
        self.shared.stop.store(true, Ordering::SeqCst);
        let end = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        assert!(matches!(end, CloseReason::Drained { .. }), "{end}");
    }
}
