//! modipc-transport-mem.
