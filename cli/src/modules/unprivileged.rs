//! A module that wants more than it was granted, to show what a refusal looks like.

use std::sync::Arc;

use async_trait::async_trait;
use modipc_api::{
    Capability, CapabilitySet, EventType, LogLevel, OutPoint, Request, Response, ResponseData, Txid,
};
use modipc_module::{About, Client, Context, Failure, InvocationHandler, Module};
use serde::{Deserialize, Serialize};

use super::desk::Desk;
use super::{unexpected, version};

/// What the module experienced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Findings {
    /// What it asked for.
    pub(crate) asked: Vec<String>,
    /// What it was granted.
    pub(crate) granted: Vec<String>,
    /// Its requests that were refused, in order.
    pub(crate) refusals: Vec<Refusal>,
    /// What it was answered afterwards, on the same connection.
    pub(crate) height_afterwards: u64,
}

/// A request that was denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// The request's name.
    pub(crate) request: String,
    /// The error's code.
    pub(crate) code: String,
    /// The capabilities that are missing.
    pub(crate) missing: Vec<String>,
    /// The node's words.
    pub(crate) message: String,
}

pub(crate) struct Unprivileged {
    desk: Arc<Desk<Findings>>,
}

impl Unprivileged {
    pub(crate) fn new() -> Self {
        Unprivileged { desk: Desk::new() }
    }

    async fn refused(&self, client: &Client, request: Request) -> Result<Refusal, Failure> {
        let name = request.message_type().name().to_owned();
        match self.desk.meter.ask(client, request).await? {
            Response::Error(error) => Ok(Refusal {
                request: name,
                code: error.code.to_string(),
                missing: error.missing_capabilities().names().into_iter().map(str::to_owned).collect(),
                message: error.message,
            }),
            other => Err(unexpected("a refusal", &other)),
        }
    }
}

#[async_trait]
impl Module for Unprivileged {
    fn about(&self) -> About {
        About::new("unprivileged", version()).asks_for(&[
            Capability::ReadUtxo,
            Capability::ReadChainState,
            Capability::SubscribeEvents,
        ])
    }

    fn handler(&self) -> Arc<dyn InvocationHandler> {
        self.desk.clone()
    }

    async fn start(&mut self, cx: &Context) -> Result<(), Failure> {
        let client = cx.client();
        let outpoint = OutPoint { txid: Txid::from_bytes([0; 32]), vout: 0 };
        let refusals = vec![
            self.refused(client, Request::GetUtxo { outpoint }).await?,
            self.refused(client, Request::SubscribeEvents { event_types: vec![EventType::NewBlock] }).await?,
        ];
        // A refusal is an answer like any other: the connection is as good as before.
        let height_afterwards = match self.desk.meter.ask(client, Request::GetBlockHeight).await? {
            Response::Success(ResponseData::BlockHeight(height)) => height,
            other => return Err(unexpected("the height", &other)),
        };
        client.log(LogLevel::Warn, "was refused twice and goes on");
        let names = |set: CapabilitySet| set.names().into_iter().map(str::to_owned).collect();
        self.desk.ready();
        self.desk.file(Findings {
            asked: names(self.about().capabilities()),
            granted: names(client.grants()),
            refusals,
            height_afterwards,
        });
        Ok(())
    }
}
