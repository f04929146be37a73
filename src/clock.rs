//! The only source of the current time.
