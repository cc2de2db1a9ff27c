//! The real stack on the client's side: each connection is a module.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use modipc_api::{BlockHash, Capability, Event, EventType};
use modipc_core::{Config, Overflow, SubscribeOptions};
use modipc_module::{Client, Connect, Delivery};
use modipc_transport_uds::{PeerPolicy, TokioRuntime, UdsTransport};

use crate::client::Stack;
use crate::work::{self, EventSink, Wrong};
use crate::{Error, Result};

/// The module of a connection. The server's policy names the same ids.
pub(crate) fn module_id(number: usize) -> String {
    format!("bench-{number:05}")
}

/// What every module is granted.
pub(crate) const GRANTS: [Capability; 3] =
    [Capability::ReadBlockchain, Capability::ReadChainState, Capability::SubscribeEvents];

/// Events that wait for a stream's reader. On one thread the connection's task may take in this many before the reader
/// has its turn; a loss would end the run.
const INBOX_EVENTS: u32 = 8192;

pub(crate) struct Modules;

impl Stack for Modules {
    type Connection = Client;

    const ONE_BY_ONE: Option<&'static str> = None;

    async fn connect(socket: &Path, number: usize) -> Result<Client> {
        let runtime = TokioRuntime::current()?;
        let stream = modipc_transport_uds::connect(socket, &PeerPolicy::SameUser)?;
        let transport = UdsTransport::new(&runtime, stream)?;
        let config = Config { inbox_max: INBOX_EVENTS, ..Connect::CONFIG };
        let hello = GRANTS.into_iter().fold(
            Connect::new(module_id(number), env!("CARGO_PKG_VERSION")).config(config),
            Connect::capability,
        );
        Ok(Client::connect(Arc::new(runtime), transport, hello).await?)
    }

    async fn lookup(client: &Client, n: u64) -> Result<()> {
        let header = client.get_block_header(BlockHash::from_bytes(work::hash(n))).await?;
        let header = header.ok_or(Wrong::Missing { asked: n })?;
        Ok(work::check_header(n, header.as_bytes())?)
    }

    async fn block(client: &Client, n: u64) -> Result<()> {
        let block = client.get_block(BlockHash::from_bytes(work::hash(n))).await?;
        let block = block.ok_or(Wrong::Missing { asked: n })?;
        Ok(work::check_block(block.as_bytes())?)
    }

    async fn subscribe(socket: PathBuf, number: usize, mut sink: EventSink) -> Error {
        match receive(&socket, number, &mut sink).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }
}

async fn receive(socket: &Path, number: usize, sink: &mut EventSink) -> Result<std::convert::Infallible> {
    let client = Modules::connect(socket, number).await?;
    let options = SubscribeOptions { resume: None, overflow: Overflow::Wait };
    let mut events = client.subscribe(EVENT_TYPE, options).await?;
    // This is how the server counts its subscribers.
    client.get_block_height().await?;
    loop {
        match events.next().await {
            Some(Delivery::Event { event, .. }) => sink.got(sequence(&event)?)?,
            Some(other) => return Err(Wrong::EventContent { what: format!("{other:?}") }.into()),
            None => return Err(Wrong::EventsEnded { why: format!("{:?}", client.state()) }.into()),
        }
    }
}

/// The type of the events that are published.
const EVENT_TYPE: EventType = EventType::BlockRejected;

/// Event `n`: its body has [`work::EVENT_BYTES`].
pub(crate) fn event(n: u64) -> Event {
    // The body's two type fields, the hash, and the text's length.
    const FIXED: usize = 4 + 4 + 32 + 8;
    let mut hash = [work::FILLER; 32];
    if let Some(number) = hash.first_chunk_mut::<8>() {
        *number = n.to_le_bytes();
    }
    let reason = char::from(work::FILLER).to_string().repeat(work::EVENT_BYTES - FIXED);
    Event::BlockRejected { hash: BlockHash::from_bytes(hash), reason }
}

/// The number of an event.
fn sequence(event: &Event) -> Result<u64, Wrong> {
    match event {
        Event::BlockRejected { hash, reason } if reason.as_bytes().last() == Some(&work::FILLER) => {
            Ok(work::number(hash.as_bytes()))
        }
        other => Err(Wrong::EventContent { what: format!("{other:?}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_length_and_its_number() {
        for n in [0, 1, u64::MAX] {
            let mut body = Vec::new();
            event(n).encode(&mut body);
            assert_eq!(body.len(), work::EVENT_BYTES);
            assert_eq!(sequence(&Event::decode(&body).unwrap()).unwrap(), n);
        }
        assert!(sequence(&Event::NodeReady { version: String::new() }).is_err());
    }
}
