//! encode ∘ decode = identity for values of every message, and decoding is total for bytes of every kind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, helpers too"
)]

use bytes::Bytes;
use modipc_api::{
    BlockAt, BlockHash, BlockHeader, BlockRef, ChainInfo, Coin, ErrorCode, ErrorInfo, Event, EventType,
    Invocation, InvocationResult, LogLevel, LogMessage, MempoolTransaction, NetworkStats, OutPoint, PeerInfo,
    RawBlock, RawTransaction, Request, Response, ResponseData, Spender, Transaction, Txid, Utxo, harness,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

fn raw() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn block_hash() -> impl Strategy<Value = BlockHash> {
    any::<[u8; 32]>().prop_map(BlockHash::from_bytes)
}

fn txid() -> impl Strategy<Value = Txid> {
    any::<[u8; 32]>().prop_map(Txid::from_bytes)
}

fn text() -> impl Strategy<Value = String> {
    vec(any::<char>(), 0..12).prop_map(String::from_iter)
}

fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    vec((text(), text()), 0..4)
}

fn event_types() -> impl Strategy<Value = Vec<EventType>> {
    vec(select(EventType::ALL), 0..20)
}

fn block_ref() -> impl Strategy<Value = BlockRef> {
    (block_hash(), any::<u64>()).prop_map(|(hash, height)| BlockRef { hash, height })
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        block_hash().prop_map(|hash| Request::GetBlock { hash }),
        block_hash().prop_map(|hash| Request::GetBlockHeader { hash }),
        txid().prop_map(|txid| Request::GetTransaction { txid }),
        Just(Request::GetChainTip),
        Just(Request::GetBlockHeight),
        (txid(), any::<u32>())
            .prop_map(|(txid, vout)| Request::GetUtxo { outpoint: OutPoint { txid, vout } }),
        event_types().prop_map(|event_types| Request::SubscribeEvents { event_types }),
        Just(Request::GetMempoolTransactions),
        Just(Request::GetNetworkStats),
        Just(Request::GetNetworkPeers),
        Just(Request::GetChainInfo),
        any::<u64>().prop_map(|height| Request::GetBlockByHeight { height }),
        txid().prop_map(|txid| Request::GetMempoolTransaction { txid }),
        raw().prop_map(|raw| Request::SubmitTransaction { raw: RawTransaction::new(raw) }),
        event_types().prop_map(|event_types| Request::Unsubscribe { event_types }),
    ]
}

fn utxo() -> impl Strategy<Value = Utxo> {
    let coin = (any::<u64>(), any::<u64>(), any::<bool>(), raw()).prop_map(
        |(value_sat, height, coinbase, script_pubkey)| Coin { value_sat, height, coinbase, script_pubkey },
    );
    let spender =
        (txid(), any::<u32>(), any::<u64>()).prop_map(|(txid, vin, height)| Spender { txid, vin, height });
    prop_oneof![
        coin.prop_map(Utxo::Unspent),
        of(spender).prop_map(|by| Utxo::Spent { by }),
        any::<u64>().prop_map(|known_from_height| Utxo::Unknown { known_from_height }),
    ]
}

fn peer() -> impl Strategy<Value = PeerInfo> {
    let numbers = (any::<u64>(), any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    let rest = (text(), any::<bool>(), text(), of(any::<u64>()), of(any::<u64>()));
    (numbers, rest).prop_map(|(numbers, (address, inbound, user_agent, start_height, ping_us))| PeerInfo {
        peer_id: numbers.0,
        address,
        inbound,
        protocol_version: numbers.1,
        services: numbers.2,
        user_agent,
        start_height,
        connected_at_s: numbers.3,
        ping_us,
        received_bytes: numbers.4,
        sent_bytes: numbers.5,
    })
}

fn chain_info() -> impl Strategy<Value = ChainInfo> {
    let numbers = (any::<u32>(), any::<u32>(), any::<u64>());
    (text(), block_ref(), numbers, of(block_ref()), of(any::<bool>())).prop_map(
        |(chain, tip, (tip_time, tip_bits, headers_height), anchor, syncing)| ChainInfo {
            chain,
            tip,
            tip_time,
            tip_bits,
            headers_height,
            anchor,
            syncing,
        },
    )
}

fn network_stats() -> impl Strategy<Value = NetworkStats> {
    any::<(u32, u32, u64, u64, u64)>().prop_map(
        |(peers_inbound, peers_outbound, received_bytes, sent_bytes, uptime_s)| NetworkStats {
            peers_inbound,
            peers_outbound,
            received_bytes,
            sent_bytes,
            uptime_s,
        },
    )
}

fn data() -> impl Strategy<Value = ResponseData> {
    let header = vec(any::<u8>(), 80).prop_map(|bytes| BlockHeader::from_bytes(bytes.try_into().unwrap()));
    let transaction = (of(block_ref()), raw())
        .prop_map(|(block, raw)| Transaction { block, raw: RawTransaction::new(raw) });
    let block_at = (block_hash(), raw()).prop_map(|(hash, raw)| BlockAt { hash, raw: RawBlock::new(raw) });
    let unconfirmed =
        (of(any::<u64>()), of(any::<u64>()), raw()).prop_map(|(fee_sat, received_at_s, raw)| {
            MempoolTransaction { fee_sat, received_at_s, raw: RawTransaction::new(raw) }
        });
    prop_oneof![
        raw().prop_map(|raw| ResponseData::Block(RawBlock::new(raw))),
        header.prop_map(ResponseData::BlockHeader),
        transaction.prop_map(ResponseData::Transaction),
        block_ref().prop_map(ResponseData::ChainTip),
        any::<u64>().prop_map(ResponseData::BlockHeight),
        utxo().prop_map(ResponseData::Utxo),
        (event_types(), any::<u64>())
            .prop_map(|(event_types, position)| ResponseData::Subscribed { event_types, position }),
        vec(txid(), 0..20).prop_map(ResponseData::MempoolTransactions),
        network_stats().prop_map(ResponseData::NetworkStats),
        vec(peer(), 0..4).prop_map(ResponseData::NetworkPeers),
        chain_info().prop_map(ResponseData::ChainInfo),
        block_at.prop_map(ResponseData::BlockByHeight),
        unconfirmed.prop_map(ResponseData::MempoolTransaction),
        txid().prop_map(|txid| ResponseData::Submitted { txid }),
        event_types().prop_map(|event_types| ResponseData::Unsubscribed { event_types }),
    ]
}

fn error() -> impl Strategy<Value = ErrorInfo> {
    (any::<u32>(), text(), pairs()).prop_map(|(code, message, details)| ErrorInfo {
        code: ErrorCode::from_number(code % 20),
        message,
        details,
    })
}

fn response() -> impl Strategy<Value = Response> {
    prop_oneof![
        8 => data().prop_map(Response::Success),
        2 => error().prop_map(Response::Error),
        1 => Just(Response::NotFound),
    ]
}

fn log() -> impl Strategy<Value = LogMessage> {
    (select(LogLevel::ALL), text(), text()).prop_map(|(level, message, module_id)| LogMessage {
        level,
        message,
        module_id,
    })
}

fn invocation() -> impl Strategy<Value = Invocation> {
    prop_oneof![
        Just(Invocation::Health),
        (text(), raw()).prop_map(|(method, params)| Invocation::Call { method, params }),
        pairs().prop_map(|settings| Invocation::Configure { settings }),
        any::<u64>().prop_map(|grace_us| Invocation::PrepareShutdown { grace_us }),
    ]
}

fn invocation_result() -> impl Strategy<Value = InvocationResult> {
    prop_oneof![
        raw().prop_map(InvocationResult::Success),
        error().prop_map(InvocationResult::Error),
        Just(InvocationResult::NotFound),
    ]
}

/// The bytes of a field of the kind that section 10.7 writes.
fn field(kind: &'static str) -> BoxedStrategy<Vec<u8>> {
    let length = |bytes: Vec<u8>| [&(bytes.len() as u64).to_le_bytes()[..], &bytes].concat();
    if let Some(kind) = kind.strip_suffix('?') {
        return of(field(kind))
            .prop_map(|value| value.map_or(vec![0], |value| [&[1][..], &value].concat()))
            .boxed();
    }
    if let Some(kind) = kind.strip_suffix('*') {
        return vec(field(kind), 0..4)
            .prop_map(|values| [&(values.len() as u64).to_le_bytes()[..], &values.concat()].concat())
            .boxed();
    }
    match kind {
        "u8" => vec(any::<u8>(), 1).boxed(),
        "u32" => vec(any::<u8>(), 4).boxed(),
        "u64" => vec(any::<u8>(), 8).boxed(),
        "hash" => vec(any::<u8>(), 32).boxed(),
        "bool" => vec(0..2u8, 1).boxed(),
        "string" => text().prop_map(move |text| length(text.into_bytes())).boxed(),
        other => panic!("section 10.7 knows no {other}"),
    }
}

/// An event's body, put together from the document's description of its fields.
fn event_body() -> impl Strategy<Value = (EventType, Vec<u8>)> {
    select(EventType::ALL).prop_flat_map(|event_type| {
        let fields: Vec<_> = event_type.fields().iter().map(|(_, kind)| field(kind)).collect();
        let number = event_type.number().to_le_bytes();
        fields.prop_map(move |fields| (event_type, [&number[..], &number, &fields.concat()].concat()))
    })
}

fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

/// The body of any message.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        request().prop_map(|value| encoded(|out| value.encode(out))),
        response().prop_map(|value| encoded(|out| value.encode(out))),
        event_body().prop_map(|(_, body)| body),
        log().prop_map(|value| encoded(|out| value.encode(out))),
        invocation().prop_map(|value| encoded(|out| value.encode(out))),
        invocation_result().prop_map(|value| encoded(|out| value.encode(out))),
    ]
}

proptest! {
    #[test]
    fn requests_survive(value in request()) {
        let body = encoded(|out| value.encode(out));
        prop_assert_eq!(Request::decode(&body), Ok(value));
        harness::request(&body);
    }

    #[test]
    fn responses_survive(value in response()) {
        let body = encoded(|out| value.encode(out));
        prop_assert_eq!(Response::decode(&body), Ok(value));
        harness::response(&body);
    }

    #[test]
    fn events_survive((event_type, body) in event_body()) {
        let event = Event::decode(&body).map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert_eq!(event.event_type(), event_type);
        prop_assert_eq!(encoded(|out| event.encode(out)), body);
    }

    #[test]
    fn logs_survive(value in log()) {
        let body = encoded(|out| value.encode(out));
        prop_assert_eq!(LogMessage::decode(&body), Ok(value));
    }

    #[test]
    fn invocations_survive(value in invocation(), result in invocation_result()) {
        let body = encoded(|out| value.encode(out));
        prop_assert_eq!(Invocation::decode(&body), Ok(value));
        let body = encoded(|out| result.encode(out));
        prop_assert_eq!(InvocationResult::decode(&body), Ok(result));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(body in vec(any::<u8>(), 0..300)) {
        harness::all(&body);
    }

    /// Bodies that are nearly right reach further than random ones.
    #[test]
    fn damaged_bodies_are_decoded_or_refused(
        body in any_body(),
        at in any::<prop::sample::Index>(),
        damage in vec(any::<u8>(), 0..9),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut damaged = body.clone();
        let at = at.index(body.len());
        for (byte, wrong) in damaged[at..].iter_mut().zip(&damage) {
            *byte = *wrong;
        }
        harness::all(&damaged);
        harness::all(&body[..cut.index(body.len())]);
        harness::all(&[&body[..], &damage].concat());
    }
}
