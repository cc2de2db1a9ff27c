//! modipc-tests.
