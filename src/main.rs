//! Parse, run the role, set the exit code.

fn main() {}
