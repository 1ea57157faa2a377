//! The `nanorelay` program.
fn main() {}
