//! What can go wrong between a reader and the rows. That something is not there is an answer, not an error.

/// An error of the read side.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cursor was not made by this list: the caller's business.
    #[error("is not a cursor of this list")]
    BadCursor,
    /// The database could not be used.
    #[error("the read models: {0}")]
    Database(#[from] sqlx::Error),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] crate::event_store::Error),
}
