//! Compares a table with the rows that the reference expects.
//!
//! Every column is compared, and a column that nobody expects is a difference, so that a new one cannot go unjudged. Rows
//! come as JSON objects of texts: one way to read every table, and no value passes through a type of the program.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use sqlx::{AssertSqlSafe, PgConnection};

use super::report::Report;
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
type Stored = BTreeMap<String, Option<String>>;

/// Compares all rows of a table with the expected ones; the first `keys` columns name a row. Gives the number of rows.
pub(super) async fn compare(
    conn: &mut PgConnection,
    table: &'static str,
    keys: usize,
    expected: Vec<Row>,
    report: &mut Report,
) -> Result<u64, sqlx::Error> {
    let mut missing: BTreeMap<Vec<String>, Row> =
        expected.into_iter().map(|row| (key_of(&row[..keys]), row)).collect();
    let columns: Vec<&str> =
        missing.values().next().map_or(Vec::new(), |row| row.iter().map(|c| c.0).collect());
    let mut count = 0;
    let mut stored = all(conn, table);
    while let Some(row) = stored.try_next().await? {
        count += 1;
        let key = columns.iter().take(keys).map(|name| row.get(*name).cloned().flatten().unwrap_or_default());
        match missing.remove(&key.collect::<Vec<_>>()) {
            Some(expected) => compare_row(table, keys, &expected, &row, report),
            None => report.differs(format_args!("{table} {}", shown(&row)), "should not be there"),
        }
    }
    for key in missing.keys() {
        report.differs(format_args!("{table} {}", key.join(" ")), "is missing");
    }
    Ok(count)
}

/// All rows of a table.
pub(super) fn all<'c>(
    conn: &'c mut PgConnection,
    table: &'static str,
) -> impl futures::Stream<Item = Result<Stored, sqlx::Error>> + Unpin + 'c {
    let sql = format!(
        "select (select json_object_agg(key, value) from json_each_text(row_to_json(t)))::text from {table} t"
    );
    let texts = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql)).fetch(conn);
    Box::pin(texts.and_then(|text| {
        let row = serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(error.into()));
        std::future::ready(row)
    }))
}

fn compare_row(table: &str, keys: usize, expected: &Row, stored: &Stored, report: &mut Report) {
    let place = |column: &str| format!("{table} {}, {column}", key_of(&expected[..keys]).join(" "));
    for (column, cell) in expected {
        match stored.get(*column) {
            None => report.differs(place(column), "there is no such column"),
            Some(found) if !cell.is(found.as_deref()) => {
                let found = found.as_deref().unwrap_or("null");
                report.differs(place(column), format_args!("is {found}, should be {}", cell.show()));
            }
            Some(_) => {}
        }
    }
    for column in stored.keys().filter(|name| !expected.iter().any(|(column, _)| column == name)) {
        report.differs(place(column), "is a column that nobody compares");
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
