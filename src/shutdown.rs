//! Asking every task to stop, and waiting for it.
