//! The UTXO and transaction watcher: looks what a block did to outputs, and asks for everything that this node may not have.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bitcoin::{Block, Transaction};
use modipc_api::{
    Capability, Event, EventType, LogLevel, OutPoint, RawTransaction, Request, Response, ResponseData, Txid,
    Utxo,
};
use modipc_core::SubscribeOptions;
use modipc_module::{About, Client, Context, Delivery, Failure, InvocationHandler, Module, Topics};
use serde::{Deserialize, Serialize};

use super::desk::Desk;
use super::{unexpected, version};

/// What the watcher found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Findings {
    /// The block that it fetched by its height.
    pub(crate) block_hash: String,
    /// Outputs of the block that the block itself spends.
    pub(crate) spent_inside: u64,
    /// Outputs of older blocks that the block spends.
    pub(crate) spent_older: u64,
    /// The transactions that it looked up.
    pub(crate) transactions: Vec<Lookup>,
    /// The outputs that it looked up.
    pub(crate) outputs: Vec<Lookup>,
    /// Number of unconfirmed transactions.
    pub(crate) mempool: u64,
    /// What the node said to requests for which it may have no data.
    pub(crate) without_data: Vec<Lookup>,
    /// The crash of another module that it was told of.
    pub(crate) crash_seen: Option<Crash>,
}

/// A module's crash, as an event told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Crash {
    /// The module.
    pub(crate) module: String,
    /// The signal that ended it.
    pub(crate) signal: Option<u32>,
}

/// A question and what came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lookup {
    /// What was asked for, in words.
    pub(crate) what: String,
    /// What it is called.
    pub(crate) name: String,
    /// The node's answer in a word: `found`, `different`, `unspent`, `spent`, `unknown`, `data`, `NotFound` or an error's code.
    pub(crate) state: String,
    /// The same in more words, if there are any.
    pub(crate) detail: String,
}

impl Lookup {
    fn new(what: &str, name: impl ToString, state: String, detail: String) -> Self {
        Lookup { what: what.to_owned(), name: name.to_string(), state, detail }
    }
}

pub(crate) struct Watcher {
    desk: Arc<Desk<Findings>>,
}

impl Watcher {
    pub(crate) fn new() -> Self {
        Watcher { desk: Desk::new() }
    }

    async fn ask(&self, client: &Client, request: Request) -> Result<Response, Failure> {
        Ok(self.desk.meter.ask(client, request).await?)
    }

    /// Looks at a new block.
    async fn look(&self, client: &Client, height: u64) -> Result<Findings, Failure> {
        let at = match self.ask(client, Request::GetBlockByHeight { height }).await? {
            Response::Success(ResponseData::BlockByHeight(at)) => at,
            other => return Err(unexpected("the block", &other)),
        };
        let (block, picks) = tokio::task::spawn_blocking(move || {
            at.raw.parse().map(|block| {
                let picks = Picks::of(&block);
                (block, picks)
            })
        })
        .await??;
        let mut findings = Findings {
            block_hash: at.hash.to_string(),
            spent_inside: picks.inside.len() as u64,
            spent_older: picks.older.len() as u64,
            transactions: Vec::new(),
            outputs: Vec::new(),
            mempool: 0,
            without_data: Vec::new(),
            crash_seen: None,
        };
        self.look_at_transactions(client, &block, &mut findings).await?;
        self.look_at_outputs(client, &block, &picks, &mut findings).await?;
        self.look_for_what_may_be_missing(client, &block, &mut findings).await?;
        Ok(findings)
    }

    async fn look_at_transactions(
        &self,
        client: &Client,
        block: &Block,
        findings: &mut Findings,
    ) -> Result<(), Failure> {
        let picked = [("the coinbase", block.txdata.first()), ("the last transaction", block.txdata.last())];
        for (what, transaction) in picked {
            let Some(transaction) = transaction else { continue };
            let txid = Txid::from(transaction.compute_txid());
            let (state, detail) = match self.ask(client, Request::GetTransaction { txid }).await? {
                Response::Success(ResponseData::Transaction(found)) => {
                    let same = found.raw == RawTransaction::from(transaction);
                    let height = found.block.map_or_else(|| "?".to_owned(), |block| block.height.to_string());
                    let detail = format!("in block {height}, {} bytes", found.raw.as_bytes().len());
                    (if same { "found" } else { "different" }.to_owned(), detail)
                }
                other => (refusal(&other), String::new()),
            };
            findings.transactions.push(Lookup::new(what, txid, state, detail));
        }
        Ok(())
    }

    /// One output of each kind that there can be: new and unspent, new and spent at once, older and spent, unknown.
    async fn look_at_outputs(
        &self,
        client: &Client,
        block: &Block,
        picks: &Picks,
        findings: &mut Findings,
    ) -> Result<(), Failure> {
        let coinbase = block.txdata.first().map(|transaction| output(transaction, 0));
        let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin);
        let picked = [
            ("created by the coinbase", coinbase),
            ("created and spent by the block", picks.inside.first().copied()),
            ("of an older block, spent by the block", picks.older.first().copied()),
            ("of the genesis block", genesis.txdata.first().map(|transaction| output(transaction, 0))),
        ];
        for (what, outpoint) in picked {
            let Some(outpoint) = outpoint else { continue };
            let (state, detail) = match self.ask(client, Request::GetUtxo { outpoint }).await? {
                Response::Success(ResponseData::Utxo(utxo)) => in_words(&utxo),
                other => (refusal(&other), String::new()),
            };
            findings.outputs.push(Lookup::new(what, outpoint, state, detail));
        }
        Ok(())
    }

    /// An embedded chain has no mempool and no peers, and says so.
    async fn look_for_what_may_be_missing(
        &self,
        client: &Client,
        block: &Block,
        findings: &mut Findings,
    ) -> Result<(), Failure> {
        match self.ask(client, Request::GetMempoolTransactions).await? {
            Response::Success(ResponseData::MempoolTransactions(txids)) => {
                findings.mempool = txids.len() as u64
            }
            other => return Err(unexpected("the mempool", &other)),
        }
        let mut requests = vec![Request::GetNetworkStats, Request::GetNetworkPeers];
        if let Some(transaction) = block.txdata.last() {
            let txid = transaction.compute_txid().into();
            requests.push(Request::GetMempoolTransaction { txid });
            requests.push(Request::SubmitTransaction { raw: RawTransaction::from(transaction) });
        }
        for request in requests {
            let name = request.message_type();
            let state = match self.ask(client, request).await? {
                Response::Success(_) => "data".to_owned(),
                other => refusal(&other),
            };
            findings.without_data.push(Lookup::new("request", name, state, String::new()));
        }
        Ok(())
    }
}

#[async_trait]
impl Module for Watcher {
    fn about(&self) -> About {
        About::new("watcher", version()).asks_for(&[
            Capability::ReadBlockchain,
            Capability::ReadUtxo,
            Capability::ReadChainState,
            Capability::ReadMempool,
            Capability::ReadNetwork,
            Capability::SendTransactions,
            Capability::SubscribeEvents,
        ])
    }

    fn handler(&self) -> Arc<dyn InvocationHandler> {
        self.desk.clone()
    }

    async fn start(&mut self, cx: &Context) -> Result<(), Failure> {
        let client = cx.client();
        let topics =
            Topics::from([EventType::BlockStored, EventType::ChainTipUpdated, EventType::ModuleCrashed]);
        let mut events = self.desk.meter.subscribe(client, topics, SubscribeOptions::default()).await?;
        self.desk.ready();

        let mut findings = None;
        while let Some(delivery) = events.next().await {
            let Delivery::Event { event, .. } = delivery else {
                self.desk.note_lag();
                continue;
            };
            self.desk.note(&event);
            match event {
                Event::ChainTipUpdated { height, .. } => {
                    let seen = self.look(client, height).await?;
                    let message = format!(
                        "{} outputs spent, {} of them created by the same block",
                        seen.spent_inside + seen.spent_older,
                        seen.spent_inside
                    );
                    client.log(LogLevel::Info, message);
                    findings = Some(seen);
                }
                Event::ModuleCrashed { module_id, signal, .. } => {
                    client
                        .log(LogLevel::Info, format!("told that {module_id} crashed; nothing else changed"));
                    self.desk.meter.unsubscribe(events).await?;
                    let crash_seen = Some(Crash { module: module_id, signal });
                    if let Some(findings) = findings {
                        self.desk.file(Findings { crash_seen, ..findings });
                    }
                    return Ok(());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The outputs that a block spends, in its own order.
struct Picks {
    /// Created by itself.
    inside: Vec<OutPoint>,
    /// Created by older blocks.
    older: Vec<OutPoint>,
}

impl Picks {
    fn of(block: &Block) -> Picks {
        let own: BTreeSet<_> = block.txdata.iter().map(Transaction::compute_txid).collect();
        let spent = block.txdata.iter().skip(1).flat_map(|transaction| &transaction.input);
        let (inside, older): (Vec<_>, Vec<_>) =
            spent.map(|input| input.previous_output).partition(|outpoint| own.contains(&outpoint.txid));
        let api = |outpoints: Vec<bitcoin::OutPoint>| outpoints.into_iter().map(OutPoint::from).collect();
        Picks { inside: api(inside), older: api(older) }
    }
}

fn output(transaction: &Transaction, vout: u32) -> OutPoint {
    OutPoint { txid: transaction.compute_txid().into(), vout }
}

fn in_words(utxo: &Utxo) -> (String, String) {
    let (state, detail) = match utxo {
        Utxo::Unspent(coin) => ("unspent", format!("{} sat, created at {}", coin.value_sat, coin.height)),
        Utxo::Spent { by: Some(by) } => {
            ("spent", format!("at {} by input {} of {}", by.height, by.vin, by.txid))
        }
        Utxo::Spent { by: None } => ("spent", "by an input that the node does not name".to_owned()),
        Utxo::Unknown { known_from_height } => {
            ("unknown", format!("the node's data begins at {known_from_height}"))
        }
    };
    (state.to_owned(), detail)
}

fn refusal(response: &Response) -> String {
    match response {
        Response::NotFound => "NotFound".to_owned(),
        Response::Error(error) => error.code.to_string(),
        Response::Success(data) => format!("unexpected data of {}", data.message_type()),
    }
}
