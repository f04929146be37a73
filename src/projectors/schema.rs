//! The schemas of the read models: made where they are missing, recognised where they are not.
//!
//! A schema's comment is the hash of the text it was made from. Read models are disposable, so a changed text is not
//! migrated: it is an error that names the cure.

use std::time::Duration;

use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnectOptions, PgPool};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::Error;
use crate::postgres::pool_options;

/// One process at a time makes schemas.
const SCHEMAS_LOCK: i64 = 0x696e_7369_6768_7401;
/// How long a connection may take to be had before it counts as dead: an idle one is tried first.
const ACQUIRE_WITHIN: Duration = Duration::from_secs(2);
/// What every schema begins with.
const COMMON: &str = include_str!("../../projections/checkpoints.sql");

/// A read model's tables.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// The read model's name and, unless it is being built beside the live one, its schema's.
    pub name: &'static str,
    tables: &'static str,
}

macro_rules! schemas {
    ($($name:literal),* $(,)?) => {
        /// Every read model, in the order in which they are made from each other.
        pub const ALL: &[Schema] = &[$(Schema {
            name: $name,
            tables: include_str!(concat!("../../projections/", $name, "/schema.sql")),
        }),*];
    };
}

schemas!["directory", "holdings", "prices", "valuations", "activity", "risk"];

impl Schema {
    /// The read model of that name.
    ///
    /// # Errors
    /// [`Error::UnknownReadModel`].
    pub fn named(name: &str) -> Result<Self, Error> {
        let found = ALL.iter().find(|schema| schema.name == name);
        found.copied().ok_or_else(|| Error::UnknownReadModel(name.to_owned()))
    }

    /// The comment by which a schema of this shape is recognised.
    fn shape(self) -> String {
        let digest = Sha256::new().chain_update(COMMON).chain_update(self.tables).finalize();
        let hash: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("shape {hash}")
    }
}

/// Makes the schemas that are missing. Any number of processes may do so at once.
///
/// # Errors
/// [`Error::ChangedShape`] for the first schema that was made from another text; [`Error::Database`].
pub async fn apply_all(pool: &PgPool) -> Result<(), Error> {
    apply(pool, None).await
}

/// The same for a program that is about to make `rebuilt` anew, which may therefore have any shape.
///
/// # Errors
/// As [`apply_all`].
pub async fn apply_others(pool: &PgPool, rebuilt: &str) -> Result<(), Error> {
    apply(pool, Some(rebuilt)).await
}

async fn apply(pool: &PgPool, rebuilt: Option<&str>) -> Result<(), Error> {
    let mut tx = pool.begin().await?;
    sqlx::query("select pg_advisory_xact_lock($1)").bind(SCHEMAS_LOCK).execute(&mut *tx).await?;
    for schema in ALL {
        match found_shape(&mut tx, schema.name).await? {
            None => create(&mut tx, *schema).await?,
            Some(shape) if shape == schema.shape() || rebuilt == Some(schema.name) => {}
            Some(_) => return Err(Error::ChangedShape { read_model: schema.name.to_owned() }),
        }
    }
    tx.commit().await?;
    Ok(())
}

/// Drops a read model's schema with all its rows and makes it anew, in one transaction.
///
/// # Errors
/// [`Error::Database`].
pub async fn recreate(conn: &mut PgConnection, schema: Schema) -> Result<(), Error> {
    let mut tx = conn.begin().await?;
    sqlx::query("select pg_advisory_xact_lock($1)").bind(SCHEMAS_LOCK).execute(&mut *tx).await?;
    let drop = format!("drop schema if exists {} cascade", schema.name);
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut *tx).await?;
    create(&mut tx, schema).await?;
    tx.commit().await?;
    Ok(())
}

/// A pool whose statements name no schema and mean this one.
pub fn pool_in(pool: &PgPool, schema: &str, connections_max: u32) -> PgPool {
    let options: PgConnectOptions = (*pool.connect_options()).clone();
    let options = options
        .application_name(&format!("insight project {schema}"))
        // A frozen process must not keep its successor waiting for the checkpoint's rows.
        .options([("search_path", schema), ("idle_in_transaction_session_timeout", "5000")]);
    pool_options().max_connections(connections_max).acquire_timeout(ACQUIRE_WITHIN).connect_lazy_with(options)
}

async fn found_shape(conn: &mut PgConnection, schema: &str) -> Result<Option<String>, Error> {
    const SQL: &str =
        "select coalesce(obj_description(oid, 'pg_namespace'), '') from pg_namespace where nspname = $1";
    Ok(sqlx::query_scalar(SQL).bind(schema).fetch_optional(conn).await?)
}

async fn create(conn: &mut PgConnection, schema: Schema) -> Result<(), Error> {
    let Schema { name, tables } = schema;
    let shape = schema.shape();
    let script = format!(
        "create schema {name}; set local search_path = {name};\n{COMMON}\n{tables}\n\
         comment on schema {name} is '{shape}'; set local search_path = default;"
    );
    sqlx::raw_sql(AssertSqlSafe(script)).execute(conn).await?;
    tracing::info!(read_model = name, shape, "tables made");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_names_are_unique_over_all_read_models() {
        let mut seen = std::collections::BTreeSet::new();
        for schema in ALL {
            for line in schema.tables.lines() {
                if let Some(rest) = line.strip_prefix("create table ") {
                    let table = rest.split_whitespace().next().unwrap_or_default();
                    assert!(seen.insert(table), "{table} stands in two read models");
                }
            }
        }
        assert!(seen.contains("lots"));
    }
}
