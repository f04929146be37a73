//! Compares tables with the rows that the reference expects.
//!
//! Every column is compared, and a column that nobody expects is a difference, so that a new one cannot go unjudged. Rows
//! come as JSON objects of texts: one way to read every table, and no value passes through a type of the program.
//!
//! Stored and expected rows are walked side by side in the order of the first key, so that no more than the rows of one
//! portfolio or asset is held at a time.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use serde_json::value::RawValue;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::report::{ColumnDifference, Report};
use super::units::Units;

/// What a column should hold.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    /// Texts, ids, days, whole numbers, yes and no: as PostgreSQL writes them in JSON.
    Text(String),
    Number(Units),
    /// Equal to the bit.
    Float(f64),
    Instant(DateTime<Utc>),
}

/// Columns and what they should hold; the key's columns first.
pub(super) type Row = Vec<(&'static str, Cell)>;

/// A row as it is stored.
pub(super) type Stored = BTreeMap<String, Option<String>>;

/// A table of a read model.
pub(super) struct Table {
    /// With its schema.
    pub name: &'static str,
    /// The columns that name a row. The first one is a UUID, or a text that is sorted byte by byte.
    pub keys: &'static [&'static str],
}

/// Which rows of a table.
#[derive(Debug, Clone)]
pub(super) enum Scope {
    All,
    /// Those whose first key is one of these.
    Of(Vec<Uuid>),
}

/// The stored rows, and where the verdict goes.
pub(super) struct Rows<'a> {
    pub conn: &'a mut PgConnection,
    /// Tables that cannot be read.
    pub broken: &'a BTreeSet<String>,
    pub report: &'a mut Report,
    /// Rows that were compared, by read model.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Scope {
    /// Rows of these portfolios or assets. What is no UUID has no rows.
    pub(super) fn of<'i>(ids: impl IntoIterator<Item = &'i String>) -> Self {
        Self::Of(ids.into_iter().filter_map(|id| id.parse().ok()).collect())
    }
}

impl Rows<'_> {
    /// Compares rows of a table with the expected ones, which come in groups of one first key each, in order.
    pub(super) async fn compare(
        &mut self,
        table: &Table,
        scope: &Scope,
        groups: impl Iterator<Item = (String, Vec<Row>)> + Send,
    ) -> Result<(), sqlx::Error> {
        if self.broken.contains(table.name) {
            return Ok(());
        }
        let report = &mut *self.report;
        let mut groups = groups.filter(|(_, rows)| !rows.is_empty()).peekable();
        let mut group = Group::empty(table, String::new());
        let mut count = 0;
        let mut stored = all(self.conn, table, scope);
        while let Some(row) = stored.try_next().await? {
            count += 1;
            let first = row.get(table.keys[0]).cloned().flatten().unwrap_or_default();
            if first != group.first {
                group.finish(report);
                while let Some((_, rows)) = groups.next_if(|(id, _)| *id < first) {
                    Group::new(table, String::new(), rows).finish(report);
                }
                group = match groups.next_if(|(id, _)| *id == first) {
                    Some((id, rows)) => Group::new(table, id, rows),
                    None => Group::empty(table, first),
                };
            }
            group.meet(&row, report);
        }
        group.finish(report);
        for (_, rows) in groups {
            Group::new(table, String::new(), rows).finish(report);
        }
        let read_model = table.name.split('.').next().unwrap_or_default();
        *self.counts.entry(read_model).or_default() += count;
        Ok(())
    }

    /// Rows whose first key is none that the log knows.
    pub(super) async fn strays(
        &mut self,
        table: &Table,
        is_known: impl Fn(&str) -> bool + Send,
    ) -> Result<(), sqlx::Error> {
        if self.broken.contains(table.name) {
            return Ok(());
        }
        let Table { name, keys } = table;
        let sql = format!("select {0}::text, count(*) from {name} group by 1", keys[0]);
        let mut found = sqlx::query_as::<_, (String, i64)>(AssertSqlSafe(sql)).fetch(&mut *self.conn);
        while let Some((id, count)) = found.try_next().await? {
            if !is_known(&id) {
                let found = format!("{count} rows should not be there: the log knows no such {}", keys[0]);
                self.report.differs(format_args!("{name} {id}"), found);
            }
        }
        Ok(())
    }
}

/// The expected rows of one first key that have not been met yet.
struct Group<'t> {
    table: &'t Table,
    first: String,
    missing: BTreeMap<Vec<String>, Row>,
}

impl<'t> Group<'t> {
    fn empty(table: &'t Table, first: String) -> Self {
        Self { table, first, missing: BTreeMap::new() }
    }

    fn new(table: &'t Table, first: String, rows: Vec<Row>) -> Self {
        let keys = table.keys.len();
        let missing = rows.into_iter().map(|row| (key_of(&row[..keys]), row)).collect();
        Self { table, first, missing }
    }

    fn meet(&mut self, row: &Stored, report: &mut Report) {
        let part = |name: &&str| row.get(*name).cloned().flatten().unwrap_or_default();
        let key: Vec<String> = self.table.keys.iter().map(part).collect();
        match self.missing.remove(&key) {
            Some(expected) => compare_row(self.table, &key.join(" "), &expected, row, report),
            None => {
                report.differs(format_args!("{} {}", self.table.name, shown(row)), "should not be there");
            }
        }
    }

    fn finish(&self, report: &mut Report) {
        for key in self.missing.keys() {
            report.differs(format_args!("{} {}", self.table.name, key.join(" ")), "is missing");
        }
    }
}

/// Rows of a table, in the order of the first key.
pub(super) fn all<'c>(
    conn: &'c mut PgConnection,
    table: &Table,
    scope: &Scope,
) -> impl futures::Stream<Item = Result<Stored, sqlx::Error>> + Send + Unpin + 'c {
    let Table { name, keys } = table;
    let first = keys[0];
    let collate = if first.ends_with("_id") { "" } else { " collate \"C\"" };
    let (which, ids) = match scope {
        Scope::All => (String::new(), Vec::new()),
        Scope::Of(ids) => (format!("where {first} = any($1)"), ids.clone()),
    };
    let sql = format!("select row_to_json(t)::text from {name} t {which} order by t.{first}{collate}");
    let query = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql));
    let query = if which.is_empty() { query } else { query.bind(ids) };
    Box::pin(query.fetch(conn).and_then(|text| std::future::ready(read(&text))))
}

fn read(text: &str) -> Result<Stored, sqlx::Error> {
    let is_unreadable = |error: serde_json::Error| sqlx::Error::Decode(error.into());
    let columns: BTreeMap<String, Box<RawValue>> = serde_json::from_str(text).map_err(is_unreadable)?;
    let value = |(name, value): (String, Box<RawValue>)| {
        let text = match value.get() {
            "null" => None,
            text if text.starts_with('"') => Some(serde_json::from_str(text).map_err(is_unreadable)?),
            text => Some(text.to_owned()),
        };
        Ok((name, text))
    };
    columns.into_iter().map(value).collect()
}

fn compare_row(table: &Table, key: &str, expected: &Row, stored: &Stored, report: &mut Report) {
    let name = table.name;
    for (column, cell) in expected {
        match stored.get(*column) {
            None => report.differs(format_args!("{name} {key}, {column}"), "there is no such column"),
            Some(found) if !cell.is(found.as_deref()) => report.column_differs(ColumnDifference {
                table: name.to_owned(),
                key: key.to_owned(),
                column: (*column).to_owned(),
                expected: cell.show(),
                stored: found.clone().unwrap_or_else(|| "null".to_owned()),
            }),
            Some(_) => {}
        }
    }
    for column in stored.keys().filter(|name| !expected.iter().any(|(column, _)| column == name)) {
        report.differs(format_args!("{name} {key}, {column}"), "is a column that nobody compares");
    }
}

fn key_of(columns: &[(&'static str, Cell)]) -> Vec<String> {
    columns.iter().map(|(_, cell)| cell.show()).collect()
}

fn shown(row: &Stored) -> String {
    let columns = row.iter().map(|(name, value)| format!("{name}={}", value.as_deref().unwrap_or("null")));
    columns.collect::<Vec<_>>().join(" ")
}

impl Cell {
    fn is(&self, stored: Option<&str>) -> bool {
        match (self, stored) {
            (Self::Null, stored) => stored.is_none(),
            (_, None) => false,
            (Self::Text(text), Some(stored)) => text == stored,
            (Self::Number(units), Some(stored)) => Units::parse(stored) == Some(*units),
            (Self::Float(number), Some(stored)) => {
                stored.parse::<f64>().is_ok_and(|stored| stored.to_bits() == number.to_bits())
            }
            (Self::Instant(instant), Some(stored)) => {
                DateTime::parse_from_rfc3339(stored).is_ok_and(|stored| stored == *instant)
            }
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Text(text) => text.clone(),
            Self::Number(units) => units.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Instant(instant) => instant.to_rfc3339(),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<i64> for Cell {
    fn from(number: i64) -> Self {
        Self::Text(number.to_string())
    }
}

impl From<i16> for Cell {
    fn from(number: i16) -> Self {
        Self::Text(number.to_string())
    }
}

impl From<bool> for Cell {
    fn from(flag: bool) -> Self {
        Self::Text(flag.to_string())
    }
}

impl From<Units> for Cell {
    fn from(units: Units) -> Self {
        Self::Number(units)
    }
}

impl From<DateTime<Utc>> for Cell {
    fn from(instant: DateTime<Utc>) -> Self {
        Self::Instant(instant)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
