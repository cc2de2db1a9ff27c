//! modipc-module.
