//! Going down in order, within a time.

use std::sync::Arc;

use modipc_core::{CloseReason, Refusal};

use crate::admission::AdmissionError;
use crate::node::Node;

/// How the modules went when the node shut down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShutdownReport {
    /// They finished what ran and said goodbye, or had gone by themselves.
    pub drained: Vec<Arc<str>>,
    /// Their connections ended otherwise, for the stated reason.
    pub lost: Vec<(Arc<str>, CloseReason)>,
    /// Their time was over; their connections were dropped.
    pub aborted: Vec<Arc<str>>,
    /// Connections that had not introduced themselves.
    pub handshakes: usize,
}

impl Node {
    /// Goes down: admits nobody, says goodbye to all modules at once [G-1], and waits until they are gone or `deadline_us`
    /// microseconds are over. A connection that is left then is dropped without waiting for its module. Accept loops end.
    ///
    /// `reason` is one of the numbers of [G-2].
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the modules were told, and the node stays without admission; call it again to wait.
    pub async fn shutdown(&self, reason: u32, detail: &str, deadline_us: u64) -> ShutdownReport {
        let inner = &self.inner;
        let until = inner.runtime.now().saturating_add(deadline_us);
        let (introducing, modules) = {
            let mut registry = inner.registry();
            registry.admission.shut_down();
            let modules: Vec<_> = registry.modules.values().map(|member| member.link.clone()).collect();
            (std::mem::take(&mut registry.introducing), modules)
        };
        inner.stopping.notify();
        let handshakes = introducing.len();
        for link in introducing.into_values() {
            link.with(|connection, now| {
                if connection.refuse(now, Refusal::from(&AdmissionError::ShuttingDown)).is_err() {
                    connection.abort(now);
                }
            });
        }
        for link in modules {
            link.with(|connection, now| {
                if connection.goodbye(now, reason, detail).is_err() && connection.is_active() {
                    connection.abort(now);
                }
            });
        }
        let gone = || inner.registry().modules.is_empty().then_some(());
        inner.changed.wait_until(&*inner.runtime, until, gone).await;
        self.report(handshakes)
    }

    fn report(&self, handshakes: usize) -> ShutdownReport {
        let (left, ended) = {
            let mut registry = self.inner.registry();
            let left: Vec<_> =
                registry.modules.iter().map(|(id, member)| (Arc::clone(id), member.link.clone())).collect();
            (left, std::mem::take(&mut registry.ended))
        };
        let mut report = ShutdownReport { handshakes, ..ShutdownReport::default() };
        for (module, link) in left {
            tracing::warn!(%module, "module did not finish in time; its connection is dropped");
            link.with(|connection, now| connection.abort(now));
            report.aborted.push(module);
        }
        for (module, reason) in ended {
            match reason {
                CloseReason::Drained { .. } | CloseReason::PeerGone => report.drained.push(module),
                reason => report.lost.push((module, reason)),
            }
        }
        report.drained.sort();
        report
    }
}
