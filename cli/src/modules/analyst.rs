//! The block analyst: waits for a block, fetches it and finds out what is in it.

use std::sync::Arc;

use async_trait::async_trait;
use modipc_api::{
    BlockHash, Capability, ErrorCode, Event, EventType, LogLevel, Request, Response, ResponseData,
};
use modipc_core::SubscribeOptions;
use modipc_module::{About, Client, Context, Delivery, Failure, InvocationHandler, Module, Topics};
use serde::{Deserialize, Serialize};

use super::desk::Desk;
use super::facts::BlockFacts;
use super::{unexpected, version};

/// What the analyst found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Findings {
    /// The block, from its bytes.
    pub(crate) block: BlockFacts,
    /// Whether the header that the node gives alone is that of the block's bytes.
    pub(crate) header_agrees: bool,
    /// Whether tip and height of the node are those of the event.
    pub(crate) tip_agrees: bool,
    /// The network, as the node says.
    pub(crate) chain: String,
    /// Height of the block on which the node's own data begins.
    pub(crate) anchor_height: Option<u64>,
    /// What the node said of its chain before the block was there: an error's code, if it was one.
    pub(crate) chain_before: Option<String>,
}

pub(crate) struct Analyst {
    desk: Arc<Desk<Findings>>,
}

impl Analyst {
    pub(crate) fn new() -> Self {
        Analyst { desk: Desk::new() }
    }

    async fn ask(&self, client: &Client, request: Request) -> Result<Response, Failure> {
        Ok(self.desk.meter.ask(client, request).await?)
    }

    async fn analyse(
        &self,
        client: &Client,
        hash: BlockHash,
        height: u64,
        before: Option<ErrorCode>,
    ) -> Result<Findings, Failure> {
        let raw = match self.ask(client, Request::GetBlock { hash }).await? {
            Response::Success(ResponseData::Block(raw)) => raw,
            other => return Err(unexpected("the block", &other)),
        };
        let header = match self.ask(client, Request::GetBlockHeader { hash }).await? {
            Response::Success(ResponseData::BlockHeader(header)) => header,
            other => return Err(unexpected("the header", &other)),
        };
        let tip = match self.ask(client, Request::GetChainTip).await? {
            Response::Success(ResponseData::ChainTip(tip)) => tip,
            other => return Err(unexpected("the tip", &other)),
        };
        let height_now = match self.ask(client, Request::GetBlockHeight).await? {
            Response::Success(ResponseData::BlockHeight(height)) => height,
            other => return Err(unexpected("the height", &other)),
        };
        let info = match self.ask(client, Request::GetChainInfo).await? {
            Response::Success(ResponseData::ChainInfo(info)) => info,
            other => return Err(unexpected("the chain's information", &other)),
        };
        let header_agrees = raw.as_bytes().starts_with(header.as_bytes());
        // Milliseconds of computation have no place on the thread that also answers the node.
        let block = tokio::task::spawn_blocking(move || BlockFacts::of(&raw, height)).await??;
        Ok(Findings {
            header_agrees,
            tip_agrees: (tip.hash, tip.height, height_now) == (hash, height, height),
            chain: info.chain,
            anchor_height: info.anchor.map(|anchor| anchor.height),
            chain_before: before.map(|code| code.to_string()),
            block,
        })
    }
}

#[async_trait]
impl Module for Analyst {
    fn about(&self) -> About {
        About::new("analyst", version()).asks_for(&[
            Capability::ReadBlockchain,
            Capability::ReadChainState,
            Capability::SubscribeEvents,
        ])
    }

    fn handler(&self) -> Arc<dyn InvocationHandler> {
        self.desk.clone()
    }

    async fn start(&mut self, cx: &Context) -> Result<(), Failure> {
        let client = cx.client();
        let before = match self.ask(client, Request::GetChainInfo).await? {
            Response::Error(error) => Some(error.code),
            Response::Success(_) | Response::NotFound => None,
        };
        let topics = Topics::from([EventType::NewHeader, EventType::NewBlock, EventType::ChainTipUpdated]);
        let mut events = self.desk.meter.subscribe(client, topics, SubscribeOptions::default()).await?;
        self.desk.ready();

        while let Some(delivery) = events.next().await {
            let Delivery::Event { event, .. } = delivery else {
                self.desk.note_lag();
                continue;
            };
            self.desk.note(&event);
            // The last event of a block: by now it is the tip.
            let Event::ChainTipUpdated { hash, height, .. } = event else { continue };
            let findings = self.analyse(client, hash, height, before).await?;
            let fields = [
                ("height", height.to_string()),
                ("transactions", findings.block.transactions.to_string()),
                ("fees_sat", findings.block.fees_sat.to_string()),
            ];
            let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
            client.log_with(LogLevel::Info, "analyst", "block analysed", &fields);
            self.desk.meter.unsubscribe(events).await?;
            self.desk.file(findings);
            return Ok(());
        }
        Ok(())
    }
}
