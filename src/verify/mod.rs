//! The reference ledger and what it checks.
