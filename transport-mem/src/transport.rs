//! The link as a [`Transport`]: its lock, its wakers and its timers.

use core::num::NonZeroUsize;
use core::pin::Pin;
use core::task::{Context, Poll};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use modipc_driver::{PollRead, PollWrite, Runtime, Transport};

use crate::chance::Rng;
use crate::faults::{CAPACITY_DEFAULT, LinkConfig, Side};
use crate::lane::{Read, Written};
use crate::link::{Half, Link, Wakes, slot};
use crate::sim::{SimRuntime, Sleep};
use crate::state::Event;
use crate::stuck::Wait;

/// What a [`pair`] is made of.
#[derive(Clone, Debug)]
pub struct PairConfig {
    /// How many bytes each direction holds before its writer has to wait. 64 KiB by default.
    pub capacity_bytes: NonZeroUsize,
}

impl Default for PairConfig {
    fn default() -> Self {
        Self { capacity_bytes: CAPACITY_DEFAULT }
    }
}

/// The two ends of a perfect stream in memory. It needs no executor of its own and no clock; faults need both and come
/// from [`SimRuntime::link`].
#[must_use]
pub fn pair(config: PairConfig) -> (MemTransport, MemTransport) {
    // Without faults no number is drawn, whatever the seed.
    join(Link::new(&LinkConfig::perfect(config.capacity_bytes), &mut Rng::new(0)), None)
}

/// Makes the two ends of a link. With a simulation, its time drives the link, and what happens is recorded there under
/// the link's number.
pub(crate) fn join(link: Link, sim: Option<(SimRuntime, u64)>) -> (MemTransport, MemTransport) {
    let shared = Arc::new(Shared { wire: Mutex::new(Wire { link, wakers: [const { None }; 4] }), sim });
    let end = |side| MemTransport { end: Arc::new(End { shared: Arc::clone(&shared), side }) };
    (end(Side::First), end(Side::Second))
}

/// One end of a stream in memory.
///
/// Dropping both halves is what closing a socket is: the peer reads what was written and then the end, or a reset if
/// bytes were left unread here.
#[derive(Debug)]
pub struct MemTransport {
    end: Arc<End>,
}

impl MemTransport {
    /// Which end of its link this is.
    #[must_use]
    pub fn side(&self) -> Side {
        self.end.side
    }
}

impl Transport for MemTransport {
    type Reader = MemReader;
    type Writer = MemWriter;

    fn split(self) -> (MemReader, MemWriter) {
        (MemReader { end: Arc::clone(&self.end), timer: None }, MemWriter { end: self.end, timer: None })
    }
}

/// The reading half of a [`MemTransport`].
#[derive(Debug)]
pub struct MemReader {
    end: Arc<End>,
    timer: Option<Sleep>,
}

/// The writing half of a [`MemTransport`].
#[derive(Debug)]
pub struct MemWriter {
    end: Arc<End>,
    timer: Option<Sleep>,
}

impl PollRead for MemReader {
    fn poll_read(&mut self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let at_us = match self.end.read(Some(cx.waker()), bufs) {
                Read::Got(bytes) => return Poll::Ready(Ok(bytes)),
                Read::End => return Poll::Ready(Ok(0)),
                Read::Failed(kind) => return Poll::Ready(Err(kind.into())),
                Read::Wait(at_us) => at_us,
            };
            if self.end.poll_timer(&mut self.timer, at_us, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn try_read(&mut self, bufs: &mut [IoSliceMut<'_>]) -> Option<io::Result<usize>> {
        match self.end.read(None, bufs) {
            Read::Got(bytes) => Some(Ok(bytes)),
            Read::End => Some(Ok(0)),
            Read::Failed(kind) => Some(Err(kind.into())),
            Read::Wait(_) => None,
        }
    }
}

impl PollWrite for MemWriter {
    fn poll_write(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        loop {
            let at_us = match self.end.write(cx.waker(), bufs) {
                Written::Took { bytes, .. } => return Poll::Ready(Ok(bytes)),
                Written::Failed(kind) => return Poll::Ready(Err(kind.into())),
                Written::Wait(at_us) => at_us,
            };
            if self.end.poll_timer(&mut self.timer, at_us, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.end.close().map_err(io::Error::from))
    }
}

/// One side of a link, held by both of its halves; the side leaves the link when the last of them is dropped.
#[derive(Debug)]
struct End {
    shared: Arc<Shared>,
    side: Side,
}

impl End {
    /// Reads. If there is nothing, the waker is registered under the same lock, before anybody can write.
    fn read(&self, waker: Option<&Waker>, bufs: &mut [IoSliceMut<'_>]) -> Read {
        let now_us = self.shared.now_us();
        let read = self.shared.with(|wire, wakes| {
            let read = wire.link.read(self.side, now_us, bufs, wakes);
            let unwanted = match (read, waker) {
                (Read::Wait(_), Some(waker)) => wire.register(self.side, Half::Read, waker),
                _ => None,
            };
            (read, unwanted)
        });
        match read {
            Read::Got(bytes) => self.record(Event::Read, bytes),
            Read::Wait(_) if waker.is_some() => self.note(|link, side| Wait::Read { link, side }),
            Read::Wait(_) | Read::End | Read::Failed(_) => {}
        }
        read
    }

    fn write(&self, waker: &Waker, bufs: &[IoSlice<'_>]) -> Written {
        let now_us = self.shared.now_us();
        let written = self.shared.with(|wire, wakes| {
            let written = wire.link.write(self.side, now_us, bufs, wakes);
            let unwanted = match written {
                Written::Wait(_) => wire.register(self.side, Half::Write, waker),
                Written::Took { .. } | Written::Failed(_) => None,
            };
            (written, unwanted)
        });
        match written {
            Written::Took { bytes, .. } => self.record(Event::Wrote, bytes),
            Written::Wait(_) => self.note(|link, side| Wait::Write { link, side }),
            Written::Failed(_) => {}
        }
        written
    }

    fn close(&self) -> Result<(), ErrorKind> {
        let closed = self.shared.with(|wire, wakes| (wire.link.close(self.side, wakes), None));
        self.record(Event::Closed, 0);
        closed
    }

    /// Arms the half's timer for the time at which the link wants to be looked at again. Ready if that is now.
    fn poll_timer(&self, timer: &mut Option<Sleep>, at_us: Option<u64>, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(at_us), Some((sim, _))) = (at_us, &self.shared.sim) else {
            *timer = None;
            return Poll::Pending;
        };
        let sleep = match timer.take() {
            Some(sleep) if sleep.at_us() == at_us => sleep,
            _ => sim.sleep_exactly_until(at_us),
        };
        Pin::new(timer.insert(sleep)).poll(cx)
    }

    fn record(&self, event: Event, bytes: usize) {
        if let Some((sim, link)) = &self.shared.sim {
            let half = (link << 1) | u64::from(self.side == Side::Second);
            sim.record(event, half, bytes as u64);
        }
    }

    fn note(&self, wait: impl FnOnce(u64, Side) -> Wait) {
        if let Some((sim, link)) = &self.shared.sim {
            sim.note(wait(*link, self.side));
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.shared.with(|wire, wakes| (wire.link.leave(self.side, wakes), None));
        self.record(Event::Left, 0);
    }
}

#[derive(Debug)]
struct Shared {
    wire: Mutex<Wire>,
    sim: Option<(SimRuntime, u64)>,
}

#[derive(Debug)]
struct Wire {
    link: Link,
    wakers: [Option<Waker>; 4],
}

impl Wire {
    /// Notes whom to wake. Gives back the waker that is replaced: it is dropped outside the lock, for a waker's drop may
    /// run anything.
    fn register(&mut self, side: Side, half: Half, waker: &Waker) -> Option<Waker> {
        let place = self.wakers.get_mut(slot(side, half))?;
        if place.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return None;
        }
        place.replace(waker.clone())
    }
}

impl Shared {
    /// 0 without a simulation: then nothing depends on the time.
    fn now_us(&self) -> u64 {
        self.sim.as_ref().map_or(0, |(sim, _)| sim.now())
    }

    fn lock(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acts on the link, then wakes whom that concerns, outside the lock.
    fn with<T>(&self, act: impl FnOnce(&mut Wire, &mut Wakes) -> (T, Option<Waker>)) -> T {
        let mut wakes = Wakes::default();
        let mut wire = self.lock();
        let (out, unwanted) = act(&mut wire, &mut wakes);
        let mut woken = [const { None }; 4];
        for slot in wakes.slots() {
            if let (Some(to), Some(from)) = (woken.get_mut(slot), wire.wakers.get_mut(slot)) {
                *to = from.take();
            }
        }
        drop(wire);
        drop(unwanted);
        woken.into_iter().flatten().for_each(Waker::wake);
        out
    }
}
