//! The schemas of the read models: made where they are missing, recognised where they are not.
//!
//! A schema's comment is the hash of the text it was made from. Read models are disposable, so a changed text is not
//! migrated: it has another version, and so another schema (`holdings`, then `holdings_v2`), which the program that knows
//! it builds beside the one that an older program still serves. A changed text without another version is an error that
//! names the cure.
//!
//! Beside a schema stand, for a while, `…_next`, which a rebuild fills, and `…_old`, which it has replaced.

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
    /// The read model's name.
    pub name: &'static str,
    /// Counts shapes. The first has the schema of the read model's name, the second `…_v2`, and so on.
    pub version: u32,
    tables: &'static str,
}

macro_rules! schemas {
    ($($name:literal $version:literal),* $(,)?) => {
        /// Every read model with the version of its shape, in the order in which they are made from each other.
        pub const ALL: &[Schema] = &[$(Schema {
            name: $name,
            version: $version,
            tables: include_str!(concat!("../../projections/", $name, "/schema.sql")),
        }),*];
    };
}

schemas!["directory" 1, "holdings" 1, "prices" 1, "valuations" 1, "activity" 1, "risk" 1, "jobs" 1];

impl Schema {
    /// The read model of that name.
    ///
    /// # Errors
    /// [`Error::UnknownReadModel`].
    pub fn named(name: &str) -> Result<Self, Error> {
        let found = ALL.iter().find(|schema| schema.name == name);
        found.copied().ok_or_else(|| Error::UnknownReadModel(name.to_owned()))
    }

    /// The schema that statements name.
    pub fn live(self) -> String {
        Self::of_version(self.name, self.version)
    }

    /// The schema that a rebuild fills.
    pub fn next(self) -> String {
        format!("{}_next", self.live())
    }

    /// The schema that a rebuild has replaced.
    pub fn old(self) -> String {
        format!("{}_old", self.live())
    }

    /// The schemas that older programs serve, with what rebuilds left beside them.
    pub fn of_older_programs(self) -> Vec<String> {
        let versions = (1..self.version).map(|version| Self::of_version(self.name, version));
        versions.flat_map(|live| [format!("{live}_next"), format!("{live}_old"), live]).collect()
    }

    fn of_version(name: &str, version: u32) -> String {
        if version == 1 { name.to_owned() } else { format!("{name}_v{version}") }
    }

    /// The comment by which a schema of this shape is recognised.
    pub(super) fn shape(self) -> String {
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
    apply_others(pool, &[]).await
}

/// The same for a program that is about to make `rebuilt` anew, which may therefore have any shape, or be missing.
///
/// # Errors
/// As [`apply_all`].
pub async fn apply_others(pool: &PgPool, rebuilt: &[&str]) -> Result<(), Error> {
    let mut tx = pool.begin().await?;
    lock(&mut tx).await?;
    for schema in ALL.iter().filter(|schema| !rebuilt.contains(&schema.name)) {
        let live = schema.live();
        match found_shape(&mut tx, &live).await? {
            None => create(&mut tx, *schema, &live).await?,
            Some(shape) if shape == schema.shape() => {}
            Some(_) => return Err(Error::ChangedShape { read_model: schema.name.to_owned() }),
        }
    }
    tx.commit().await?;
    Ok(())
}

/// Lets one process at a time make schemas, until the end of the transaction.
pub(super) async fn lock(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_advisory_xact_lock($1)").bind(SCHEMAS_LOCK).execute(conn).await?;
    Ok(())
}

/// Drops a schema with all that is in it, if it is there.
pub(super) async fn drop_schema(conn: &mut PgConnection, name: &str) -> Result<(), sqlx::Error> {
    let drop = format!("drop schema if exists {name} cascade");
    sqlx::raw_sql(AssertSqlSafe(drop)).execute(conn).await?;
    Ok(())
}

/// Drops a read model's schema with all its rows and makes it anew, in one transaction.
///
/// # Errors
/// [`Error::Database`].
pub async fn recreate(conn: &mut PgConnection, schema: Schema) -> Result<(), Error> {
    let mut tx = conn.begin().await?;
    lock(&mut tx).await?;
    drop_schema(&mut tx, &schema.live()).await?;
    create(&mut tx, schema, &schema.live()).await?;
    tx.commit().await?;
    Ok(())
}

/// What the sessions of those who write a schema call themselves.
pub(super) fn session_name(schema: &str) -> String {
    format!("insight project {schema}")
}

/// A pool whose statements name no schema and mean this one.
pub fn pool_in(pool: &PgPool, schema: &str, connections_max: u32) -> PgPool {
    let options: PgConnectOptions = (*pool.connect_options()).clone();
    let options = options
        .application_name(&session_name(schema))
        // A frozen process must not keep its successor waiting for the checkpoint's rows.
        .options([("search_path", schema), ("idle_in_transaction_session_timeout", "5000")]);
    pool_options().max_connections(connections_max).acquire_timeout(ACQUIRE_WITHIN).connect_lazy_with(options)
}

/// A pool on the live schema of a read model.
///
/// # Errors
/// [`Error::UnknownReadModel`].
pub fn live_pool(pool: &PgPool, read_model: &str, connections_max: u32) -> Result<PgPool, Error> {
    Ok(pool_in(pool, &Schema::named(read_model)?.live(), connections_max))
}

/// The comment of a schema; none if it is not there.
pub(super) async fn found_shape(conn: &mut PgConnection, schema: &str) -> Result<Option<String>, Error> {
    const SQL: &str =
        "select coalesce(obj_description(oid, 'pg_namespace'), '') from pg_namespace where nspname = $1";
    Ok(sqlx::query_scalar(SQL).bind(schema).fetch_optional(conn).await?)
}

/// Makes a read model's tables in a schema of this name.
pub(super) async fn create(conn: &mut PgConnection, schema: Schema, name: &str) -> Result<(), Error> {
    let (shape, tables) = (schema.shape(), schema.tables);
    let script = format!(
        "create schema {name}; set local search_path = {name};\n{COMMON}\n{tables}\n\
         comment on schema {name} is '{shape}'; set local search_path = default;"
    );
    sqlx::raw_sql(AssertSqlSafe(script)).execute(conn).await?;
    tracing::info!(read_model = schema.name, schema = name, shape, "tables made");
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

    #[test]
    fn another_version_has_another_schema() {
        let holdings = Schema { version: 2, ..Schema::named("holdings").unwrap() };
        assert_eq!(holdings.live(), "holdings_v2");
        assert_eq!((holdings.next(), holdings.old()), ("holdings_v2_next".into(), "holdings_v2_old".into()));
        assert_eq!(holdings.of_older_programs(), ["holdings_next", "holdings_old", "holdings"]);
        assert!(Schema { version: 1, ..holdings }.of_older_programs().is_empty());
    }

    /// A statement that names a schema means the one that this program serves, and no other version of it.
    #[test]
    fn statements_name_schemas_of_the_list_only() {
        let mut named = 0;
        for (path, text) in files("projections", "sql") {
            for schema in schemas_named(&text) {
                let is_listed = ALL.iter().any(|listed| listed.live() == schema);
                assert!(is_listed, "{path} names {schema}, which is not in the list");
                named += 1;
            }
        }
        assert!(named > 20, "{named} schemas are named");
    }

    /// `status` and `verify` know nothing of projectors and name schemas themselves: a raised version is raised there as well.
    #[test]
    fn what_looks_at_read_models_from_outside_names_the_schemas_of_the_list() {
        let looking: Vec<(String, String)> =
            ["src/verify", "src/queries/status"].iter().flat_map(|folder| files(folder, "rs")).collect();
        for (path, text) in &looking {
            assert_eq!(older_shapes_named(ALL, text), [""; 0], "{path} names schemas of an older program");
        }
        // What would be told if `holdings` had another shape.
        let raised = [Schema { version: 2, ..Schema::named("holdings").unwrap() }];
        let told: Vec<&str> = looking
            .iter()
            .filter(|(_, text)| !older_shapes_named(&raised, text).is_empty())
            .map(|(path, _)| path.as_str())
            .collect();
        for path in ["verify/mod.rs", "verify/structure.rs", "verify/holdings.rs", "queries/status/mod.rs"] {
            assert!(told.iter().any(|it| it.ends_with(path)), "{path} is not among {told:?}");
        }
    }

    /// Names of schemas that these shapes have replaced: as a string of their own, or before the name of a table.
    fn older_shapes_named(shapes: &[Schema], text: &str) -> Vec<String> {
        let raised = shapes.iter().filter(|shape| shape.version > 1);
        let named = raised.filter(|shape| {
            let is_a_string = text.contains(&format!("\"{}\"", shape.name));
            is_a_string || schemas_named(text).iter().any(|schema| schema == shape.name)
        });
        named.map(|shape| shape.name.to_owned()).collect()
    }

    /// Every file below a folder of the repository whose name ends so, with its text.
    fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut folders = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|it| it == extension) {
                    found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
                }
            }
        }
        found
    }

    /// Whatever stands before the name of a table, and is called like a read model.
    fn schemas_named(sql: &str) -> Vec<String> {
        let tables: Vec<&str> = ALL
            .iter()
            .flat_map(|schema| schema.tables.lines().chain(COMMON.lines()))
            .filter_map(|line| line.strip_prefix("create table ")?.split_whitespace().next())
            .collect();
        let statement = sql.lines().map(|line| line.split("--").next().unwrap_or_default());
        let statement: Vec<&str> = statement.collect();
        let words = statement.join(" ");
        let words = words.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '.');
        words
            .filter_map(|word| word.split_once('.'))
            .filter(|(schema, table)| {
                let is_read_model = ALL.iter().any(|listed| schema.starts_with(listed.name));
                is_read_model && tables.contains(table)
            })
            .map(|(schema, _)| schema.to_owned())
            .collect()
    }
}
