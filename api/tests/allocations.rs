//! A header asked for and answered costs no allocation, and a block no copy: counted by an allocator, not assumed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use modipc_api::{BlockHash, BlockHeader, NativeDialect, RawBlock, Request, Response, ResponseData};
use modipc_core::{Dialect, Kind};

struct Counting;

thread_local! {
    static ALLOCATED: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

fn count(bytes: usize) {
    // Threads that are being torn down have no counter; nothing is measured there.
    let _ = ALLOCATED.try_with(|cell| {
        let (times, total) = cell.get();
        cell.set((times + 1, total + bytes));
    });
}

// SAFETY: every call is handed to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: the caller's contract is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations and allocated bytes of `work`, on this thread.
fn allocated<T>(work: impl FnOnce() -> T) -> (T, (usize, usize)) {
    ALLOCATED.set((0, 0));
    let result = work();
    (result, ALLOCATED.get())
}

#[test]
fn the_counter_counts() {
    let (vec, (times, bytes)) = allocated(|| Vec::<u8>::with_capacity(1000));
    assert_eq!((vec.len(), times, bytes), (0, 1, 1000));
}

#[test]
fn a_header_costs_no_allocation() {
    let request = Request::GetBlockHeader { hash: BlockHash::from_bytes([7; 32]) };
    let header = BlockHeader::from_bytes([9; 80]);
    let response = Response::Success(ResponseData::BlockHeader(header));
    let mut out = Vec::with_capacity(128);

    let (_, cost) = allocated(|| request.encode(&mut out));
    assert_eq!(cost, (0, 0), "encoding the request");
    let (_, cost) = allocated(|| NativeDialect.classify(Kind::Request, &out));
    assert_eq!(cost, (0, 0), "classifying it");
    let (decoded, cost) = allocated(|| Request::decode(&out));
    assert_eq!((decoded, cost), (Ok(request), (0, 0)), "decoding it");

    out.clear();
    let (_, cost) = allocated(|| response.encode(&mut out));
    assert_eq!(cost, (0, 0), "encoding the response");
    let body = Bytes::from(out);
    let (decoded, cost) = allocated(|| Response::decode_shared(&body));
    assert_eq!((decoded, cost), (Ok(response), (0, 0)), "decoding it");
}

#[test]
fn a_block_is_not_copied() {
    const BLOCK: usize = 1 << 20;
    let response = Response::Success(ResponseData::Block(RawBlock::new(vec![5; BLOCK].into())));
    let mut head = Vec::with_capacity(64);
    let (tail, (_, bytes)) = allocated(|| response.encode_parts(&mut head));
    assert!(tail.len() == BLOCK && bytes < 100, "{bytes} bytes to encode a block");
    let body = Bytes::from([&head[..], &tail].concat());
    let (decoded, (_, bytes)) = allocated(|| Response::decode_shared(&body));
    assert!(decoded == Ok(response) && bytes < 100, "{bytes} bytes to decode a block");
}

#[test]
fn a_claimed_length_costs_nothing() {
    // A list of txids, of peers, of event types; an error's details: each claims 2^40 elements and has none.
    let claims = [(7u32, 0u32), (9, 0), (14, 0)].map(|(data, success)| {
        [&success.to_le_bytes()[..], &data.to_le_bytes(), &(1u64 << 40).to_le_bytes()].concat()
    });
    let details = [&1u32.to_le_bytes()[..], &[0; 4], &[0; 8], &(1u64 << 40).to_le_bytes()].concat();
    for body in claims.iter().chain([&details]) {
        let (decoded, (_, bytes)) = allocated(|| Response::decode(body));
        assert!(decoded.is_err() && bytes == 0, "{bytes} bytes for {body:?}");
    }
}
