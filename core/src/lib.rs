//! modipc-core.
