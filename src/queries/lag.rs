//! How far read models are behind the log: what readiness is judged by.

use sqlx::PgPool;

use super::Error;

/// A read model beside the head of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Lag {
    /// Its name.
    pub read_model: String,
    /// Events of the log that its slowest shard has not been scanned for.
    pub events: i64,
    /// How long the first of them has waited, in seconds.
    pub seconds: f64,
}

/// Every read model, by name.
///
/// # Errors
/// The database.
pub async fn list_lags(pool: &PgPool) -> Result<Vec<Lag>, Error> {
    let rows = sqlx::query_file!("projections/list_lags.sql").fetch_all(pool).await?;
    let lag = rows.into_iter().map(|row| Lag {
        read_model: row.read_model,
        events: row.events,
        seconds: row.seconds,
    });
    Ok(lag.collect())
}
