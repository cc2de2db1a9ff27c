//! What the driver needs of an executor.

use core::future::Future;
use core::pin::Pin;

/// A future that an executor may move between threads.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// An executor with a clock.
///
/// The time is in microseconds since an epoch that the runtime chose; it never goes backwards. Everything in this
/// project that waits or takes the time does so through this trait, which is why the same node and the same modules run
/// on tokio, on smol and under a virtual clock.
pub trait Runtime: Send + Sync + 'static {
    /// The time now, in microseconds.
    fn now(&self) -> u64;

    /// A future that is ready at `at_us` or later. It may also be ready *early*: whoever waits compares the clock
    /// itself. Dropping it cancels the wait.
    fn sleep_until(&self, at_us: u64) -> BoxFuture<()>;

    /// Runs a task to its end, independently of the caller.
    fn spawn(&self, task: BoxFuture<()>);

    /// A random number: from the system in production, from the run's seed in simulation.
    fn seed(&self) -> u64;
}
