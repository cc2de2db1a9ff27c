//! Where the recorded steps of a connection go.

use modipc_core::{Connection, Dialect, Role, Step};

/// Takes the steps of one connection in order, for example into a file. Called without the connection's lock, by whichever
/// thread made the step, never by two at the same time.
pub trait StepSink: Send + 'static {
    /// The next step.
    fn step(&mut self, step: &Step);
}

/// The sink, unless somebody has it.
pub(crate) struct Trace {
    pub(crate) sink: Option<Box<dyn StepSink>>,
}

impl Trace {
    /// Takes the sink, and the steps that it is to get, if there are any.
    pub(crate) fn take<R: Role, D: Dialect>(
        &mut self,
        connection: &mut Connection<R, D>,
    ) -> Option<(Box<dyn StepSink>, Vec<Step>)> {
        let mut sink = self.sink.take();
        let first = sink.as_ref().and_then(|_| connection.poll_step());
        let Some(first) = first else {
            self.sink = sink;
            return None;
        };
        let steps = core::iter::once(first).chain(core::iter::from_fn(|| connection.poll_step())).collect();
        sink.take().map(|sink| (sink, steps))
    }
}
