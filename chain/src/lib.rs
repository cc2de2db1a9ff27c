//! modipc-chain.
