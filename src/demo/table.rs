//! Plain-text tables, and numbers as people read them.

use std::fmt;

use rust_decimal::Decimal;

use crate::domain::exact;

/// Which side of its column a cell stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table: a head, rows, and rules between them.
pub struct Table {
    columns: Vec<(String, Side)>,
    rows: Vec<Option<Vec<String>>>,
}

impl Table {
    /// With these columns.
    pub fn new(columns: &[(&str, Side)]) -> Self {
        let columns = columns.iter().map(|(head, side)| ((*head).to_owned(), *side)).collect();
        Self { columns, rows: vec![None] }
    }

    /// Adds a row; cells that are not given stay empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut cells: Vec<String> = cells.into_iter().collect();
        cells.resize(self.columns.len(), String::new());
        self.rows.push(Some(cells));
    }

    /// Adds a rule.
    pub fn rule(&mut self) {
        self.rows.push(None);
    }

    fn widths(&self) -> Vec<usize> {
        let width = |text: &String| text.chars().count();
        let of_column = |(i, (head, _)): (usize, &(String, Side))| {
            let cells = self.rows.iter().flatten().map(|cells| width(&cells[i]));
            cells.chain([width(head)]).max().unwrap_or(0)
        };
        self.columns.iter().enumerate().map(of_column).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let line = |cells: &[String]| {
            let cells = cells.iter().zip(&self.columns).zip(&widths);
            let cells = cells.map(|((text, (_, side)), &width)| match side {
                Side::Left => format!("{text:<width$}"),
                Side::Right => format!("{text:>width$}"),
            });
            format!("  {}", cells.collect::<Vec<_>>().join("   ")).trim_end().to_owned()
        };
        let heads: Vec<String> = self.columns.iter().map(|(head, _)| head.clone()).collect();
        writeln!(f, "{}", line(&heads))?;
        let whole = widths.iter().sum::<usize>() + 3 * widths.len().saturating_sub(1);
        for row in &self.rows {
            match row {
                Some(cells) => writeln!(f, "{}", line(cells))?,
                None => writeln!(f, "  {}", "─".repeat(whole))?,
            }
        }
        Ok(())
    }
}

/// Rounded half-even to so many decimals, thousands apart: `-1,234.50`.
pub fn number(value: Decimal, decimals: u32) -> String {
    let mut rounded = exact::round_to(value, decimals);
    rounded.rescale(decimals);
    let text = rounded.abs().to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let sign = if rounded.is_sign_negative() && !rounded.is_zero() { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{grouped}{point}{fraction}")
}

/// As [`number`], with its sign in any case: for gains.
pub fn signed(value: Decimal, decimals: u32) -> String {
    let text = number(value, decimals);
    if text.starts_with('-') || value.is_zero() { text } else { format!("+{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn d(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn numbers_are_grouped_and_rounded_half_to_even() {
        assert_eq!(number(d("1234567.125"), 2), "1,234,567.12");
        assert_eq!(number(d("999.999"), 2), "1,000.00");
        assert_eq!(number(d("-1234.5"), 0), "-1,234");
        assert_eq!(number(d("-0.001"), 2), "0.00");
        assert_eq!(number(d("12"), 3), "12.000");
        assert_eq!(signed(d("12"), 2), "+12.00");
        assert_eq!(signed(d("-12"), 2), "-12.00");
    }

    #[test]
    fn columns_align_and_nothing_trails() {
        let mut table = Table::new(&[("asset", Side::Left), ("units", Side::Right)]);
        table.row(["A".into(), "1,204".into()]);
        table.rule();
        table.row(["total".into()]);
        assert_eq!(
            table.to_string(),
            "  asset   units\n  ─────────────\n  A       1,204\n  ─────────────\n  total\n"
        );
    }
}
