//! However the bytes are cut, the same things happen; whatever the bytes are, nothing panics.

use proptest::prelude::*;

use super::*;
use crate::event_log::EventLog;

/// A session with something of everything: what the host sent, what the module sent.
fn session() -> (Vec<u8>, Vec<u8>) {
    let mut pair = Pair::new(Config::DEFAULT, Config::DEFAULT);
    let mut log = EventLog::new(10, 1 << 20);
    let (mut up, mut down) = (Vec::new(), Vec::new());
    let mut exchange = |pair: &mut Pair| {
        let sent = drain(&mut pair.module, 0);
        pair.host.recv(0, &sent);
        up.extend(sent);
        let sent = drain(&mut pair.host, 0);
        pair.module.recv(0, &sent);
        down.extend(sent);
    };
    pair.module.hello(0, hello()).unwrap();
    exchange(&mut pair);
    pair.host.accept(0, accepted(), 0).unwrap();
    exchange(&mut pair);
    let subscribe = CallOptions { subscribe: Some(SubscribeOptions::default()), ..options(9) };
    pair.module.call(0, &subscribe, Body::from(&b"S\x01"[..]), 0).unwrap();
    let long = vec![5; 40_000];
    pair.module.call(0, &options(9), Body::from(&long[..]), 1).unwrap();
    pair.module.call(0, &options(9), Body::from(&b"!"[..]), 2).unwrap();
    pair.module.extension(0, 130).unwrap();
    pair.module.log(0, Body::from(&b"log"[..]), b"").unwrap();
    pair.host.call(0, &options(9), Body::from(&b"?"[..]), 3).unwrap();
    exchange(&mut pair);
    for event in events(&mut pair.host) {
        match event {
            Event::Subscribe(call, subscription) => {
                pair.host.reply_subscription(0, call.id, subscription, &mut log, Body::default()).unwrap();
            }
            Event::Call(call) => {
                pair.host
                    .reply(0, call.id, Body { head: b"big", tail: Bytes::from(vec![6; 300_000]) })
                    .unwrap();
            }
            _ => {}
        }
    }
    for topic in [1, 2, 1] {
        log.append(topic, Bytes::from_static(b"event"));
    }
    pair.host.pull_events(0, &mut log);
    pair.module.ping(0).unwrap();
    pair.module.reply(0, CallId(1), Body::from(&b"!"[..])).unwrap();
    exchange(&mut pair);
    pair.module.goodbye(0, 0, "done").unwrap();
    exchange(&mut pair);
    exchange(&mut pair);
    assert!(matches!(pair.host.closed(), Some(CloseReason::Drained { .. })));
    (up, down)
}

/// What a host makes of these bytes, in words. Commands are given at fixed places of the stream.
fn host_story(bytes: &[u8], cuts: &[usize]) -> Vec<alloc::string::String> {
    let mut host = HostEnd::new(0, Config::DEFAULT, Toy);
    host.record_steps(10_000);
    let mut story = Vec::new();
    let mut cuts = cuts.iter().cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(cuts.next().copied().unwrap_or(usize::MAX).clamp(1, rest.len()));
        if let Some(mut buf) = host.take_bulk() {
            let n = buf.space().len().min(now.len());
            buf.space()[..n].copy_from_slice(&now[..n]);
            host.recv_bulk(0, buf, n);
            host.recv(0, &now[n..]);
        } else {
            host.recv(0, now);
        }
        rest = later;
        while let Some(event) = host.poll_event() {
            if matches!(event, Event::Hello(_)) {
                host.accept(0, accepted(), 0).unwrap();
                host.call(0, &options(9), Body::default(), 3).unwrap();
            }
            story.push(alloc::format!("{event:?}"));
        }
        story.extend(outcomes(&mut host).into_iter().map(|outcome| alloc::format!("{outcome:?}")));
    }
    host.recv_eof(0);
    story.extend(core::iter::from_fn(|| host.poll_step()).map(|step| alloc::format!("{step}")));
    story.sort();
    story
}

/// Cuts that never join the Hello with what follows: the host answers in between, as it would.
fn careful(bytes: &[u8], cuts: Vec<usize>) -> Vec<usize> {
    let hello = 4 + u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    let mut all = Vec::new();
    let mut at = 0;
    for cut in cuts.iter().cycle().take(1_000_000) {
        let cut = if at < hello { (*cut).min(hello - at) } else { *cut };
        all.push(cut);
        at = at.saturating_add(cut);
        if at >= bytes.len() {
            break;
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_chunking_of_a_session_tells_the_same_story(cuts in prop::collection::vec(prop_oneof![1usize..40, 1usize..70_000], 1..12)) {
        let (up, _) = session();
        let whole = host_story(&up, &careful(&up, vec![usize::MAX]));
        prop_assert_eq!(host_story(&up, &careful(&up, cuts)), whole);
    }

    #[test]
    fn a_session_with_changed_bytes_never_panics(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        chunk in 1usize..5000,
    ) {
        let (mut up, mut down) = session();
        for (index, byte) in changes {
            let at = index.index(up.len().min(700));
            up[at] = byte;
            let at = index.index(down.len().min(700));
            down[at] = byte;
        }
        let mut pair = Pair::new(Config::DEFAULT, Config::DEFAULT);
        pair.module.hello(0, hello()).unwrap();
        feed(&mut pair.host, 0, &up[..cut.index(up.len())], chunk);
        feed(&mut pair.module, 0, &down[..cut.index(down.len())], chunk);
        pair.host.recv_eof(0);
        pair.module.recv_eof(0);
        prop_assert!(pair.host.closed().is_some() && pair.module.closed().is_some());
    }
}

#[test]
fn byte_by_byte_is_the_same_as_all_at_once() {
    let (up, _) = session();
    assert_eq!(host_story(&up, &careful(&up, vec![1])), host_story(&up, &careful(&up, vec![usize::MAX])));
}

#[test]
fn a_long_extension_frame_is_skipped_without_being_kept() {
    let mut pair = Pair::x1();
    let mut frame = 10_000_000u32.to_le_bytes().to_vec();
    frame.extend_from_slice(&200u32.to_le_bytes());
    frame.resize(4 + 10_000_000, 7);
    for piece in frame[..9_000_000].chunks(60_000) {
        pair.host.recv(0, piece);
        assert!(pair.host.inbound.capacity() < 1000, "{}", pair.host.inbound.capacity());
    }
    let mut cut = pair.host.clone();
    cut.recv_eof(0);
    assert_eq!(cut.closed(), Some(CloseReason::Violation(Violation::Truncated)));
    let mut rest = frame[9_000_000..].to_vec();
    pair.call(b"after");
    rest.extend(drain(&mut pair.module, 0));
    pair.host.recv(0, &rest);
    assert_eq!((pair.host.extensions_skipped(), &pair.served().body[..]), (1, &b"after"[..]));
}
