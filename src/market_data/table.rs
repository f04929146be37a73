//! CSV by the names of its columns.

use super::seen;

/// Most rows that a table may have: a day each for 270 years.
const ROWS_MAX: usize = 100_000;

/// A row: the columns that must be there, and those that may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// In the order in which they were asked for.
    pub cells: Vec<String>,
    /// In the order in which they were asked for.
    pub optional: Vec<Option<String>>,
}

/// Reads a table with a first line of names.
///
/// # Errors
/// It is none, a column is missing, or it breaks off.
pub fn read(body: &[u8], needed: &[&str], optional: &[&str]) -> Result<Vec<Row>, String> {
    if seen::is_html(body) {
        return Err("answers with a web page".to_owned());
    }
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(body);
    let names = reader.headers().map_err(|_| "answers with what is no table".to_owned())?.clone();
    let place = |name: &str| names.iter().position(|found| found.eq_ignore_ascii_case(name));
    let needed: Result<Vec<usize>, String> = needed
        .iter()
        .map(|name| place(name).ok_or_else(|| format!("answers with a table without a column {name}")))
        .collect();
    let (needed, optional) = (needed?, optional.iter().map(|name| place(name)).collect::<Vec<_>>());
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|_| "answers with what is no table".to_owned())?;
        if record.len() != names.len() {
            return Err("answers with half a table".to_owned());
        }
        if rows.len() == ROWS_MAX {
            return Err(format!("answers with more than {ROWS_MAX} lines"));
        }
        let cell = |at: usize| record.get(at).unwrap_or_default().to_owned();
        rows.push(Row {
            cells: needed.iter().map(|at| cell(*at)).collect(),
            optional: optional.iter().map(|at| at.map(cell)).collect(),
        });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_name_in_any_order() {
        let rows = read(b"volume, close ,DATE\n5,1.5,2024-03-01\n", &["Date", "Close"], &["Volume", "Open"])
            .unwrap();
        assert_eq!(
            rows,
            [Row { cells: vec!["2024-03-01".into(), "1.5".into()], optional: vec![Some("5".into()), None] }]
        );
        assert_eq!(read(b"a,b\n", &["Date"], &[]).unwrap_err(), "answers with a table without a column Date");
    }
}
