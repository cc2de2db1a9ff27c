//! The stream of events.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use modipc_api::{
    AnyEvent, DecodeError, Event, EventType, MessageType, ModuleError, Party, RawEvent, Request, ResponseData,
};
use modipc_core::{CloseReason, Profile, SubscribeOptions, TopicSet};

use crate::events::Topics;
use crate::events::queue::Item;
use crate::events::track::{Track, Verdict};
use crate::requests::{always, read};
use crate::session::{EventClaim, State};
use crate::{Client, Error};

/// What comes out of an [`EventStream`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// An event.
    Event {
        /// Its position in the host's log; 0 in the plain profile.
        position: u64,
        /// The event.
        event: Event,
    },
    /// An event of a type that this build does not know [L-1].
    Unknown {
        /// Its position in the host's log; 0 in the plain profile.
        position: u64,
        /// The event as it came.
        event: RawEvent,
    },
    /// An event that does not decode: a fault of the host, which hurts this event only [L-1].
    Undecodable {
        /// Its position in the host's log; 0 in the plain profile.
        position: u64,
        /// What is wrong with it.
        error: DecodeError,
        /// Its body.
        body: Bytes,
    },
    /// Events are missing: every subscribed one that is at these positions and was not delivered. The host overwrote them before
    /// they could be sent [V-4], this side had no room for them because the stream was not read, or PREV showed a gap that
    /// nobody announced [V-5].
    Lagged {
        /// The first position that may be missing; 0 in the plain profile, which has no positions.
        first: u64,
        /// The last position that is missing; 0 in the plain profile.
        last: u64,
    },
}

/// The events of a subscription, in the order of the host's log.
///
/// It never slows down the connection: what its reader leaves lying is bounded by [`modipc_core::Config::inbox_max`] events, and
/// what does not fit is reported as [`Delivery::Lagged`]. (Up to as many again may be in the batch that is being read.)
///
/// It ends (`None`) when the host said goodbye or the connection ended, after everything that had arrived; [`Client::state`] says
/// which. Dropping it unsubscribes; [`EventStream::close`] also waits for it.
///
/// Cancel safety: [`EventStream::next`] loses nothing when it is dropped. A [`EventStream::change`] or
/// [`EventStream::unsubscribe`] that is dropped may or may not happen; until the next one that succeeds, the stream takes the events
/// of the old set and of the new.
#[derive(Debug)]
pub struct EventStream {
    client: Client,
    batch: VecDeque<Item>,
    /// An event behind the gap that it showed.
    behind_gap: Option<Delivery>,
    track: Track,
    topics: TopicSet,
    options: SubscribeOptions,
    /// The host may hold a subscription of ours.
    subscribed: bool,
    /// Taken by the stream's end.
    claim: Option<EventClaim>,
}

impl Client {
    /// Subscribes to events: types, groups or both.
    ///
    /// A connection has one subscription [V-2], so there is one stream at a time: ask [`EventStream::change`] for other topics.
    ///
    /// Cancel safety: dropping the future unsubscribes.
    ///
    /// Positions rise as long as a connection lasts: [`SubscribeOptions::resume`] may not name one that has arrived on it already,
    /// for an earlier stream. Whoever wants to go back connects again.
    ///
    /// # Errors
    /// [`ModuleError::ProtocolError`]: the position to resume from has arrived already; nothing was sent.
    /// [`ModuleError::ResourceExhausted`]: this connection has a stream already. [`ModuleError::PermissionDenied`]: the group of
    /// a topic needs a capability that is not granted; the whole subscription is refused [M-7]. Else as any call.
    pub async fn subscribe(
        &self,
        topics: impl Into<Topics>,
        options: SubscribeOptions,
    ) -> Result<EventStream, Error> {
        let Some(claim) = self.inner.session.claim_events().await else {
            return Err(Error::Module(ModuleError::ResourceExhausted {
                module_id: self.module_id().to_owned(),
                resource: "the one event stream of a connection".to_owned(),
                limit: Some(1),
                remedy: "change the topics of the stream that there is, or close it".to_owned(),
            }));
        };
        let received = self.inner.session.events.received();
        if let Some(resume) = options.resume.filter(|resume| *resume <= received) {
            return Err(Error::Module(ModuleError::ProtocolError {
                guilty: Party::Module(Some(self.module_id().to_owned())),
                violation: None,
                what: format!(
                    "it would resume at position {resume} where events up to {received} have arrived: resume later, or connect \
                     again"
                ),
            }));
        }
        let mut stream = EventStream {
            client: self.clone(),
            batch: VecDeque::new(),
            behind_gap: None,
            track: Track::default(),
            topics: TopicSet::EMPTY,
            options,
            subscribed: false,
            claim: Some(claim),
        };
        stream.replace(topics.into(), options).await?;
        Ok(stream)
    }
}

impl EventStream {
    /// The next event or notice; `None` at the end. Cancel safe.
    pub async fn next(&mut self) -> Option<Delivery> {
        poll_fn(|cx| self.poll_delivery(cx)).await
    }

    /// The position to resume from: everything before it came out of [`EventStream::next`]. Keep it once that is dealt with, and
    /// give it to [`SubscribeOptions::resume`]. 0 in the plain profile, which has no positions.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.track.cursor()
    }

    /// Why the connection ended, if it did.
    #[must_use]
    pub fn closed(&self) -> Option<CloseReason> {
        self.client.closed()
    }

    /// Replaces the topics. Events of topics that stay are neither lost nor doubled; a new topic begins after the host's answer,
    /// a removed one ends before this returns.
    ///
    /// # Errors
    /// As [`Client::subscribe`]. After a refusal the topics are as before.
    pub async fn change(&mut self, topics: impl Into<Topics>) -> Result<(), Error> {
        // Without RESUME the host goes on where it is; it would begin anew with one.
        self.replace(topics.into(), SubscribeOptions { resume: None, ..self.options }).await
    }

    /// Removes topics. None of their events comes out after this returns [V-2], not even one that had arrived.
    ///
    /// # Errors
    /// As any call.
    pub async fn unsubscribe(&mut self, topics: impl Into<Topics>) -> Result<(), Error> {
        let topics = topics.into();
        // On the wire an empty list means all.
        if topics.is_empty() {
            return Ok(());
        }
        let left = unsubscribe(&self.client, topics.to_vec()).await?;
        self.keep(left.into_iter().collect());
        Ok(())
    }

    /// Ends the subscription and waits for the host's answer.
    ///
    /// # Errors
    /// As any call; the stream is gone in any case.
    pub async fn close(mut self) -> Result<(), Error> {
        if self.subscribed {
            // From here on this call is the unsubscription. If it is dropped, the stream's end makes another.
            end_subscription(&self.client).await?;
            self.subscribed = false;
        }
        Ok(())
    }

    async fn replace(&mut self, topics: Topics, options: SubscribeOptions) -> Result<(), Error> {
        let before = self.topics;
        let was_subscribed = std::mem::replace(&mut self.subscribed, true);
        self.topics = before.iter().chain(topics.to_set().iter()).collect();
        let request = Request::SubscribeEvents { event_types: topics.to_vec() };
        let reply = self.client.issue_subscription(request, options, |inner, request, deadline_us, body| {
            always(request, read(inner, request, deadline_us, body)?, |data| match data {
                ResponseData::Subscribed { event_types, position } => Some((event_types, position)),
                _ => None,
            })
        });
        match reply.await {
            Ok((event_types, position)) => {
                let topics: Topics = event_types.into_iter().collect();
                self.topics = topics.to_set();
                let first = match self.client.host().profile {
                    Profile::X1 => position.saturating_add(1),
                    Profile::Plain => 0,
                };
                self.track.subscribed(self.topics.iter(), first);
                Ok(())
            }
            Err(error) => {
                if !may_have_happened(&error) {
                    self.topics = before;
                    self.subscribed = was_subscribed;
                }
                Err(error)
            }
        }
    }

    fn keep(&mut self, topics: Topics) {
        self.topics = topics.to_set();
        let kept = self.topics;
        self.track.unsubscribed(|topic| kept.contains(topic));
    }

    fn poll_delivery(&mut self, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        if let Some(delivery) = self.behind_gap.take().filter(|delivery| self.is_wanted(delivery)) {
            return Poll::Ready(Some(delivery));
        }
        loop {
            while let Some(item) = self.batch.pop_front() {
                if let Some(delivery) = self.examine(item) {
                    return Poll::Ready(Some(delivery));
                }
            }
            match self.client.inner.session.events.poll_take(cx, &mut self.batch) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// What an item from the queue means to the reader; `None` if it is nothing new, or nothing that is subscribed.
    fn examine(&mut self, item: Item) -> Option<Delivery> {
        let (position, prev, body) = match item {
            Item::Event { position, prev, body } => (position, prev, body),
            Item::Lagged { first, last } => {
                return self.track.lagged(last).then_some(Delivery::Lagged { first, last });
            }
        };
        let topic = topic(&body);
        let gap = match topic.map(|topic| self.track.event(topic, position, prev)) {
            Some(Verdict::Stale) => return None,
            Some(Verdict::DeliverAfterGap { first, last }) => Some((first, last)),
            Some(Verdict::Deliver) | None => None,
        };
        let delivery = decode(position, body);
        if !self.is_wanted(&delivery) {
            return None;
        }
        match gap {
            Some((first, last)) => {
                self.behind_gap = Some(delivery);
                Some(Delivery::Lagged { first, last })
            }
            None => Some(delivery),
        }
    }

    /// Is it of a topic that is subscribed? A type that this build does not know cannot be subscribed by name: whoever sends one
    /// means it.
    fn is_wanted(&self, delivery: &Delivery) -> bool {
        match delivery {
            Delivery::Event { event, .. } => self.topics.contains(event.event_type().topic()),
            Delivery::Unknown { .. } | Delivery::Undecodable { .. } | Delivery::Lagged { .. } => true,
        }
    }
}

impl Stream for EventStream {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.poll_delivery(cx)
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        let claim = self.claim.take();
        if self.subscribed && self.client.state() == State::Active {
            self.client.inner.session.events.retire();
            // A call that is dropped is cancelled, so a task of its own waits for the answer. It holds the claim: the next stream
            // gets nothing of this one's events.
            let client = self.client.clone();
            self.client.inner.link.runtime().spawn(Box::pin(async move {
                if let Err(error) = end_subscription(&client).await {
                    tracing::debug!(%error, "a dropped event stream was not unsubscribed");
                }
                drop(claim);
            }));
        }
    }
}

/// Removes every topic, and waits until no event of them is on its way to the queue.
async fn end_subscription(client: &Client) -> Result<(), Error> {
    unsubscribe(client, Vec::new()).await?;
    client.inner.session.settled(&client.inner.link).await;
    Ok(())
}

async fn unsubscribe(client: &Client, event_types: Vec<EventType>) -> Result<Vec<EventType>, Error> {
    let request = Request::Unsubscribe { event_types };
    let reply = client.issue(request, |inner, request: MessageType, deadline_us, body| {
        always(request, read(inner, request, deadline_us, body)?, |data| match data {
            ResponseData::Unsubscribed { event_types } => Some(event_types),
            _ => None,
        })
    });
    reply.await
}

/// Could the host have executed a call that ended so?
fn may_have_happened(error: &Error) -> bool {
    match error {
        Error::Module(ModuleError::Timeout { .. } | ModuleError::ProtocolError { .. }) => true,
        Error::Module(ModuleError::ConnectionError { was_sent, .. }) => *was_sent,
        Error::Module(ModuleError::PermissionDenied { .. } | ModuleError::ResourceExhausted { .. })
        | Error::Answered { .. } => false,
    }
}

/// The event type's number is the body's first field [M-1], and the topic if it is one.
fn topic(body: &Bytes) -> Option<u8> {
    let number = u32::from_le_bytes(*body.first_chunk::<4>()?);
    u8::try_from(number).ok()
}

fn decode(position: u64, body: Bytes) -> Delivery {
    match AnyEvent::decode(&body) {
        Ok(AnyEvent::Known(event)) => Delivery::Event { position, event },
        Ok(AnyEvent::Raw(event)) => Delivery::Unknown { position, event },
        Err(error) => Delivery::Undecodable { position, error, body },
    }
}
