//! HTTP: commands in, answers out.
