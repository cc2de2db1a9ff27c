#!/usr/bin/env python3
"""Writes docs/vectors/*.hex: an encoder made from docs/PROTOCOL.md alone, to check the Rust one against.

    scripts/vectors.py           write the files
    scripts/vectors.py --check   say whether the files are what would be written; exit code 1 if not

Comments in brackets name the section or clause. Nothing here is generated from the crates, and nothing there from here.
"""

import struct
import sys
from pathlib import Path

# --- [9] the layout


def u8(n):
    return struct.pack("<B", n)


def u16(n):
    return struct.pack("<H", n)


def u32(n):
    return struct.pack("<I", n)


def u64(n):
    return struct.pack("<Q", n)


def boolean(b):
    return u8(1 if b else 0)


def data(b):
    """A byte string."""
    return u64(len(b)) + b


def text(s):
    return data(s.encode("utf-8"))


def seq(elements):
    return u64(len(elements)) + b"".join(elements)


def opt(value):
    return b"\x00" if value is None else b"\x01" + value


def pairs(*named):
    return seq([text(name) + text(value) for name, value in named])


# --- [10] sample values


def hash_(first):
    """32 bytes counting up from `first`, so that an order of bytes can be seen."""
    return bytes((first + i) % 256 for i in range(32))


def pattern(length):
    return bytes(i % 251 for i in range(length))


HEADER = bytes(range(80))
RAW_TX = bytes.fromhex("0200000001ff") + pattern(20)

# --- [2] [3] frames

FLAGS = {
    "DEADLINE": 8,
    "TRACE": 9,
    "IDEMPOTENCY": 10,
    "PREV": 11,
    "TOTAL": 12,
    "MORE": 13,
    "RECORDS": 15,
}


def frame(payload):
    return u32(len(payload)) + payload


def plain(kind, body):
    """[3] The plain profile."""
    return frame(u32(kind) + body)


def call(kind, correlation_id, body):
    """[E-1] Kinds 0, 1, 4 and 5: the same bytes in both profiles as long as no flag is set."""
    return plain(kind, u64(correlation_id) + body)


def x1(kind, ident, body, **fields):
    """[3] The x1 header: one keyword for each flag, its value the field's bytes."""
    tag = kind
    fixed = b""
    for name, bit in FLAGS.items():
        if name in fields:
            tag |= 1 << bit
            fixed += fields.pop(name)
    assert not fields, fields
    return frame(u32(tag) + u64(ident) + fixed + body)


def records(*entries):
    """[3] The value of the flag RECORDS."""
    inner = b"".join(u16(key) + u16(len(value)) + value for key, value in entries)
    return u16(len(inner)) + inner


REQUEST, RESPONSE, EVENT, LOG, INVOCATION, INVOCATION_RESULT, HELLO, ANSWER = range(8)
CANCEL, PING, PONG, GOODBYE, LAGGED, CREDIT, PROGRESS, GRANTS_CHANGED = range(8, 16)

# --- [4] handshake


def tail_records(*entries):
    return u32(len(entries)) + b"".join(
        u16(ident) + u16(flags) + u32(len(value)) + value for ident, flags, value in entries
    )


def limits(frame_bytes_max, calls_max, abandoned_max, inline_bytes_max, body_bytes_max, credit_bytes, deadline_us):
    return (
        u32(frame_bytes_max)
        + u32(calls_max)
        + u32(abandoned_max)
        + u32(inline_bytes_max)
        + u64(body_bytes_max)
        + u64(credit_bytes)
        + u64(deadline_us)
    )


def handshake():
    hello = text("block-analyst") + seq([text("ReadBlockchain"), text("SubscribeEvents")]) + text("1.2.3")
    limit = limits(16777216, 64, 32, 16384, 8388608, 33554432, 30000000)
    accepted = (
        u32(0)
        + seq([text("ReadBlockchain")])
        + limit
        + text("modipc 0.1.0")
        + bytes(range(16))
        + data(b"next-token")
    )
    yield "plain-hello-seed", "a Hello as the seed has it, without tail", plain(HELLO, hello)
    yield "plain-hello-tail", "a Hello with a tail that offers nothing", plain(
        HELLO, hello + u32(1) + data(b"") + tail_records()
    )
    yield "plain-hello-x1", "a Hello with token, X1 and LIMITS", plain(
        HELLO, hello + u32(1) + data(b"one-time-token") + tail_records((1, 0, b""), (2, 0, limit))
    )
    yield "plain-hello-unknown-record", "a Hello with X1 and an unknown record that is not critical", plain(
        HELLO, hello + u32(1) + data(b"") + tail_records((1, 0, b""), (900, 0, b"later"))
    )
    yield "plain-hello-critical", "a Hello with a critical record that is unknown: refused with code 4", plain(
        HELLO, hello + u32(1) + data(b"") + tail_records((900, 1, b"later"))
    )
    yield "plain-answer-accepted", "an Answer without tail", plain(ANSWER, accepted)
    yield "plain-answer-x1", "an Answer that confirms X1", plain(ANSWER, accepted + u32(1) + tail_records((1, 0, b"")))
    yield "plain-answer-refused", "a refusal for a duplicate id", plain(
        ANSWER,
        u32(1) + u32(6) + text("block-analyst is connected already") + text("stop the other, or use another id"),
    )


# --- [10.1] requests


def request(number, fields=b""):
    """[M-1] The type stands twice."""
    return u32(number) + u32(number) + fields


def requests():
    bodies = [
        ("get-block", request(0, hash_(1))),
        ("get-block-header", request(1, hash_(2))),
        ("get-transaction", request(2, hash_(3))),
        ("get-chain-tip", request(3)),
        ("get-block-height", request(4)),
        ("get-utxo", request(5, hash_(4) + u32(7))),
        ("subscribe-events", request(6, seq([u32(0), u32(6), u32(13)]))),
        ("subscribe-nothing", request(6, seq([]))),
        ("get-mempool-transactions", request(7)),
        ("get-network-stats", request(8)),
        ("get-network-peers", request(9)),
        ("get-chain-info", request(10)),
        ("get-block-by-height", request(11, u64(702861))),
        ("get-mempool-transaction", request(12, hash_(5))),
        ("submit-transaction", request(13, data(RAW_TX))),
        ("unsubscribe", request(14, seq([u32(2)]))),
        ("unsubscribe-all", request(14, seq([]))),
    ]
    for ident, (name, body) in enumerate(bodies, start=1):
        yield f"plain-request-{name}", f"call {ident}", call(REQUEST, ident, body)


# --- [10.2] [10.3] responses


def success(number, fields):
    return u32(0) + u32(number) + fields


def error(code, message, *details):
    return u32(1) + u32(code) + text(message) + pairs(*details)


NOT_FOUND = u32(2)


def block_ref(first, height):
    return hash_(first) + u64(height)


def responses():
    peer = (
        u64(3)
        + text("203.0.113.7:8333")
        + boolean(True)
        + u32(70016)
        + u64(0x0409)
        + text("/Satoshi:27.0.0/")
        + opt(u64(702850))
        + u64(1633390000)
        + opt(u64(41000))
        + u64(1000)
        + u64(2000)
    )
    quiet_peer = (
        u64(4)
        + text("[2001:db8::1]:8333")
        + boolean(False)
        + u32(70015)
        + u64(1)
        + text("")
        + opt(None)
        + u64(1633390001)
        + opt(None)
        + u64(0)
        + u64(0)
    )
    tip = block_ref(10, 702861)
    chain_info = text("main") + tip + u32(1633390422) + u32(0x170ED0EB) + u64(702870)
    spender = hash_(22) + u32(1) + u64(702860)
    bodies = [
        ("block", success(0, data(pattern(100)))),
        ("block-header", success(1, HEADER)),
        ("transaction", success(2, opt(block_ref(11, 702860)) + data(RAW_TX))),
        ("transaction-block-unknown", success(2, opt(None) + data(RAW_TX))),
        ("chain-tip", success(3, tip)),
        ("block-height", success(4, u64(702861))),
        ("utxo-unspent", success(5, u32(0) + u64(5000000000) + u64(1) + boolean(True) + data(b"\x51"))),
        ("utxo-spent", success(5, u32(1) + opt(spender))),
        ("utxo-spent-by-unknown", success(5, u32(1) + opt(None))),
        ("utxo-unknown", success(5, u32(2) + u64(702861))),
        ("subscribed", success(6, seq([u32(0), u32(6), u32(13)]) + u64(41))),
        ("mempool-transactions", success(7, seq([hash_(30), hash_(31)]))),
        ("mempool-transactions-none", success(7, seq([]))),
        ("network-stats", success(8, u32(3) + u32(8) + u64(123456789) + u64(987654321) + u64(86400))),
        ("network-peers", success(9, seq([peer, quiet_peer]))),
        ("chain-info", success(10, chain_info + opt(None) + opt(boolean(True)))),
        ("chain-info-anchored", success(10, chain_info + opt(block_ref(12, 702860)) + opt(None))),
        ("block-by-height", success(11, hash_(13) + data(pattern(90)))),
        ("mempool-transaction", success(12, opt(u64(1500)) + opt(u64(1633390500)) + data(RAW_TX))),
        ("mempool-transaction-fee-unknown", success(12, opt(None) + opt(None) + data(RAW_TX))),
        ("submitted", success(13, hash_(14))),
        ("unsubscribed", success(14, seq([u32(0)]))),
        ("not-found", NOT_FOUND),
        ("error-unsupported", error(0, "no peers here")),
        (
            "error-permission-denied",
            error(1, "GetUTXO needs ReadUTXO", ("request", "GetUTXO"), ("capability", "ReadUTXO")),
        ),
        ("error-invalid-request", error(2, "the hash is short")),
        ("error-unknown-request", error(3, "request type 99")),
        ("error-busy", error(4, "64 calls are open", ("limit", "64"))),
        ("error-deadline-exceeded", error(5, "")),
        ("error-cancelled", error(6, "given up")),
        ("error-unavailable", error(7, "the node starts")),
        ("error-internal", error(8, "a handler failed")),
        ("error-rejected", error(9, "min relay fee not met: 100 < 141")),
        ("error-payload-too-large", error(10, "the block exceeds the frame")),
        ("error-resource-exhausted", error(11, "wait", ("resource", "requests per minute"), ("limit", "600"))),
        ("error-later-code", error(77, "grüße")),
    ]
    for ident, (name, body) in enumerate(bodies, start=1):
        yield f"plain-response-{name}", f"answer to call {ident}", call(RESPONSE, ident, body)


# --- [10.7] events

EVENTS = [
    ("NewBlock", hash_(1), u64(702861), u32(2500), u32(1633390422)),
    ("ChainTipUpdated", hash_(1), u64(702861), opt(hash_(2))),
    ("BlockDisconnected", hash_(1), u64(702861)),
    ("ChainReorganized", u64(702850), hash_(1), hash_(2), u32(3), u32(4)),
    ("NewHeader", hash_(1), u64(702862)),
    ("BlockRejected", hash_(1), text("bad-txnmrklroot")),
    ("MempoolTransactionAdded", hash_(3), opt(u64(1500)), u64(141)),
    ("FeeRateChanged", u64(1000), u64(2500)),
    ("MempoolTransactionRemoved", hash_(3), text("confirmed")),
    ("MempoolTransactionReplaced", hash_(3), hash_(4)),
    ("MempoolTransactionRejected", hash_(3), text("dust")),
    ("MempoolCleared", u64(12)),
    ("MempoolLimitReached", u64(300000001), u64(300000000)),
    ("PeerConnected", u64(7), text("203.0.113.7:8333"), boolean(True)),
    ("MessageReceived", u64(7), text("inv"), u32(37)),
    ("PeerDisconnected", u64(7), text("timeout")),
    ("MessageSent", u64(7), text("getdata"), u32(37)),
    ("PeerBanned", text("203.0.113.7"), u64(1633476822), text("misbehaviour")),
    ("PeerUnbanned", text("203.0.113.7")),
    ("PeerMisbehaved", u64(7), text("invalid header")),
    ("AddressDiscovered", text("[2001:db8::1]:8333")),
    ("ReachabilityChanged", text("onion"), boolean(False)),
    ("PaymentRequestCreated", text("pay-1"), opt(u64(250000)), opt(None)),
    ("PaymentVerified", text("pay-1"), hash_(5)),
    ("PaymentSettled", text("pay-1"), hash_(5), u32(6)),
    ("PaymentFailed", text("pay-1"), text("amount too small")),
    ("PaymentExpired", text("pay-1")),
    ("PaymentRefunded", text("pay-1"), hash_(6)),
    ("BlockTemplateCreated", u64(702862), u32(2000), u64(12345678)),
    ("BlockMined", hash_(7), u64(702862)),
    ("ShareSubmitted", text("rig-1"), boolean(True)),
    ("MiningJobCreated", text("job-9"), u64(702862)),
    ("DifficultyAdjusted", u64(703584), u32(0x170ED0EB), u32(0x170E2632)),
    ("MiningStarted", u32(4)),
    ("MiningStopped", text("operator")),
    ("ProposalCreated", text("prop-1"), text("Raise the fee floor")),
    ("ProposalVoteCast", text("prop-1"), text("alice"), boolean(True)),
    ("ProposalAccepted", text("prop-1")),
    ("ProposalRejected", text("prop-1"), text("quorum")),
    ("ProposalExecuted", text("prop-1")),
    ("BlockValidationStarted", hash_(8)),
    ("BlockValidationCompleted", hash_(8), boolean(True), u64(350000)),
    ("ScriptVerificationFailed", hash_(9), u32(2), text("EVAL_FALSE")),
    ("DeploymentSignalled", text("taproot"), u64(681408)),
    ("DeploymentLockedIn", text("taproot"), u64(687456)),
    ("DeploymentActivated", text("taproot"), u64(709632)),
    ("UnknownRulesSignalled", u8(13), u64(702861)),
    ("SyncStarted", u64(0), opt(u64(702861))),
    ("SyncProgress", u64(350000), opt(None)),
    ("HeadersSynced", u64(702861)),
    ("SyncCompleted", u64(702861)),
    ("SyncStalled", u64(350000), u64(60000000)),
    ("BlockStored", hash_(1), u64(702861), u64(1381836)),
    ("StorageFlushed", u64(450000000), u64(2000000)),
    ("BlocksPruned", u64(0), u64(1000)),
    ("IndexBuilt", text("txindex"), u64(702861)),
    ("StorageFailed", text("write"), text("no space left")),
    ("SnapshotCreated", hash_(1), u64(702861), u64(5000000000)),
    ("ModuleLoaded", text("watcher"), text("0.3.0")),
    ("ModuleStarted", text("watcher"), opt(u32(4711))),
    ("ModuleReady", text("watcher"), text("0.3.0")),
    ("ModuleStopped", text("watcher"), text("done")),
    ("ModuleCrashed", text("watcher"), opt(None), opt(u32(9))),
    ("ModuleRestarted", text("watcher"), u32(2)),
    ("ModulePermissionDenied", text("watcher"), text("GetUTXO"), seq([text("ReadUTXO")])),
    ("ModuleHealthChanged", text("watcher"), text("degraded"), text("slow disk")),
    ("ModuleGrantsChanged", text("watcher"), seq([text("ReadBlockchain"), text("ReadUTXO")])),
    ("NodeStarting", text("0.1.0")),
    ("NodeReady", text("0.1.0")),
    ("NodeStopping", text("operator"), u64(5000000)),
    ("ConfigReloaded", seq([])),
    ("NodeFault", text("indexer"), text("panicked")),
    ("MaintenanceStarted", text("vacuum")),
    ("MaintenanceCompleted", text("vacuum"), u64(1500000)),
    ("BackupCompleted", text("nightly"), u64(123456789)),
    ("DataCompacted", u64(1000000), u64(600000)),
    ("UpgradeAvailable", text("0.2.0")),
    ("MemoryPressure", u64(900), u64(1000)),
    ("DiskPressure", u64(100), u64(500)),
    ("ProcessorPressure", u32(950)),
    ("DescriptorsLow", u32(1000), u32(1024)),
    ("ModuleQuotaExceeded", text("watcher"), text("requests per minute"), u64(600)),
    ("ResourcesRecovered", text("memory")),
]


def events():
    for number, (name, *fields) in enumerate(EVENTS):
        body = u32(number) + u32(number) + b"".join(fields)
        position, previous = 1000 + number, 500 + number
        yield f"plain-event-{name}", f"topic {number}", plain(EVENT, body)
        yield (
            f"x1-event-{name}",
            f"topic {number} at position {position}, previous of the topic {previous}",
            x1(EVENT, position, body, PREV=u64(previous)),
        )
    later = u32(250) + u32(250) + u64(7)
    yield "plain-event-later", "topic 250, of a later version", plain(EVENT, later)
    yield "x1-event-later", "topic 250 at position 1, the topic's first", x1(EVENT, 1, later, PREV=u64(0))


# --- [10.4] log messages


def logs():
    target = (1, b"watcher::chain")
    fields = (
        2,
        b"".join(
            u16(len(name)) + name + u16(len(value)) + value
            for name, value in [(b"height", b"702861"), ("straße".encode(), b"")]
        ),
    )
    for level, name in enumerate(["error", "warn", "info", "debug", "trace"]):
        body = u32(level) + text(f"a message of level {name}") + text("watcher")
        yield f"plain-log-{name}", "without target and fields", plain(LOG, body)
        yield f"x1-log-{name}", "with target and two fields", x1(LOG, 0, body, RECORDS=records(target, fields))
    yield "x1-log-bare", "without records", x1(LOG, 0, u32(2) + text("") + text("watcher"))
    yield "x1-log-later-record", "with a record of a later version", x1(
        LOG, 0, u32(2) + text("hello") + text("watcher"), RECORDS=records(target, (9000, b"later"))
    )


# --- [10.6] invocations


def invocations():
    settings = pairs(("interval_s", "30"), ("name", "größe"))
    calls = [
        ("health", request(0)),
        ("call", request(1, text("summarise") + data(b"\x01\x02\x03"))),
        ("configure", request(2, settings)),
        ("prepare-shutdown", request(3, u64(2500000))),
    ]
    results = [
        ("health", u32(0) + data(u32(1) + text("slow disk"))),
        ("returned", u32(0) + data(b"\x09\x08")),
        ("nothing", u32(0) + data(b"")),
        ("error", error(8, "could not save", ("file", "state.db"))),
        ("not-found", NOT_FOUND),
    ]
    for ident, (name, body) in enumerate(calls, start=1):
        yield f"plain-invocation-{name}", f"call {ident}", call(INVOCATION, ident, body)
    for ident, (name, body) in enumerate(results, start=1):
        yield f"plain-invocation-result-{name}", f"answer to call {ident}", call(INVOCATION_RESULT, ident, body)


# --- [3] kinds 8 to 15 and a skipped one


def control():
    yield "x1-cancel", "of call 5", x1(CANCEL, 5, b"")
    yield "x1-ping", "with nonce 0x1122334455667788", x1(PING, 0x1122334455667788, b"")
    yield "x1-pong", "with nonce 0x1122334455667788", x1(PONG, 0x1122334455667788, b"")
    yield "x1-goodbye", "shutdown, resume at 42", x1(GOODBYE, 0, u32(1) + u64(42) + text("the node stops"))
    yield "x1-goodbye-done", "done, nothing to resume, no detail", x1(GOODBYE, 0, u32(0) + u64(0) + text(""))
    yield "x1-goodbye-violation", "violation 15", x1(GOODBYE, 0, u32(271) + u64(0) + text("nobody asked"))
    yield "x1-lagged", "positions 10 to 19", x1(LAGGED, 0, u64(10) + u64(19))
    yield "x1-credit", "up to 50331648 bytes", x1(CREDIT, 0, u64(50331648))
    yield "x1-progress", "3 of 10 of call 5", x1(PROGRESS, 5, u64(3) + u64(10))
    yield "x1-grants-changed", "two left", x1(GRANTS_CHANGED, 0, seq([text("ReadBlockchain"), text("ReadUTXO")]))
    yield "x1-grants-changed-none", "none left", x1(GRANTS_CHANGED, 0, seq([]))
    yield "x1-skipped", "kind 200 with every flag, a number that is no id and a body: skipped", frame(
        u32(0xFFFFFF00 | 200) + u64(99) + b"later"
    )


# --- [3] flags

DEADLINE = u64(250000)
TRACE = bytes(range(16)) + bytes(range(32, 40)) + b"\x01"
KEY = bytes(range(200, 216))
RESUME = (3, u64(1001))
OVERFLOW = (4, u8(2))


def flags():
    tip = request(3)
    subscribe = request(6, seq([u32(0)]))
    yield "x1-flags-deadline", "a request with 250 ms left", x1(REQUEST, 1, tip, DEADLINE=DEADLINE)
    yield "x1-flags-trace", "a request with trace context", x1(REQUEST, 2, tip, TRACE=TRACE)
    yield "x1-flags-idempotency", "a request with an idempotency key", x1(REQUEST, 3, tip, IDEMPOTENCY=KEY)
    yield "x1-flags-records", "a subscription from position 1001, disconnect on overflow", x1(
        REQUEST, 4, subscribe, RECORDS=records(RESUME, OVERFLOW)
    )
    yield "x1-flags-later-record", "a response with a record of a later version", x1(
        RESPONSE, 5, NOT_FOUND, RECORDS=records((9000, b"later"))
    )
    yield "x1-flags-no-records", "a response whose records are none", x1(RESPONSE, 6, NOT_FOUND, RECORDS=records())
    yield "x1-flags-request", "a request with all that a body in one piece may have", x1(
        REQUEST, 7, subscribe, DEADLINE=DEADLINE, TRACE=TRACE, IDEMPOTENCY=KEY, RECORDS=records(RESUME, OVERFLOW)
    )
    yield "x1-flags-invocation", "an invocation with all that a body in one piece may have", x1(
        INVOCATION, 8, request(0), DEADLINE=DEADLINE, TRACE=TRACE, IDEMPOTENCY=KEY, RECORDS=records((9000, b""))
    )
    yield "x1-flags-event", "an event with a record of a later version", x1(
        EVENT, 9, u32(11) + u32(11) + u64(12), PREV=u64(8), RECORDS=records((9000, b"later"))
    )


# --- [7] bulk


def bulk():
    body = success(0, data(pattern(16385 - 16)))
    yield "x1-bulk-one-fragment", "a block as the shortest bulk body: 16385 bytes, one fragment", x1(
        RESPONSE, 1, body, TOTAL=u64(len(body))
    )
    body = request(13, data(pattern(65537 - 16)))
    yield "x1-bulk-first", "a transaction of 65537 bytes, every flag that a request may have", x1(
        REQUEST,
        2,
        body[:65536],
        DEADLINE=DEADLINE,
        TRACE=TRACE,
        IDEMPOTENCY=KEY,
        TOTAL=u64(len(body)),
        MORE=b"",
        RECORDS=records((9000, b"later")),
    )
    yield "x1-bulk-last", "its last byte", x1(REQUEST, 2, body[65536:])


# --- [9] [L-1] [M-1] [M-2] bodies that do not decode


def invalid():
    yield "plain-invalid-request-type", "type 3 with payload 4", call(REQUEST, 1, u32(3) + u32(4))
    yield "plain-invalid-request-unknown", "type 99 with payload 99", call(REQUEST, 2, request(99))
    yield "plain-invalid-request-short", "a hash of 31 bytes", call(REQUEST, 3, request(0, hash_(1)[:31]))
    yield "plain-invalid-request-long", "one byte too many", call(REQUEST, 4, request(3) + b"\x00")
    yield "plain-invalid-request-event-type", "a subscription to 250", call(REQUEST, 5, request(6, seq([u32(250)])))
    yield "plain-invalid-request-list", "257 event types", call(REQUEST, 6, request(6, seq([u32(0)] * 257)))
    yield "plain-invalid-request-claim", "2^63 event types, none there", call(REQUEST, 7, request(6, u64(1 << 63)))
    yield "plain-invalid-request-raw", "a transaction that ends early", call(
        REQUEST, 8, request(13, u64(27) + RAW_TX)
    )
    yield "plain-invalid-request-empty", "no body at all", call(REQUEST, 9, b"")
    yield "plain-invalid-response-variant", "response variant 3", call(RESPONSE, 10, u32(3))
    yield "plain-invalid-response-option", "an option that begins with 2", call(
        RESPONSE, 11, success(2, b"\x02" + data(RAW_TX))
    )
    yield "plain-invalid-response-bool", "a bool of 2", call(
        RESPONSE, 12, success(5, u32(0) + u64(1) + u64(1) + b"\x02" + data(b""))
    )
    yield "plain-invalid-response-utf8", "a message that is not UTF-8", call(
        RESPONSE, 13, u32(1) + u32(8) + data(b"\xff") + pairs()
    )
    yield "plain-invalid-event-type", "type 11 with payload 49", plain(EVENT, u32(11) + u32(49) + u64(1))
    yield "plain-invalid-event-long", "one byte too many", plain(EVENT, u32(11) + u32(11) + u64(1) + b"\x00")
    yield "plain-invalid-log-level", "level 5", plain(LOG, u32(5) + text("m") + text("watcher"))
    yield "plain-invalid-invocation-type", "type 0 with payload 3", call(INVOCATION, 14, u32(0) + u32(3) + u64(1))
    yield "plain-invalid-invocation-unknown", "type 4", call(INVOCATION, 15, request(4))


# --- files

FILES = {
    "handshake": handshake,
    "requests": requests,
    "responses": responses,
    "events": events,
    "logs": logs,
    "invocations": invocations,
    "control": control,
    "flags": flags,
    "bulk": bulk,
    "invalid": invalid,
}


def rendered(vectors):
    lines = []
    for name, meaning, encoded in vectors:
        lines.append(f"# {name}: {meaning}")
        digits = encoded.hex()
        lines.extend(digits[at : at + 128] for at in range(0, len(digits), 128))
    return "\n".join(lines) + "\n"


def main():
    directory = Path(__file__).resolve().parent.parent / "docs" / "vectors"
    wanted = {f"{name}.hex": rendered(vectors()) for name, vectors in FILES.items()}
    if sys.argv[1:] == ["--check"]:
        there = {path.name: path.read_text("utf-8") for path in directory.glob("*.hex")}
        off = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
        for name in off:
            print(f"docs/vectors/{name} is not what scripts/vectors.py writes: run it, and look at the difference")
        return 1 if off else 0
    if sys.argv[1:]:
        print(__doc__)
        return 64
    directory.mkdir(exist_ok=True)
    for name, content in wanted.items():
        (directory / name).write_text(content, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
