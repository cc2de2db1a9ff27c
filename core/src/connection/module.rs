//! What only a module's end does.

use alloc::vec::Vec;

use super::{About, Connection};
use crate::dialect::Dialect;
use crate::envelope::Head;
use crate::error::Refused;
use crate::hello::{Hello, HelloTail, PROTOCOL};
use crate::kind::{Kind, Module};
use crate::limits::Limits;
use crate::machine::{Command, Offer};
use crate::outbox::Body;

impl<D: Dialect> Connection<Module, D> {
    /// Introduces the module. Of the tail only the token is taken; x1 and limits are set from [`crate::Config`]. Without x1 and
    /// token, and with the default limits, the Hello is exactly the seed's.
    ///
    /// # Errors
    /// [`Refused`]; [`Refused::FieldTooLong`] for a field that is longer than [H-4] allows.
    pub fn hello(&mut self, now: u64, mut hello: Hello) -> Result<(), Refused> {
        let config = *self.machine.config();
        let token = hello.tail.take().map(|tail| tail.token).unwrap_or_default();
        // A host that is told nothing assumes the defaults [H-3].
        let limits = (config.x1 || config.limits != Limits::DEFAULT).then_some(config.limits);
        if limits.is_some() || !token.is_empty() {
            hello.tail =
                Some(HelloTail { protocol: PROTOCOL, token, x1: config.x1, limits, unknown_critical: None });
        }
        if !hello.fits() {
            return Err(Refused::FieldTooLong);
        }
        let mut body = Vec::new();
        hello.encode(&mut body);
        let offer = Offer { x1: config.x1, limits: config.limits };
        self.command(now, About::sent(Kind::Hello, 0, body.len()), Command::SayHello(offer))?;
        self.send(&Head::new(Kind::Hello, 0), &Body::from(&body[..]));
        Ok(())
    }

    /// Sends a log record; `records` hold its target and fields, which only x1 carries (encode them with
    /// [`crate::Records::push`]).
    ///
    /// # Errors
    /// [`Refused`]; [`Refused::OutboxFull`] if the host does not read: drop the record and count it.
    pub fn log(&mut self, now: u64, body: Body<'_>, records: &[u8]) -> Result<(), Refused> {
        self.check_room()?;
        if body.len() > self.peer_limits().inline_bytes_max as usize {
            return Err(Refused::BodyTooLong);
        }
        if records.len() > usize::from(u16::MAX) {
            return Err(Refused::FieldTooLong);
        }
        self.command(now, About::sent(Kind::Log, 0, body.len()), Command::SendLog)?;
        self.send(&Head { records, ..Head::new(Kind::Log, 0) }, &body);
        Ok(())
    }
}
