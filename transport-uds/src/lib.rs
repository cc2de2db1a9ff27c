//! modipc-transport-uds.
