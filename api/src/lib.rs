//! modipc-api.
