//! The one integration binary: a module a subject. `scripts/test` starts the servers it needs; without them it fails.

mod embedded;
mod environment;
mod servers;
