//! The event bus: one log, and the connections that read it.
//!
//! Whoever publishes does not touch any connection: the event goes into the log once, and only readers that had read everything
//! are woken. A reader that is busy comes by itself, and pays for an event when it reads it.
//!
//! Lock order: a connection's cell, then the bus. The bus wakes nobody while it is locked.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use modipc_api::{Event, EventType};
use modipc_core::{Append, Connection, Dialect, EventLog, HoldId, Host, Pull};
use modipc_driver::{BoxFuture, Runtime};

/// Why an event was not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// A subscriber with the policy *wait* has not read the event that would be overwritten.
    #[error(
        "the event log is full and a subscriber asked the publisher to wait: await `publish`, or try again"
    )]
    Full,
    /// The event is longer than any receiver has to take.
    #[error(
        "a {event_type} event of {bytes} bytes is too long for one frame [V-1]: leave data out and let modules ask"
    )]
    TooLong {
        /// Its type.
        event_type: EventType,
        /// Its length.
        bytes: usize,
    },
}

/// The log and who waits for it.
pub(crate) struct Bus {
    state: Mutex<State>,
    /// Rises whenever readers are woken. Read without the lock by readers that are registered, to see that they still are.
    round: AtomicU64,
    wait_us: u64,
    /// Holds that were ended because their reader took longer than the publisher waits.
    overdue: AtomicU64,
}

struct State {
    log: EventLog,
    /// Readers that have read everything, in this round.
    readers: Readers,
    /// An emptied list, kept for its allocation.
    spare: Readers,
    /// Publishers that wait for a reader.
    publishers: Vec<Waker>,
}

/// Wakers with places that do not move, so that a reader that leaves is forgotten at once.
#[derive(Default)]
struct Readers {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

enum Appended {
    At(u64),
    Full(HoldId),
    TooLong,
}

/// A connection's place in the bus.
#[derive(Default)]
pub(crate) struct Reader {
    registered: Option<Registered>,
    hold: Option<HoldId>,
    /// A publisher waits and this reader may have made room.
    made_room: bool,
}

struct Registered {
    round: u64,
    at: usize,
    waker: Waker,
}

impl Bus {
    pub(crate) fn new(events_max: usize, bytes_max: usize, wait_us: u64) -> Bus {
        let state = State {
            log: EventLog::new(events_max, bytes_max),
            readers: Readers::default(),
            spare: Readers::default(),
            publishers: Vec::new(),
        };
        Bus { state: Mutex::new(state), round: AtomicU64::new(0), wait_us, overdue: AtomicU64::new(0) }
    }

    /// Appends an event if no reader has to be waited for.
    pub(crate) fn try_publish(&self, event: &Event) -> Result<u64, PublishError> {
        let (topic, body) = encode(event);
        match self.append(topic, &body, None) {
            Appended::At(position) => Ok(position),
            Appended::Full(_) => Err(PublishError::Full),
            Appended::TooLong => Err(too_long(event, &body)),
        }
    }

    /// Appends an event, and waits for readers that asked for it.
    ///
    /// Cancel safety: dropped before it is ready, nothing was published.
    pub(crate) async fn publish(&self, runtime: &dyn Runtime, event: &Event) -> Result<u64, PublishError> {
        let (topic, body) = encode(event);
        // Most publications never wait, and so never ask for the time.
        let mut until = None;
        let mut sleep: Option<BoxFuture<()>> = None;
        poll_fn(|cx| {
            loop {
                let hold = match self.append(topic, &body, Some(cx.waker())) {
                    Appended::At(position) => return Poll::Ready(Ok(position)),
                    Appended::TooLong => return Poll::Ready(Err(too_long(event, &body))),
                    Appended::Full(hold) => hold,
                };
                let now = runtime.now();
                let until = *until.get_or_insert_with(|| now.saturating_add(self.wait_us));
                if now >= until {
                    // The reader lags from here on, like any other, and is told so.
                    self.lock().log.release(hold);
                    self.overdue.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                let timer = sleep.get_or_insert_with(|| runtime.sleep_until(until));
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                // It may have been early: then sleep again.
                sleep = None;
            }
        })
        .await
    }

    /// The position that the next event will have.
    pub(crate) fn next_position(&self) -> u64 {
        self.lock().log.next()
    }

    /// Holds that were ended because their reader took too long.
    pub(crate) fn overdue(&self) -> u64 {
        self.overdue.load(Ordering::Relaxed)
    }

    /// Copies what a connection has subscribed to from the log to its outbox, and registers it if that was all. Called under
    /// the connection's lock.
    pub(crate) fn pull<D: Dialect>(
        &self,
        cx: &mut Context<'_>,
        connection: &mut Connection<Host, D>,
        now: u64,
        reader: &mut Reader,
    ) {
        let nothing_to_do = connection.topics().is_empty()
            || reader.is_registered(self.round.load(Ordering::Acquire), cx.waker());
        if nothing_to_do {
            return;
        }
        let mut state = self.lock();
        let pull = connection.pull_events(now, &mut state.log);
        if pull == Pull::CaughtUp {
            // Under the lock: the next append either was seen by the pull, or will see this waker.
            let round = self.round.load(Ordering::Relaxed);
            reader.register(round, &mut state.readers, cx.waker());
        }
        reader.hold = connection.hold();
        if reader.hold.is_some() && !state.publishers.is_empty() {
            // The connection is locked, so nobody is woken here, but from `Reader::settle`.
            reader.made_room = true;
        }
        drop(state);
        if reader.made_room {
            cx.waker().wake_by_ref();
        }
    }

    /// Runs `f` with the log, for a connection that changes its subscription. Called under the connection's lock; call
    /// [`Bus::settle`] after it.
    pub(crate) fn with_log<D: Dialect, T>(
        &self,
        connection: &mut Connection<Host, D>,
        reader: &mut Reader,
        f: impl FnOnce(&mut Connection<Host, D>, &mut EventLog) -> T,
    ) -> T {
        let mut state = self.lock();
        let result = f(connection, &mut state.log);
        reader.hold = connection.hold();
        reader.made_room |= !state.publishers.is_empty();
        // It had read everything of another subscription.
        reader.forget(self.round.load(Ordering::Relaxed), &mut state.readers);
        result
    }

    /// Ends a hold. [`Bus::wake_publishers`] follows, when no connection is locked.
    pub(crate) fn release(&self, hold: HoldId) {
        self.lock().log.release(hold);
    }

    /// Lets publishers look again. Called without any connection's lock.
    pub(crate) fn wake_publishers(&self) {
        let publishers = std::mem::take(&mut self.lock().publishers);
        publishers.into_iter().for_each(Waker::wake);
    }

    /// Wakes publishers if this reader may have made room. Called without the connection's lock.
    pub(crate) fn settle(&self, reader: &mut Reader) {
        if std::mem::take(&mut reader.made_room) {
            self.wake_publishers();
        }
    }

    /// A reader's connection has ended: nobody waits for it any more.
    pub(crate) fn leave(&self, reader: &mut Reader) {
        let mut state = self.lock();
        reader.forget(self.round.load(Ordering::Relaxed), &mut state.readers);
        if let Some(hold) = reader.hold.take() {
            state.log.release(hold);
            reader.made_room = true;
        }
        drop(state);
        self.settle(reader);
    }

    fn append(&self, topic: u8, body: &Bytes, waiter: Option<&Waker>) -> Appended {
        let mut state = self.lock();
        let position = match state.log.append(topic, body.clone()) {
            Append::At(position) => position,
            Append::Full(hold) => {
                if let Some(waker) = waiter
                    && !state.publishers.iter().any(|known| known.will_wake(waker))
                {
                    state.publishers.push(waker.clone());
                }
                return Appended::Full(hold);
            }
            Append::TooLong => return Appended::TooLong,
        };
        if state.readers.wakers.is_empty() {
            return Appended::At(position);
        }
        let spare = std::mem::take(&mut state.spare);
        let mut readers = std::mem::replace(&mut state.readers, spare);
        self.round.fetch_add(1, Ordering::Release);
        drop(state);
        readers.free.clear();
        readers.wakers.drain(..).flatten().for_each(Waker::wake);
        self.lock().spare = readers;
        Appended::At(position)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics half-way through a change of the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    fn is_registered(&self, round: u64, waker: &Waker) -> bool {
        self.registered.as_ref().is_some_and(|known| known.round == round && known.waker.will_wake(waker))
    }

    fn register(&mut self, round: u64, readers: &mut Readers, waker: &Waker) {
        self.forget(round, readers);
        let at = readers.free.pop().unwrap_or_else(|| {
            readers.wakers.push(None);
            readers.wakers.len() - 1
        });
        if let Some(slot) = readers.wakers.get_mut(at) {
            *slot = Some(waker.clone());
            self.registered = Some(Registered { round, at, waker: waker.clone() });
        }
    }

    fn forget(&mut self, round: u64, readers: &mut Readers) {
        let Some(known) = self.registered.take().filter(|known| known.round == round) else { return };
        if let Some(slot) = readers.wakers.get_mut(known.at) {
            *slot = None;
            readers.free.push(known.at);
        }
    }
}

/// Room for the encoding of most events.
const BODY_BYTES: usize = 256;

fn encode(event: &Event) -> (u8, Bytes) {
    let mut body = Vec::with_capacity(BODY_BYTES);
    event.encode(&mut body);
    // The log keeps exactly as many bytes as it counts.
    (event.event_type().topic(), Bytes::copy_from_slice(&body))
}

fn too_long(event: &Event, body: &Bytes) -> PublishError {
    PublishError::TooLong { event_type: event.event_type(), bytes: body.len() }
}
