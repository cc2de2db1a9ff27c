//! modipc-node.
