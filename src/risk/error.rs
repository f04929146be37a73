//! Why a request for risk is refused at the border.

use super::quantile::Confidence;

/// What makes an input unusable. A figure that merely cannot be had is no error: it is null with a reason.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The text is not a confidence strictly between 0 and 1 with at most 6 decimals.
    #[error("confidence {text:?} is not a number between 0 and 1 with at most 6 decimals")]
    Confidence {
        /// As given, shortened.
        text: String,
    },
    /// n(1 − c) < 1.
    #[error("{scenarios} scenarios say nothing about a confidence of {confidence}")]
    TooFewScenarios {
        /// n.
        scenarios: usize,
        /// c.
        confidence: Confidence,
    },
    /// An exposure is NaN, infinite, or beyond [`MAX_EXPOSURE`](super::exposure::MAX_EXPOSURE).
    #[error("exposure to {column} is not a finite amount of money")]
    Exposure {
        /// The column it is an exposure to.
        column: String,
    },
    /// A close that no return can be made of.
    #[error("closes of {column}: {reason}")]
    Closes {
        /// The column they belong to.
        column: String,
        /// What is wrong with them.
        reason: &'static str,
    },
    /// Two series for one column.
    #[error("{column} is given twice")]
    DuplicateColumn {
        /// The column.
        column: String,
    },
    /// ν is not in (2, 1000].
    #[error("degrees of freedom must be greater than 2 and at most 1000, not {given}")]
    DegreesOfFreedom {
        /// As given.
        given: f64,
    },
    /// Paths are not 16 × 2^m.
    #[error("paths must be 16 times a power of two, from 1024 to 1048576, not {given}")]
    Paths {
        /// As given.
        given: usize,
    },
    /// The window is too short to estimate anything, or absurd.
    #[error("window must be from 2 to 100000 returns, not {given}")]
    Window {
        /// As given.
        given: usize,
    },
    /// The operating system refused a thread.
    #[error("risk threads could not be started: {reason}")]
    Pool {
        /// As rayon says it.
        reason: String,
    },
}
