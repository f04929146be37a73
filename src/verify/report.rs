//! What was compared, and what differs.

use std::fmt;

/// Differences that are spelled out; the others are counted.
const DIFFERENCES_MAX: usize = 100;
/// Characters of a place, and of what was found there.
const CHARS_MAX: usize = 400;

/// The verdict.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The last position of the log.
    pub head: i64,
    /// Read models that were compared.
    pub read_models: Vec<Compared>,
    /// The first differences.
    pub differences: Vec<Difference>,
    /// All of them.
    pub difference_count: u64,
}

/// A read model that was compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Its name.
    pub name: &'static str,
    /// Nothing at or below this position is missing from its rows; `None` where it has no tables, or no checkpoint yet.
    pub scanned_to: Option<i64>,
    /// Rows that were compared.
    pub rows: u64,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// A table and row, a position, a stream.
    pub place: String,
    /// What was found, and what should be.
    pub found: String,
}

impl Report {
    /// Whether everything is as it should be.
    pub fn is_clean(&self) -> bool {
        self.difference_count == 0
    }

    pub(super) fn differs(&mut self, place: impl fmt::Display, found: impl fmt::Display) {
        self.difference_count += 1;
        if self.differences.len() < DIFFERENCES_MAX {
            self.differences.push(Difference { place: short(place), found: short(found) });
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
        writeln!(f, "{:<12} {} events", "log", self.head)?;
        for Compared { name, scanned_to, rows } in &self.read_models {
            match scanned_to {
                None => writeln!(f, "{name:<12} not there")?,
                Some(place) => writeln!(f, "{name:<12} {rows} rows, up to position {place}")?,
            }
        }
        for Difference { place, found } in &self.differences {
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
