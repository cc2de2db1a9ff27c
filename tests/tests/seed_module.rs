//! A module that its author wrote with nothing but the seed specification: its structures, a length prefix, the bincode-1 layout,
//! and a socket. It speaks to the real node, which serves a real chain. Nothing of this project is on the module's side.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::sync::Arc;

use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, Network};
use modipc_api::CapabilitySet;
use modipc_chain::regtest::{Miner, raw};
use modipc_chain::{Chain, ChainConfig, ChainStore};
use modipc_core::CloseReason;
use modipc_node::{Attach, LOG_TARGET, ModulePolicy, Node, Policy, ShutdownReport};
use modipc_tests::SECOND;
use modipc_tests::mailbox::Mailbox;
use modipc_tests::notes::Notes;
use modipc_tests::world::{Tokio, World as _, own_user};

use seed::{EventType, LogLevel, LogMessage, MessageType, ResponsePayload, SeedModule};

#[test]
fn a_module_written_only_with_the_seeds_structures_completes_handshake_call_event_and_log() {
    let (notes, started, block, stop) =
        (Notes::default(), Mailbox::default(), Mailbox::default(), Mailbox::default());
    let node = {
        let (dispatch, started) = (notes.dispatch(), started.clone());
        let (block, stop) = (block.clone(), stop.clone());
        let body = move || host(&started, &block, &stop);
        std::thread::spawn(move || tracing::dispatcher::with_default(&dispatch, body))
    };
    let path = futures_lite::future::block_on(started.take());
    let genesis = bitcoin::constants::genesis_block(Network::Regtest).block_hash().to_byte_array();

    // Handshake. It asks for more than there is and gets what the operator granted.
    let mut module = SeedModule::connect(&path);
    let granted = module.handshake("seed", &["ReadChainState", "SubscribeEvents", "RuleTheWorld"], "0.1.0");
    assert!(
        granted.contains(&"ReadChainState".to_owned()) && granted.contains(&"SubscribeEvents".to_owned())
    );
    assert!(!granted.contains(&"RuleTheWorld".to_owned()));

    // Calls.
    let height = module.call(1, MessageType::GetBlockHeight, &[]);
    assert_eq!(height, ResponsePayload::BlockHeight(0));
    let tip = module.call(2, MessageType::GetChainTip, &[]);
    assert_eq!(tip, ResponsePayload::ChainTip { hash: genesis, height: 0 });
    let unknown = module.call(3, MessageType::GetBlock, &[9; 32]);
    assert_eq!(unknown, ResponsePayload::NotFound);

    // Events: the block that the host imports now.
    let subscribed = module.subscribe(4, &[EventType::NewBlock]);
    assert_eq!(subscribed, [EventType::NewBlock as u32]);
    let mined = Miner::from_genesis().mine(Vec::new(), Amount::ZERO);
    block.put(raw(&mined));
    let event = module.next_event();
    assert_eq!((event.hash, event.height), (mined.block_hash().to_byte_array(), 1));
    assert_eq!((event.tx_count, event.time_s), (1, mined.header.time));
    let tip = module.call(5, MessageType::GetChainTip, &[]);
    assert_eq!(tip, ResponsePayload::ChainTip { hash: event.hash, height: 1 });

    // Log.
    let message = "the block of height 1 is here".to_owned();
    module.log(&LogMessage { level: LogLevel::Warn, message: message.clone(), module_id: "seed".into() });
    let note = notes.wait_for(&message);
    assert_eq!((note.level, &*note.target), (tracing::Level::WARN, LOG_TARGET));
    assert!(note.text.contains("module=\"seed\""), "{}", note.text);

    // The end: the host is done, and the stream ends.
    stop.put(());
    assert!(module.is_at_the_end());
    drop(module);
    let report: ShutdownReport = node.join().unwrap();
    assert!(report.aborted.is_empty() && report.lost.is_empty(), "{report:?}");
    let end = CloseReason::Drained { by: modipc_core::Initiator::Us, reason: 1 };
    assert!(notes.all().iter().any(|note| note.text.contains(&end.to_string())), "{:#?}", notes.all());
}

/// The host: a chain, a node, a door.
fn host(started: &Mailbox<PathBuf>, block: &Mailbox<Vec<u8>>, stop: &Mailbox<()>) -> ShutdownReport {
    let data = tempfile::tempdir().unwrap();
    let config = ChainConfig::from_genesis(Network::Regtest);
    let chain = Chain::new(ChainStore::open_or_create(data.path().join("chain"), &config).unwrap());
    let policy =
        ModulePolicy { grants: CapabilitySet::ALL, attach: Attach::Credentials, ..ModulePolicy::default() };
    let world = Tokio::one_thread();
    let node = Node::builder(world.runtime(), Arc::new(chain.clone()))
        .policy(Policy::new().user(own_user()).module("seed", policy))
        .build()
        .unwrap();
    world.run(async {
        let (serving, door) = (node.clone(), world.open_door());
        world.runtime().spawn(Box::pin(async move { serving.serve(door).await.unwrap() }));
        started.put(world.sockets().path());
        let (_, events) = chain.import(block.take().await).await.unwrap();
        for event in &events {
            node.publish(event).await.unwrap();
        }
        stop.take().await;
        node.shutdown(1, "the test is over", SECOND).await
    })
}

/// The module's whole program, from the seed specification.
mod seed {
    use std::io::{ErrorKind, Read, Write};
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::time::Duration;

    /// `ModuleMessage` by its variants' numbers, with two for the handshake.
    const REQUEST: u32 = 0;
    const RESPONSE: u32 = 1;
    const EVENT: u32 = 2;
    const LOG: u32 = 3;
    const HANDSHAKE: u32 = 6;
    const HANDSHAKE_ANSWER: u32 = 7;

    /// Requests, in the seed's order.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub(crate) enum MessageType {
        GetBlock = 0,
        GetChainTip = 3,
        GetBlockHeight = 4,
        SubscribeEvents = 6,
    }

    #[derive(Clone, Copy)]
    pub(crate) enum EventType {
        NewBlock = 0,
    }

    #[derive(Clone, Copy)]
    pub(crate) enum LogLevel {
        Warn = 1,
    }

    /// What this module knows to be answered.
    #[derive(PartialEq, Eq, Debug)]
    pub(crate) enum ResponsePayload {
        ChainTip { hash: [u8; 32], height: u64 },
        BlockHeight(u64),
        SubscriptionAck(Vec<u32>),
        Error { code: u32, message: String },
        NotFound,
    }

    pub(crate) struct NewBlock {
        pub(crate) hash: [u8; 32],
        pub(crate) height: u64,
        pub(crate) tx_count: u32,
        pub(crate) time_s: u32,
    }

    pub(crate) struct LogMessage {
        pub(crate) level: LogLevel,
        pub(crate) message: String,
        pub(crate) module_id: String,
    }

    pub(crate) struct SeedModule {
        stream: UnixStream,
        /// Events that came while it waited for an answer.
        events: Vec<NewBlock>,
    }

    impl SeedModule {
        pub(crate) fn connect(path: &Path) -> SeedModule {
            let stream = UnixStream::connect(path).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            SeedModule { stream, events: Vec::new() }
        }

        /// `HandshakeMessage { module_id, capabilities, version }`, and what is granted.
        pub(crate) fn handshake(&mut self, id: &str, capabilities: &[&str], version: &str) -> Vec<String> {
            let mut out = Writer::message(HANDSHAKE);
            out.string(id);
            out.u64(capabilities.len() as u64);
            capabilities.iter().for_each(|name| out.string(name));
            out.string(version);
            self.send(out);
            let mut answer = self.receive().unwrap();
            assert_eq!((answer.u32(), answer.u32()), (HANDSHAKE_ANSWER, 0), "refused: {answer:?}");
            (0..answer.u64()).map(|_| answer.string()).collect()
        }

        /// `RequestMessage { correlation_id, request_type, payload }`, and the answer to it.
        pub(crate) fn call(&mut self, id: u64, request: MessageType, fields: &[u8]) -> ResponsePayload {
            let mut out = Writer::message(REQUEST);
            out.u64(id);
            out.u32(request as u32);
            out.u32(request as u32);
            out.0.extend_from_slice(fields);
            self.send(out);
            loop {
                let mut message = self.receive().unwrap();
                match message.u32() {
                    EVENT => self.events.push(message.new_block()),
                    RESPONSE => {
                        assert_eq!(message.u64(), id);
                        return message.payload();
                    }
                    other => panic!("a message of type {other}"),
                }
            }
        }

        pub(crate) fn subscribe(&mut self, id: u64, types: &[EventType]) -> Vec<u32> {
            let mut fields = Writer(Vec::new());
            fields.u64(types.len() as u64);
            types.iter().for_each(|event_type| fields.u32(*event_type as u32));
            match self.call(id, MessageType::SubscribeEvents, &fields.0) {
                ResponsePayload::SubscriptionAck(types) => types,
                other => panic!("not subscribed: {other:?}"),
            }
        }

        pub(crate) fn next_event(&mut self) -> NewBlock {
            if !self.events.is_empty() {
                return self.events.remove(0);
            }
            let mut message = self.receive().unwrap();
            assert_eq!(message.u32(), EVENT);
            message.new_block()
        }

        pub(crate) fn log(&mut self, log: &LogMessage) {
            let mut out = Writer::message(LOG);
            out.u32(log.level as u32);
            out.string(&log.message);
            out.string(&log.module_id);
            self.send(out);
        }

        pub(crate) fn is_at_the_end(&mut self) -> bool {
            self.receive().is_none()
        }

        /// Four bytes of length, little-endian, then the message.
        fn send(&mut self, out: Writer) {
            self.stream.write_all(&(out.0.len() as u32).to_le_bytes()).unwrap();
            self.stream.write_all(&out.0).unwrap();
        }

        fn receive(&mut self) -> Option<Reader> {
            let mut length = [0; 4];
            match self.stream.read_exact(&mut length) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
                read => read.unwrap(),
            }
            let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
            self.stream.read_exact(&mut bytes).unwrap();
            Some(Reader { bytes, at: 0 })
        }
    }

    struct Writer(Vec<u8>);

    impl Writer {
        fn message(variant: u32) -> Writer {
            let mut out = Writer(Vec::new());
            out.u32(variant);
            out
        }

        fn u32(&mut self, n: u32) {
            self.0.extend_from_slice(&n.to_le_bytes());
        }

        fn u64(&mut self, n: u64) {
            self.0.extend_from_slice(&n.to_le_bytes());
        }

        fn string(&mut self, text: &str) {
            self.u64(text.len() as u64);
            self.0.extend_from_slice(text.as_bytes());
        }
    }

    #[derive(Debug)]
    struct Reader {
        bytes: Vec<u8>,
        at: usize,
    }

    impl Reader {
        fn take<const N: usize>(&mut self) -> [u8; N] {
            self.at += N;
            self.bytes[self.at - N..self.at].try_into().unwrap()
        }

        fn u32(&mut self) -> u32 {
            u32::from_le_bytes(self.take())
        }

        fn u64(&mut self) -> u64 {
            u64::from_le_bytes(self.take())
        }

        fn string(&mut self) -> String {
            let len = self.u64() as usize;
            self.at += len;
            String::from_utf8(self.bytes[self.at - len..self.at].to_vec()).unwrap()
        }

        /// Nothing is left over: every byte was understood.
        fn end(&self) {
            assert_eq!(self.at, self.bytes.len(), "{self:?}");
        }

        /// `EventMessage { event_type, payload }`.
        fn new_block(&mut self) -> NewBlock {
            assert_eq!((self.u32(), self.u32()), (0, 0), "another event than was subscribed");
            let event =
                NewBlock { hash: self.take(), height: self.u64(), tx_count: self.u32(), time_s: self.u32() };
            self.end();
            event
        }

        fn payload(&mut self) -> ResponsePayload {
            let payload = match self.u32() {
                0 => self.data(),
                1 => {
                    let error = ResponsePayload::Error { code: self.u32(), message: self.string() };
                    for _ in 0..self.u64() {
                        let _ = (self.string(), self.string());
                    }
                    error
                }
                2 => ResponsePayload::NotFound,
                other => panic!("response variant {other}"),
            };
            self.end();
            payload
        }

        fn data(&mut self) -> ResponsePayload {
            match self.u32() {
                3 => ResponsePayload::ChainTip { hash: self.take(), height: self.u64() },
                4 => ResponsePayload::BlockHeight(self.u64()),
                6 => {
                    let types = (0..self.u64()).map(|_| self.u32()).collect();
                    let _position = self.u64();
                    ResponsePayload::SubscriptionAck(types)
                }
                other => panic!("data of type {other}"),
            }
        }
    }
}
