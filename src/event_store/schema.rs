//! The schema of the log, forward only.

use sqlx::PgPool;
use sqlx::migrate::{Migration, Migrator};

use super::Error;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Brings the event store's tables and functions up to date. Several processes may call it at once.
///
/// # Errors
/// [`Error::Migrate`], also when a newer program has already migrated further than this one knows.
pub async fn apply(pool: &PgPool) -> Result<(), Error> {
    Ok(MIGRATIONS.run(pool).await?)
}

/// What [`apply`] runs, in order.
pub fn migrations() -> impl Iterator<Item = &'static Migration> {
    MIGRATIONS.iter()
}
