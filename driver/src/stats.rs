//! What a link has done so far.

/// Counters of one link, since it was made. They only rise.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Bytes that were read.
    pub bytes_in: u64,
    /// Bytes that were written.
    pub bytes_out: u64,
    /// Reads that gave bytes.
    pub reads: u64,
    /// Writes that took bytes.
    pub writes: u64,
    /// Calls that were issued.
    pub calls: u64,
    /// Calls that were refused before they were issued.
    pub refused: u64,
    /// Issued calls that were answered.
    pub replies: u64,
    /// Issued calls whose deadline passed.
    pub deadlines_exceeded: u64,
    /// Issued calls that were cancelled on this side.
    pub cancelled: u64,
    /// Issued calls that ended with the connection.
    pub lost: u64,
}
