//! A portfolio's ledger: what was bought and sold, and what follows from it.

pub mod event;
