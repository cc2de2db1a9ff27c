//! Commands of both roles.

use super::{About, CallId, CallOptions, Connection, Key};
use crate::dialect::Dialect;
use crate::envelope::{Head, Profile, RECORD_OVERFLOW, RECORD_RESUME, Records};
use crate::error::Refused;
use crate::event_log::Overflow;
use crate::kind::{EXTENSION_FIRST, Kind, Role};
use crate::machine::Command;
use crate::outbox::Body;
use crate::step::Cause;
use alloc::string::String;
use alloc::vec::Vec;

/// Longer details are cut: the receiver takes 4096 bytes.
const GOODBYE_CHARS_MAX: usize = 1000;

impl<R: Role, D: Dialect> Connection<R, D> {
    /// Issues a call; its [`super::Outcome`] will carry `key`.
    ///
    /// # Errors
    /// [`Refused`]; nothing was sent. [`Refused::WindowFull`] also when a bulk body has no credit at the moment.
    pub fn call(
        &mut self,
        now: u64,
        options: &CallOptions,
        body: Body<'_>,
        key: u64,
    ) -> Result<CallId, Refused> {
        let bytes = body.len() as u64;
        // All that can be refused comes before the call is issued: from then on it has an outcome.
        let mut records = Vec::new();
        if let (Some(subscribe), Profile::X1) = (options.subscribe, self.profile) {
            if let Some(position) = subscribe.resume {
                Records::push(&mut records, RECORD_RESUME, &position.to_le_bytes())?;
            }
            if subscribe.overflow != Overflow::Lag {
                Records::push(&mut records, RECORD_OVERFLOW, &[subscribe.overflow as u8])?;
            }
        }
        let key = Key { user: key, mark: self.outbox.mark() };
        let command = Command::Call { key, deadline_us: options.deadline_us, bytes };
        let id = self.command(now, About::sent(R::CALL, 0, body.len()), command)?.id;
        let head = Head {
            deadline_us: Some(options.deadline_us),
            trace: options.trace,
            idempotency: options.idempotency,
            records: &records,
            ..Head::new(R::CALL, id)
        };
        if self.is_bulk(bytes) {
            self.begin_bulk_call(now, &head, body);
        } else {
            self.send(&head, &body);
        }
        Ok(CallId(id))
    }

    /// Gives up a call of ours: its outcome is [`super::Outcome::Cancelled`], now.
    ///
    /// # Errors
    /// The call is not open.
    pub fn cancel(&mut self, now: u64, id: CallId) -> Result<(), Refused> {
        self.command(now, About::sent(Kind::Cancel, id.0, 0), Command::Cancel { id: id.0 })?;
        Ok(())
    }

    /// Answers a call of the peer.
    ///
    /// # Errors
    /// [`Refused`]; the call stays open (answer it with something shorter if the body was too long).
    pub fn reply(&mut self, now: u64, id: CallId, body: Body<'_>) -> Result<(), Refused> {
        let bytes = body.len() as u64;
        let about = About::sent(R::SERVE_ANSWER, id.0, body.len());
        let bulk = self.is_bulk(bytes);
        self.command(now, about, Command::Reply { id: id.0, bytes })?;
        self.send_answer_body(id, body, bulk);
        Ok(())
    }

    pub(super) fn send_answer_body(&mut self, id: CallId, body: Body<'_>, bulk: bool) {
        if bulk {
            self.queue_bulk_answer(id.0, body);
        } else {
            self.send(&Head::new(R::SERVE_ANSWER, id.0), &body);
        }
    }

    /// Tells the caller how far its call is [C-8].
    ///
    /// # Errors
    /// The call is not open, or the profile is plain, or ([`Refused::OutboxFull`]) the peer does not read: leave it out.
    pub fn progress(&mut self, now: u64, id: CallId, done: u64, total: u64) -> Result<(), Refused> {
        self.check_room()?;
        self.command(now, About::sent(Kind::Progress, id.0, 16), Command::SendProgress { id: id.0 })?;
        let mut body = [0; 16];
        body[..8].copy_from_slice(&done.to_le_bytes());
        body[8..].copy_from_slice(&total.to_le_bytes());
        self.send(&Head::new(Kind::Progress, id.0), &Body::from(&body[..]));
        Ok(())
    }

    /// Asks whether the peer is alive; [`super::Event::Pong`] or the end of the connection follows within
    /// [`crate::Config::ping_us`]. Returns the nonce.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn ping(&mut self, now: u64) -> Result<u64, Refused> {
        let nonce = self.command(now, About::sent(Kind::Ping, 0, 0), Command::SendPing)?.id;
        self.send(&Head::new(Kind::Ping, nonce), &Body::default());
        Ok(nonce)
    }

    /// Begins to drain [G-1]: reason is below 256, `detail` says it in words.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn goodbye(&mut self, now: u64, reason: u32, detail: &str) -> Result<(), Refused> {
        let reason = reason & 0xff;
        self.farewell = detail.chars().take(GOODBYE_CHARS_MAX).collect();
        let result = self.command(now, About::sent(Kind::Goodbye, 0, 0), Command::Goodbye { reason });
        // Said, or not to be said: the answer to a Goodbye of the peer has no words of ours.
        self.farewell = String::new();
        result.map(drop)
    }

    /// Sends an extension frame of this kind, at least [`EXTENSION_FIRST`], which the peer skips and counts [E-3].
    ///
    /// # Errors
    /// [`Refused`]; [`Refused::OutboxFull`] if the peer does not read.
    pub fn extension(&mut self, now: u64, kind: u8) -> Result<(), Refused> {
        self.check_room()?;
        let kind = kind.max(EXTENSION_FIRST);
        self.command(now, About::new(Cause::Sent(kind), 0, 0), Command::SendExtension)?;
        let dialect = &self.dialect;
        let tag = u32::from(kind).to_le_bytes();
        self.outbox.push(
            |len| dialect.frame_prefix(len),
            |out| out.extend_from_slice(&tag),
            &Body::default(),
        );
        Ok(())
    }

    /// For frames that can be left out: whether there is room for one.
    pub(super) fn check_room(&self) -> Result<(), Refused> {
        match self.closed() {
            Some(reason) => Err(Refused::Closed(reason)),
            None if self.is_congested() => Err(Refused::OutboxFull),
            None => Ok(()),
        }
    }

    /// Drops the connection now.
    pub fn abort(&mut self, now: u64) {
        let _ = self.command(now, About::new(Cause::Local, 0, 0), Command::Abort);
    }
}
