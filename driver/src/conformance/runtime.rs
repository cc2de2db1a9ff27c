//! What [`Runtime`] promises. Each check is named after its promise.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::{CountingWaker, Stage, Task};
use crate::{BoxFuture, Runtime};

/// Waits until the clock says so: a sleep may be over early.
async fn until(runtime: &impl Runtime, at_us: u64) {
    while runtime.now() < at_us {
        runtime.sleep_until(at_us).await;
    }
}

/// The clock never goes back, neither within a task nor from one to another.
pub fn clock_never_goes_back<S: Stage>(stage: &S) {
    let runtime = stage.runtime();
    stage.run(Box::pin(async move {
        let mut last = runtime.now();
        for _ in 0..1_000 {
            let now = runtime.now();
            assert!(now >= last, "{now} after {last}");
            let clock = Arc::clone(&runtime);
            let elsewhere = Task::spawn(&*runtime, async move { clock.now() }).join().await;
            assert!(elsewhere >= now, "{elsewhere} after {now}, in another task");
            last = elsewhere;
        }
    }));
}

/// A sleep that is slept until the clock says so ends, and the clock then says so.
pub fn sleep_is_over_at_its_time<S: Stage>(stage: &S) {
    let runtime = stage.runtime();
    stage.run(Box::pin(async move {
        for us in [1, 999, 1_000, 1_001, 5_000] {
            let at_us = runtime.now() + us;
            until(&*runtime, at_us).await;
            assert!(runtime.now() >= at_us);
        }
    }));
}

/// A sleep until now, or until a time that is over, does not wait.
pub fn past_sleep_is_ready<S: Stage>(stage: &S) {
    let runtime = stage.runtime();
    stage.run(Box::pin(async move {
        until(&*runtime, runtime.now() + 2_000).await;
        for at_us in [0, runtime.now() - 1_000, runtime.now()] {
            runtime.sleep_until(at_us).await;
        }
    }));
}

/// When the later of two sleeps is over, so is the earlier.
pub fn earlier_sleep_is_ready_first<S: Stage>(stage: &S) {
    let runtime = stage.runtime();
    stage.run(Box::pin(async move {
        let start_us = runtime.now();
        let mut late = pin!(until(&*runtime, start_us + 10_000));
        let mut early = pin!(until(&*runtime, start_us + 3_000));
        let mut early_over = false;
        poll_fn(|cx| {
            early_over = early_over || early.as_mut().poll(cx).is_ready();
            let polled = late.as_mut().poll(cx);
            if polled.is_ready() && !early_over {
                // It may have become ready between the two polls above, but not later than the other.
                assert!(early.as_mut().poll(cx).is_ready(), "the later sleep was over first");
            }
            polled
        })
        .await;
    }));
}

/// Whoever drops a sleep is not woken by it.
pub fn dropped_sleep_wakes_nobody<S: Stage>(stage: &S) {
    let runtime = stage.runtime();
    stage.run(Box::pin(async move {
        // On a machine that stands still between `now` and the poll, the sleep is over before it is dropped. Then it is
        // tried again, further ahead.
        for ahead_us in (0..8).map(|doublings| 20_000_u64 << doublings) {
            let at_us = runtime.now() + ahead_us;
            let (wakes, waker) = CountingWaker::new();
            let mut sleep = runtime.sleep_until(at_us);
            let polled = sleep.as_mut().poll(&mut Context::from_waker(&waker));
            drop(sleep);
            if polled.is_ready() || wakes.count() > 0 || runtime.now() >= at_us {
                continue;
            }
            until(&*runtime, at_us + 5_000).await;
            assert_eq!(wakes.count(), 0, "wakes of a sleep that was dropped");
            return;
        }
        panic!("no sleep could be dropped before it was over");
    }));
}

/// Of two wakers of a sleep, the second is woken.
pub fn sleep_heeds_the_last_waker<S: Stage>(stage: &S) {
    let runtime = stage.runtime();
    stage.run(Box::pin(async move {
        let (_, stale) = CountingWaker::new();
        let mut sleep = runtime.sleep_until(runtime.now() + 10_000);
        let polled = sleep.as_mut().poll(&mut Context::from_waker(&stale));
        if polled.is_pending() {
            poll_fn(|cx| sleep.as_mut().poll(cx)).await;
        }
    }));
}

/// A spawned task goes on when the one that spawned it has ended.
pub fn spawned_task_outlives_its_spawner<S: Stage>(stage: &S) {
    let runtime = stage.runtime();
    stage.run(Box::pin(async move {
        let inner = Arc::clone(&runtime);
        let spawner = Task::spawn(&*runtime, async move {
            let clock = Arc::clone(&inner);
            Task::spawn(&*inner, async move {
                until(&*clock, clock.now() + 2_000).await;
                "done"
            })
        });
        let spawned = spawner.join().await;
        assert_eq!(spawned.join().await, "done");
    }));
}

/// Tasks spawn tasks, each before it ends.
pub fn spawned_tasks_spawn<S: Stage>(stage: &S) {
    fn countdown<R: Runtime>(runtime: Arc<R>, left: u32) -> BoxFuture<u32> {
        Box::pin(async move {
            match left {
                0 => 0,
                _ => 1 + Task::spawn(&*runtime, countdown(Arc::clone(&runtime), left - 1)).join().await,
            }
        })
    }
    let runtime = stage.runtime();
    stage.run(Box::pin(async move {
        assert_eq!(countdown(Arc::clone(&runtime), 100).await, 100);
    }));
}

/// A task that waits is woken by another, whichever comes first, and many do so at once.
pub fn wake_from_another_task<S: Stage>(stage: &S) {
    let runtime = stage.runtime();
    stage.run(Box::pin(async move {
        let tasks: Vec<_> = (0..200_u32)
            .map(|number| {
                let mut rounds = number % 7;
                let yielding = poll_fn(move |cx| {
                    if rounds == 0 {
                        return Poll::Ready(number);
                    }
                    rounds -= 1;
                    cx.waker().wake_by_ref();
                    Poll::Pending
                });
                Task::spawn(&*runtime, yielding)
            })
            .collect();
        let mut numbers = Vec::new();
        for task in tasks.into_iter().rev() {
            numbers.push(task.join().await);
        }
        assert_eq!(numbers, (0..200).rev().collect::<Vec<_>>());
    }));
}

/// Random numbers are not all the same.
pub fn seeds_differ<S: Stage>(stage: &S) {
    let runtime = stage.runtime();
    stage.run(Box::pin(async move {
        let seeds: BTreeSet<u64> = (0..16).map(|_| runtime.seed()).collect();
        assert_eq!(seeds.len(), 16, "16 numbers of 64 bits, and two are the same: {seeds:?}");
    }));
}
