//! What only the host's end does: admission, subscriptions, grants.

use alloc::string::String;
use alloc::vec::Vec;

use super::{About, CallId, Connection, Subscription};
use crate::dialect::Dialect;
use crate::envelope::{Head, Profile};
use crate::error::Refused;
use crate::event_log::{EventLog, HoldId, Overflow};
use crate::hello::{Accepted, Answer, Refusal, names_fit};
use crate::kind::{Host, Kind};
use crate::machine::Command;
use crate::outbox::Body;
use crate::session::Cursor;
use crate::table::{Class, Phase};
use crate::topics::TopicSet;

/// How [`Connection::pull_events`] left off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pull {
    /// Everything in the log was looked at: wait for the next append.
    CaughtUp,
    /// The outbox is full: pull again after the next batch was taken.
    More,
    /// There is no subscription, or no event may be sent any more.
    Idle,
}

/// Events are added as long as fewer bytes wait for the transport.
const EVENTS_LOW: usize = 64 << 10;

impl<D: Dialect> Connection<Host, D> {
    /// Admits the module with these capabilities (`grants`: the same as bits for [`crate::Meaning::needs`]). Limits and x1 in
    /// `accepted` are set from [`crate::Config`] and the module's offer.
    ///
    /// # Errors
    /// [`Refused`]; [`Refused::FieldTooLong`] for more or longer names than [H-4] allows, a version of more than 4096 bytes, or a
    /// token of more than 64.
    pub fn accept(&mut self, now: u64, mut accepted: Accepted, grants: u64) -> Result<(), Refused> {
        if !accepted.fits() {
            return Err(Refused::FieldTooLong);
        }
        self.command(now, About::sent(Kind::Answer, 0, 0), Command::Accept { grants })?;
        accepted.limits = self.machine.config().limits;
        accepted.x1 = self.profile == Profile::X1;
        self.send_answer(&Answer::Accepted(accepted));
        Ok(())
    }

    /// Turns the module away, and closes. Texts of more than 4096 bytes are cut.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn refuse(&mut self, now: u64, refusal: Refusal) -> Result<(), Refused> {
        self.command(now, About::sent(Kind::Answer, 0, 0), Command::Refuse(refusal.code))?;
        self.send_answer(&Answer::Refused(refusal));
        Ok(())
    }

    /// The first position that this subscription would be looked at from [V-3].
    #[must_use]
    pub fn subscription_start(&self, subscription: &Subscription, log: &EventLog) -> u64 {
        let present = self.cursor().map(|cursor| cursor.next);
        let asked = match subscription {
            // The module takes no position that does not rise.
            Subscription::Replace { options, .. } => {
                options.resume.map(|resume| resume.min(log.next()).max(self.last_position() + 1))
            }
            Subscription::Remove { .. } => None,
        };
        asked.or(present).unwrap_or(log.next())
    }

    /// Grants a subscription and answers the call that asked for it: the answer goes before the first event, and after the answer
    /// of a removal goes no event of the removed topics.
    ///
    /// # Errors
    /// [`Refused`]; the call stays open and the subscription is as before. [`Refused::BodyTooLong`] if the answer does not fit
    /// into one frame: as bulk it would end after the first event.
    pub fn reply_subscription(
        &mut self,
        now: u64,
        id: CallId,
        subscription: Subscription,
        log: &mut EventLog,
        body: Body<'_>,
    ) -> Result<(), Refused> {
        let start = self.subscription_start(&subscription, log);
        let cursor = match subscription {
            Subscription::Replace { topics, options } => Some((topics, start, options.overflow)),
            Subscription::Remove { topics } => {
                self.cursor().map(|cursor| (cursor.topics.without(&topics), start, cursor.overflow))
            }
        };
        let cursor = cursor.filter(|(topics, ..)| !topics.is_empty());
        let bytes = body.len() as u64;
        if self.is_bulk(bytes) {
            return Err(Refused::BodyTooLong);
        }
        let about = About::sent(Kind::Response, id.0, body.len());
        self.command(now, about, Command::ReplySubscription { id: id.0, bytes, cursor })?;
        self.send_answer_body(id, body, false);
        self.release_hold(log);
        if let (Some((_, next, Overflow::Wait)), Phase::Active) = (cursor, self.phase()) {
            self.hold = Some(log.hold(next));
        }
        Ok(())
    }

    fn release_hold(&mut self, log: &mut EventLog) {
        if let Some(hold) = self.hold.take() {
            log.release(hold);
        }
    }

    /// Copies events that the subscription covers from the log to the outbox, as long as there is room. Costs a look at each event
    /// between the subscriber's place in the log and where it stops.
    pub fn pull_events(&mut self, now: u64, log: &mut EventLog) -> Pull {
        if self.phase() != Phase::Active {
            // Nothing is sent any more, so the publisher would wait in vain.
            self.release_hold(log);
            return Pull::Idle;
        }
        let Some(cursor) = self.cursor() else { return Pull::Idle };
        // Before anything is sent, lag notices included: who does not read is told once, when it reads again.
        if self.outbox.len() >= EVENTS_LOW {
            return Pull::More;
        }
        let Some(start) = self.skip_overwritten(now, cursor, log) else { return Pull::Idle };
        let (mut next, mut last, mut sent) = (start, 0, 0);
        while self.outbox.len() < EVENTS_LOW
            && let Some((topic, prev, body)) = log.get(next)
        {
            if cursor.topics.contains(topic) {
                let head = Head { prev: Some(prev), ..Head::new(Kind::Event, next) };
                self.send(&head, &Body { head: &[], tail: body.clone() });
                (last, sent) = (next, sent + body.len());
            }
            next += 1;
        }
        if next != cursor.next {
            let about = About::sent(Kind::Event, last, sent);
            let _ = self.command(now, about, Command::SendEvents { next, last });
            if let Some(hold) = self.hold {
                log.advance(hold, next);
            }
        }
        if next == log.next() { Pull::CaughtUp } else { Pull::More }
    }

    /// Where to go on, after the subscriber was told of what was overwritten; `None` if that ended the connection.
    fn skip_overwritten(&mut self, now: u64, cursor: Cursor, log: &EventLog) -> Option<u64> {
        let Some(last) = log.lost(cursor.next, &cursor.topics) else {
            return Some(cursor.next.max(log.first()));
        };
        let next = log.first();
        let about = About::sent(Kind::Lagged, 0, 16);
        let transition = self.command(now, about, Command::SendLagged { next }).ok()?;
        if transition.class != Class::SendLagged {
            return None;
        }
        let mut body = [0; 16];
        body[..8].copy_from_slice(&cursor.next.to_le_bytes());
        body[8..].copy_from_slice(&last.to_le_bytes());
        self.send(&Head::new(Kind::Lagged, 0), &Body::from(&body[..]));
        Some(next)
    }

    fn last_position(&self) -> u64 {
        self.machine.session().map_or(0, |session| session.last_position)
    }

    fn cursor(&self) -> Option<Cursor> {
        self.machine.session().and_then(|session| session.subscription)
    }

    /// The hold that this connection has on the log, if its overflow policy is [`Overflow::Wait`]; release it when the
    /// connection ends.
    #[must_use]
    pub fn hold(&self) -> Option<HoldId> {
        self.hold
    }

    /// What is subscribed now.
    #[must_use]
    pub fn topics(&self) -> TopicSet {
        self.cursor().map_or(TopicSet::EMPTY, |cursor| cursor.topics)
    }

    /// The position that will be looked at next for this subscriber, if there is a subscription.
    #[must_use]
    pub fn position(&self) -> Option<u64> {
        self.cursor().map(|cursor| cursor.next)
    }

    /// Changes what the module may do, from now on, and tells it (x1). Calls that are open go on.
    ///
    /// # Errors
    /// [`Refused`]; [`Refused::FieldTooLong`] for more or longer names than [H-4] allows.
    pub fn set_grants(&mut self, now: u64, grants: u64, names: &[String]) -> Result<(), Refused> {
        if !names_fit(names) {
            return Err(Refused::FieldTooLong);
        }
        let mut body = Vec::new();
        crate::wire::put_strings(&mut body, names);
        self.command(now, About::sent(Kind::GrantsChanged, 0, body.len()), Command::SetGrants { grants })?;
        if self.profile == Profile::X1 {
            self.send(&Head::new(Kind::GrantsChanged, 0), &Body::from(&body[..]));
        }
        Ok(())
    }

    /// The capabilities that are granted, as bits.
    #[must_use]
    pub fn grants(&self) -> u64 {
        self.machine.session().map_or(0, |session| session.grants)
    }
}
