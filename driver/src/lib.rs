//! modipc-driver.
