//! The `modipc` command.
fn main() {}
