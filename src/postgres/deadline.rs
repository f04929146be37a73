//! A deadline on this side of a connection. A server that vanished without a word answers nothing, and TCP alone notices it
//! late; the server's own limits are of no use then.

use std::io::ErrorKind;
use std::time::Duration;

/// How long a reader of the log waits for an answer before the connection counts as lost: longer than the slowest
/// statement of a busy server takes.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);

/// The answer, or the error of a lost connection when it takes too long. The pool makes sure that a connection which still
/// owes an answer is not used again.
///
/// # Errors
/// What the future says, or a time-out.
pub async fn answered<T, E: From<sqlx::Error>>(answer: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    answered_within(ANSWERED_WITHIN, answer).await
}

/// The same with a limit of the caller's.
///
/// # Errors
/// As [`answered`].
pub async fn answered_within<T, E: From<sqlx::Error>>(
    limit: Duration,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(sqlx::Error::Io(ErrorKind::TimedOut.into()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn silence_is_a_lost_connection() {
        let silent = std::future::pending::<Result<(), sqlx::Error>>();
        let lost = answered_within(Duration::from_millis(10), silent).await;
        assert!(matches!(lost, Err(sqlx::Error::Io(_))));
        assert_eq!(answered(async { Ok::<_, sqlx::Error>(7) }).await.unwrap(), 7);
    }
}
