//! What was compared, and what differs.

use std::fmt;

use serde::Serialize;

/// Differences that are spelled out; the others are counted.
const DIFFERENCES_MAX: usize = 100;
/// Characters of a place, and of what was found there.
const CHARS_MAX: usize = 400;

/// The verdict.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The last position of the log.
    pub head: i64,
    /// Events whose bytes were compared with stored seals.
    pub sealed_events: i64,
    /// Read models that were compared.
    pub read_models: Vec<Compared>,
    /// Portfolios that were folded, where those were not all.
    pub sample: Option<Sampled>,
    /// What was not looked at, in words.
    pub unchecked: Vec<String>,
    /// The first differences.
    pub differences: Vec<Difference>,
    /// All of them.
    pub difference_count: u64,
}

/// A read model that was compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Its name.
    pub name: &'static str,
    /// Nothing at or below this position is missing from its rows; `None` where it has no tables, or no checkpoint yet.
    pub scanned_to: Option<i64>,
    /// Rows that were compared.
    pub rows: u64,
}

/// Which portfolios were folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sampled {
    /// How many.
    pub portfolios: usize,
    /// Out of so many.
    pub of: usize,
    /// The same seed chooses the same ones.
    pub seed: u64,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// A table and row, a position, a stream.
    pub place: String,
    /// What was found, and what should be.
    pub found: String,
    /// Where it is one column of one row.
    #[serde(flatten)]
    pub column: Option<ColumnDifference>,
}

/// One column of one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnDifference {
    /// With its schema.
    pub table: String,
    /// The row's, its parts with a space between.
    pub key: String,
    /// Its name.
    pub column: String,
    /// As the log has it.
    pub expected: String,
    /// As it is stored.
    pub stored: String,
}

impl Report {
    /// Whether everything is as it should be.
    pub fn is_clean(&self) -> bool {
        self.difference_count == 0
    }

    pub(super) fn differs(&mut self, place: impl fmt::Display, found: impl fmt::Display) {
        self.difference_count += 1;
        if self.differences.len() < DIFFERENCES_MAX {
            let (place, found) = (short(place), short(found));
            self.differences.push(Difference { place, found, column: None });
        }
    }

    pub(super) fn column_differs(&mut self, column: ColumnDifference) {
        self.difference_count += 1;
        if self.differences.len() < DIFFERENCES_MAX {
            let ColumnDifference { table, key, column, expected, stored } = column;
            let column =
                ColumnDifference { expected: short(expected), stored: short(stored), table, key, column };
            let place = format!("{} {}, {}", column.table, column.key, column.column);
            let found = format!("is {}, should be {}", column.stored, column.expected);
            self.differences.push(Difference { place, found, column: Some(column) });
        }
    }
}

/// A document in a column would fill screens.
fn short(text: impl fmt::Display) -> String {
    let text = text.to_string();
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<12} {} events, {} of them under a seal", "log", self.head, self.sealed_events)?;
        for Compared { name, scanned_to, rows } in &self.read_models {
            match scanned_to {
                None => writeln!(f, "{name:<12} not there")?,
                Some(place) => writeln!(f, "{name:<12} {rows} rows, up to position {place}")?,
            }
        }
        if let Some(Sampled { portfolios, of, seed }) = self.sample {
            writeln!(f, "{:<12} {portfolios} of {of} portfolios, chosen by seed {seed}", "sample")?;
        }
        for unchecked in &self.unchecked {
            writeln!(f, "not checked: {unchecked}")?;
        }
        for Difference { place, found, .. } in &self.differences {
            writeln!(f, "{place}: {found}")?;
        }
        let more = self.difference_count.saturating_sub(self.differences.len() as u64);
        if more > 0 {
            writeln!(f, "… and {more} more")?;
        }
        match self.difference_count {
            0 => write!(f, "nothing differs"),
            1 => write!(f, "1 difference"),
            n => write!(f, "{n} differences"),
        }
    }
}
