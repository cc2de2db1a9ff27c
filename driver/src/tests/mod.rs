//! The link, moved by hand and explored.
mod calls;
mod ending;
mod interleavings;
mod kit;
mod serving;
#[cfg(not(modipc_loom))]
mod threads;
