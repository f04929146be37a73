//! What keeps the promises from now on: tables, keys, indexes, triggers and functions, compared with what this program makes.
//!
//! The program's own scripts are run in schemas of their own, in a transaction that is rolled back, and both catalogues are
//! read by the same statement. So there is no second list of what should be there, and every version of the server writes both
//! definitions alike. Schemas that are being built beside the live ones are not looked at.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use super::Error;
use super::report::Report;
use crate::event_store::schema;

/// What every read model begins with.
const COMMON: &str = include_str!("../../projections/checkpoints.sql");

macro_rules! read_models {
    ($($name:literal),* $(,)?) => {
        /// Each read model's tables.
        const READ_MODELS: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../projections/", $name, "/schema.sql")))),*];
    };
}

read_models!["directory", "holdings", "prices", "valuations", "activity", "risk", "jobs"];

/// Kind, table and name of everything in a schema, and its definition without the schema's name.
const CATALOGUE: &str = r"
with s as (select oid from pg_namespace where nspname = $1),
r as (select c.* from pg_class c join s on c.relnamespace = s.oid),
found (kind, owner, name, definition) as (
    select 'table', relname::text, '', relkind::text || ' ' || relpersistence::text || ' '
        || coalesce(array_to_string(reloptions, ','), '') || case when relrowsecurity then ' row security' else '' end
    from r where relkind in ('r', 'p', 'v', 'm', 'f')
    union all
    select 'column', r.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod)
        || case when a.attnotnull then ' not null' else '' end
        || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '') || coalesce(' collate ' || o.collname, '')
        || ' ' || a.attstorage::text || a.attidentity::text || a.attgenerated::text
    from r join pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
    left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    left join pg_collation o on o.oid = a.attcollation
    where r.relkind in ('r', 'p')
    union all
    select 'constraint', r.relname::text, c.conname::text,
        pg_get_constraintdef(c.oid) || case when c.convalidated then '' else ' not valid' end
    from r join pg_constraint c on c.conrelid = r.oid where c.contype <> 'n'
    union all
    select 'index', r.relname::text, i.relname::text,
        pg_get_indexdef(x.indexrelid) || case when x.indisvalid and x.indisready then '' else ' invalid' end
    from r join pg_index x on x.indrelid = r.oid join pg_class i on i.oid = x.indexrelid
    where r.relkind in ('r', 'p')
    union all
    select 'trigger', r.relname::text, t.tgname::text,
        pg_get_triggerdef(t.oid) || case t.tgenabled when 'O' then '' when 'D' then ' disabled' else ' ' || t.tgenabled::text end
    from r join pg_trigger t on t.tgrelid = r.oid where not t.tgisinternal
    union all
    select 'rule', r.relname::text, w.rulename::text, pg_get_ruledef(w.oid)
    from r join pg_rewrite w on w.ev_class = r.oid where r.relkind in ('r', 'p')
    union all
    select 'sequence', r.relname::text, '', q.seqstart || ' ' || q.seqincrement || ' ' || q.seqmin || ' ' || q.seqmax
        || ' ' || q.seqcycle::text
    from r join pg_sequence q on q.seqrelid = r.oid
    union all
    select 'function', p.proname::text, pg_get_function_identity_arguments(p.oid), pg_get_functiondef(p.oid)
    from pg_proc p join s on p.pronamespace = s.oid where p.prokind in ('f', 'p')
)
select kind, owner, name, replace(definition, $1 || '.', '') from found";

/// What stands in a schema, by kind, table and name.
type Catalogue = BTreeMap<(String, String, String), String>;

/// Compares; gives the tables that cannot be read as rows, since they or columns of them are missing.
///
/// # Errors
/// What is merely wrong is in the report.
pub(super) async fn check(pool: &PgPool, report: &mut Report) -> Result<BTreeSet<String>, Error> {
    let mut tx = pool.begin().await?;
    check_migrations(&mut tx, report).await?;
    let mut broken = BTreeSet::new();
    let log: Vec<&str> = schema::migrations().map(|it| it.sql.as_str()).collect();
    let log = log.join("\n;\n");
    let scripts = [("public", log)].into_iter();
    let scripts =
        scripts.chain(READ_MODELS.iter().map(|(name, tables)| (*name, format!("{COMMON}\n{tables}"))));
    for (name, script) in scripts {
        let expected = match expected(&mut tx, name, &script).await {
            Ok(expected) => expected,
            Err(error) if may_not_write(&error) => {
                report.unchecked.push(format!("tables, indexes, triggers and functions ({error})"));
                return Ok(broken);
            }
            Err(error) => return Err(error.into()),
        };
        let found = catalogue(&mut tx, name).await?;
        compare(name, &expected, &found, &mut broken, report);
    }
    for (name, tables) in READ_MODELS {
        check_shape(&mut tx, name, tables, report).await?;
    }
    tx.rollback().await?;
    Ok(broken)
}

/// A standby, or a user who may only read.
fn may_not_write(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| ["25006", "42501"].contains(&&*code))
}

async fn expected(conn: &mut PgConnection, name: &str, script: &str) -> Result<Catalogue, sqlx::Error> {
    let process: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *conn).await?;
    let schema = format!("insight_verify_{process}_{name}");
    let script = format!("create schema {schema}; set local search_path = {schema};\n{script}");
    sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut *conn).await?;
    catalogue(conn, &schema).await
}

async fn catalogue(conn: &mut PgConnection, schema: &str) -> Result<Catalogue, sqlx::Error> {
    // So that every name in a definition has its schema, which is then left out.
    sqlx::query("set local search_path = pg_catalog").execute(&mut *conn).await?;
    let rows: Vec<(String, String, String, String)> =
        sqlx::query_as(CATALOGUE).bind(schema).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|(kind, owner, name, definition)| ((kind, owner, name), definition)).collect())
}

fn compare(
    schema: &str,
    expected: &Catalogue,
    found: &Catalogue,
    broken: &mut BTreeSet<String>,
    report: &mut Report,
) {
    // Others may keep tables in `public`, and read models may share it with nobody.
    let owners: BTreeSet<&String> = expected.keys().map(|(_, owner, _)| owner).collect();
    let place = |(kind, owner, name): &(String, String, String)| match kind.as_str() {
        "function" => format!("function {schema}.{owner}({name})"),
        "table" | "sequence" => format!("{kind} {schema}.{owner}"),
        _ => format!("{kind} {name} of {schema}.{owner}"),
    };
    // Of a table that is missing everything else is missing too; of a schema it is said once.
    let is_there = |owner: &str| found.contains_key(&("table".to_owned(), owner.to_owned(), String::new()));
    let tables = expected.keys().filter(|(kind, owner, _)| kind == "table" && !is_there(owner));
    let missing: BTreeSet<&str> = tables.map(|(_, owner, _)| owner.as_str()).collect();
    broken.extend(missing.iter().map(|owner| format!("{schema}.{owner}")));
    if found.is_empty() && schema != "public" {
        return;
    }
    for (key, definition) in expected {
        let (kind, owner, _) = key;
        if kind != "table" && missing.contains(owner.as_str()) {
            continue;
        }
        match found.get(key) {
            Some(found) if found == definition => continue,
            Some(_) if kind == "function" => {
                report.differs(place(key), "has another text than this program gave it")
            }
            Some(found) => report.differs(place(key), format_args!("is `{found}`, should be `{definition}`")),
            None => report.differs(place(key), "is missing"),
        }
        if ["table", "column", "sequence"].contains(&kind.as_str()) {
            broken.insert(format!("{schema}.{owner}"));
        }
    }
    for key in found.keys().filter(|key| !expected.contains_key(*key)) {
        if schema != "public" || owners.contains(&key.1) {
            report.differs(place(key), "should not be there");
        }
    }
}

async fn check_shape(
    conn: &mut PgConnection,
    name: &str,
    tables: &str,
    report: &mut Report,
) -> Result<(), sqlx::Error> {
    const SQL: &str =
        "select coalesce(obj_description(oid, 'pg_namespace'), '') from pg_namespace where nspname = $1";
    let digest = Sha256::new().chain_update(COMMON).chain_update(tables).finalize();
    let hash: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let expected = format!("shape {hash}");
    match sqlx::query_scalar::<_, String>(SQL).bind(name).fetch_optional(conn).await? {
        None => report.differs(format_args!("schema {name}"), "is missing"),
        Some(found) if found != expected => report.differs(
            format_args!("schema {name}"),
            format_args!("has the comment `{found}`, should have `{expected}`: another program made it"),
        ),
        Some(_) => {}
    }
    Ok(())
}

/// Every migration was run, with the text that this program has.
async fn check_migrations(conn: &mut PgConnection, report: &mut Report) -> Result<(), sqlx::Error> {
    const SQL: &str = "select version, checksum, success from _sqlx_migrations order by version";
    let there = "select to_regclass('public._sqlx_migrations') is not null";
    if !sqlx::query_scalar::<_, bool>(there).fetch_one(&mut *conn).await? {
        report.differs("table public._sqlx_migrations", "is missing");
        return Ok(());
    }
    let run: Vec<(i64, Vec<u8>, bool)> = sqlx::query_as(SQL).fetch_all(conn).await?;
    let mut run: BTreeMap<i64, _> =
        run.into_iter().map(|(version, text, well)| (version, (text, well))).collect();
    for migration in schema::migrations() {
        let place = format!("migration {}", migration.version);
        match run.remove(&migration.version) {
            None => report.differs(place, "was not run on this database"),
            Some((_, false)) => report.differs(place, "was begun and did not end"),
            Some((text, _)) if *text != *migration.checksum => {
                report.differs(place, "was run with another text than this program has");
            }
            Some(_) => {}
        }
    }
    for version in run.keys() {
        report
            .differs(format_args!("migration {version}"), "is unknown to this program: a newer one has run");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_read_model_has_its_tables_here() {
        let here: BTreeSet<&str> = READ_MODELS.iter().map(|(name, _)| *name).collect();
        let there: BTreeSet<&str> = super::super::READ_MODELS.iter().map(|(name, _)| *name).collect();
        assert_eq!(here, there);
    }
}
