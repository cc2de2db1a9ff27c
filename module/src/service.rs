//! What the connection's task does with what arrives.

use std::sync::{Arc, Weak};
use std::task::Context;

use modipc_api::{CapabilitySet, ErrorCode};
use modipc_core::{Accepted, CloseReason, Event, Initiator, Profile};
use modipc_driver::Service;

use crate::client::{HostInfo, Inner, ModuleLink};
use crate::invocation::{InvocationHandler, give_up, serve};
use crate::session::{Draining, Session};

pub(crate) struct ModuleService {
    session: Arc<Session>,
    module_id: Arc<str>,
    handler: Arc<dyn InvocationHandler>,
    /// Weak: the connection says goodbye when its last handle is gone, and the task is no handle.
    inner: Weak<Inner>,
}

impl ModuleService {
    pub(crate) fn new(
        session: Arc<Session>,
        module_id: Arc<str>,
        handler: Arc<dyn InvocationHandler>,
    ) -> Self {
        ModuleService { session, module_id, handler, inner: Weak::new() }
    }

    fn accepted(&mut self, link: &ModuleLink, accepted: Accepted) {
        let inner = Arc::new(Inner {
            link: link.clone(),
            session: Arc::clone(&self.session),
            module_id: Arc::clone(&self.module_id),
            host: HostInfo {
                node_version: accepted.node_version,
                instance_id: accepted.instance_id,
                next_token: accepted.next_token,
                // The connection keeps what it was told to the bounds of sense.
                limits: accepted.limits.clamped(),
                profile: if accepted.x1 { Profile::X1 } else { Profile::Plain },
            },
        });
        self.inner = Arc::downgrade(&inner);
        self.session.accepted(inner, known(&accepted.granted));
    }
}

impl Service<modipc_core::Module, modipc_api::NativeDialect> for ModuleService {
    fn event(&mut self, link: &ModuleLink, event: Event) {
        let session = &self.session;
        match event {
            Event::Event { position, prev, body } => session.events.event(position, prev, body),
            Event::Lagged { first, last } | Event::InboxOverflow { first, last, .. } => {
                session.events.lagged(first, last);
            }
            Event::Accepted(accepted) => self.accepted(link, accepted),
            Event::Refused(refusal) => session.refused(refusal),
            Event::Call(call) => serve(link, session, &self.inner, &self.handler, call),
            Event::CallCancelled(id) => give_up(link, session, id, ErrorCode::Cancelled),
            Event::CallExpired(id) => give_up(link, session, id, ErrorCode::DeadlineExceeded),
            Event::GrantsChanged(names) => session.granted(known(&names)),
            Event::Pong { rtt_us, .. } => session.ponged(rtt_us),
            Event::Draining { by, reason, resume, detail } => {
                if by == Initiator::Peer {
                    // The host sends no event after its goodbye [G-1].
                    session.events.end();
                }
                session.draining(Draining { by, reason, resume, detail });
            }
            Event::Closed(reason) => session.closed(reason),
            // The connection itself has dealt with these, or they are the host's alone.
            Event::Progress { .. }
            | Event::CallDenied(..)
            | Event::CallBusy(_)
            | Event::Hello(_)
            | Event::Subscribe(..)
            | Event::Log { .. } => {}
        }
    }

    /// Something was read or written, so there may be room for calls that wait.
    fn poll(&mut self, _cx: &mut Context<'_>, _link: &ModuleLink) {
        self.session.room.freed();
        self.session.turned();
    }
}

impl Drop for ModuleService {
    /// The task is gone. If it was dropped before its end, nobody else would tell those who wait.
    fn drop(&mut self) {
        self.session.closed(CloseReason::Aborted);
    }
}

/// A name that this build does not know opens nothing that it could use.
fn known(names: &[String]) -> CapabilitySet {
    CapabilitySet::from_names(names.iter().map(String::as_str)).0
}
