//! An event as stored and sent.
