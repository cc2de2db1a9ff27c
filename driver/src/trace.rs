//! Where the recorded steps of a connection go.

use modipc_core::Step;

/// Takes the steps of one connection in order, for example into a file. Called without the connection's lock, by whichever
/// thread made the step, never by two at the same time.
pub trait StepSink: Send + 'static {
    /// The next step.
    fn step(&mut self, step: &Step);
}
