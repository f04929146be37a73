//! Rows on their way into a table by COPY, in PostgreSQL's binary form, and what they add up to.
//!
//! A rebuild writes millions of rows: COPY takes a third of what statements with arrays take. The bytes of a row are the
//! ones that PostgreSQL gives back for it, so a sum over them says whether what stands in a table is what was sent: the
//! order of the rows does not matter to it, and a missing, doubled or changed row does.

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::{Decimal, RoundingStrategy};
use sqlx::PgConnection;
use sqlx::postgres::PgCopyIn;
use uuid::Uuid;

/// What every stream of rows begins with: signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// … and ends with.
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();
/// How much is sent in one message.
const MESSAGE_BYTES: usize = 1 << 20;
/// Decimals of every amount in a row.
const DECIMALS: u32 = 10;

/// Rows of one table on their way, in the transaction of this connection, whose `search_path` says which schema.
pub struct Table<'c> {
    copy: PgCopyIn<&'c mut PgConnection>,
    written: Written,
    bytes: Vec<u8>,
}

/// How many rows there are, and a sum over their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// The number of rows.
    pub rows: u64,
    /// Adds up in any order.
    pub checksum: u64,
}

/// What was written into a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The table, without a schema.
    pub table: &'static str,
    /// Its columns in the order in which they were summed up.
    pub columns: &'static str,
    /// What the rows add up to.
    pub sum: Sum,
}

impl<'c> Table<'c> {
    /// Begins to write rows of these columns, which have commas between them.
    pub async fn open(
        conn: &'c mut PgConnection,
        table: &'static str,
        columns: &'static str,
    ) -> Result<Self, sqlx::Error> {
        let statement = format!("copy {table} ({columns}) from stdin (format binary)");
        let copy = conn.copy_in_raw(&statement).await?;
        let written = Written { table, columns, sum: Sum::default() };
        let mut bytes = Vec::with_capacity(MESSAGE_BYTES + 4_096);
        bytes.extend_from_slice(HEADER);
        Ok(Self { copy, written, bytes })
    }

    /// Adds a row: one cell a column.
    pub async fn push(&mut self, cells: &[&(dyn Cell + Sync)]) -> Result<(), sqlx::Error> {
        let start = self.bytes.len();
        encode(cells, &mut self.bytes);
        self.written.sum.add(&self.bytes[start..]);
        if self.bytes.len() >= MESSAGE_BYTES {
            self.copy.send(self.bytes.as_slice()).await?;
            self.bytes.clear();
        }
        Ok(())
    }

    /// Ends the statement.
    pub async fn finish(mut self) -> Result<Written, sqlx::Error> {
        self.bytes.extend_from_slice(&TRAILER);
        self.copy.send(self.bytes.as_slice()).await?;
        self.copy.finish().await?;
        Ok(self.written)
    }
}

/// The number of cells, then each with its length before it.
fn encode(cells: &[&(dyn Cell + Sync)], out: &mut Vec<u8>) {
    let count = i16::try_from(cells.len()).expect("a table has at most 1,600 columns");
    out.extend_from_slice(&count.to_be_bytes());
    for cell in cells {
        let at = out.len();
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        if cell.write(out) {
            let length = (out.len() - at - 4) as i32;
            out[at..at + 4].copy_from_slice(&length.to_be_bytes());
        }
    }
}

impl Sum {
    /// Adds the bytes of one row.
    pub fn add(&mut self, row: &[u8]) {
        self.rows += 1;
        self.checksum = self.checksum.wrapping_add(hash(row));
    }

    /// Adds what other rows add up to.
    pub fn join(&mut self, other: Self) {
        self.rows += other.rows;
        self.checksum = self.checksum.wrapping_add(other.checksum);
    }
}

/// Eight bytes at a time: fast, and frozen, since sums are kept while a rebuild is interrupted.
fn hash(bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| {
        let mixed = (hash ^ word).wrapping_mul(ODD);
        mixed ^ (mixed >> 29)
    };
    let mut hash = bytes.len() as u64;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        hash = mix(hash, u64::from_le_bytes(word.try_into().expect("eight bytes")));
    }
    let mut rest = [0; 8];
    rest[..words.remainder().len()].copy_from_slice(words.remainder());
    mix(mix(hash, u64::from_le_bytes(rest)), ODD)
}

/// The rows of a `copy … to stdout (format binary)`, without what stands before and after them: each message holds one.
pub fn row_of_message(message: &[u8]) -> Option<&[u8]> {
    let row = message.strip_prefix(HEADER).unwrap_or(message);
    (!row.is_empty() && row != TRAILER).then_some(row)
}

/// A value of one column.
pub trait Cell {
    /// Writes the value's bytes; no bytes and `false` for null.
    fn write(&self, out: &mut Vec<u8>) -> bool;
}

macro_rules! cells {
    ($($type:ty => |$value:ident, $out:ident| $write:expr;)*) => {
        $(impl Cell for $type {
            fn write(&self, $out: &mut Vec<u8>) -> bool {
                let $value = self;
                $write;
                true
            }
        })*
    };
}

cells! {
    i16 => |value, out| out.extend_from_slice(&value.to_be_bytes());
    i32 => |value, out| out.extend_from_slice(&value.to_be_bytes());
    i64 => |value, out| out.extend_from_slice(&value.to_be_bytes());
    bool => |value, out| out.push(u8::from(*value));
    Uuid => |value, out| out.extend_from_slice(value.as_bytes());
    str => |value, out| out.extend_from_slice(value.as_bytes());
    String => |value, out| out.extend_from_slice(value.as_bytes());
    NaiveDate => |value, out| {
        let days = value.signed_duration_since(millennium()).num_days();
        out.extend_from_slice(&(days as i32).to_be_bytes());
    };
    DateTime<Utc> => |value, out| {
        let since = *value - millennium().and_time(chrono::NaiveTime::MIN).and_utc();
        out.extend_from_slice(&since.num_microseconds().unwrap_or(i64::MAX).to_be_bytes());
    };
    Decimal => |value, out| write_numeric(*value, out);
    [&str] => |value, out| {
        const TEXT: i32 = 25;
        let dimensions = i32::from(!value.is_empty());
        [dimensions, 0, TEXT].iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
        if !value.is_empty() {
            [value.len() as i32, 1].iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
        }
        for text in value {
            out.extend_from_slice(&(text.len() as i32).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
    };
}

impl<T: Cell + ?Sized> Cell for &T {
    fn write(&self, out: &mut Vec<u8>) -> bool {
        (**self).write(out)
    }
}

impl<T: Cell> Cell for Option<T> {
    fn write(&self, out: &mut Vec<u8>) -> bool {
        self.as_ref().is_some_and(|value| value.write(out))
    }
}

/// What PostgreSQL counts days and microseconds from.
fn millennium() -> NaiveDate {
    NaiveDate::from_ymd_opt(2000, 1, 1).expect("a day")
}

/// A `numeric(28, 10)` as PostgreSQL sends it: digits to the base of 10,000, no zeros at either end.
fn write_numeric(value: Decimal, out: &mut Vec<u8>) {
    let value = if value.scale() > DECIMALS {
        value.round_dp_with_strategy(DECIMALS, RoundingStrategy::MidpointAwayFromZero)
    } else {
        value
    };
    // Twelve decimals are three digits to that base. What does not fit is far beyond the column, which refuses it.
    let shift = 10_u128.pow(12 - value.scale());
    let mut rest = value.mantissa().unsigned_abs().saturating_mul(shift);
    let mut digits = [0_u16; 10];
    let mut count = 0;
    while rest > 0 {
        digits[count] = (rest % 10_000) as u16;
        rest /= 10_000;
        count += 1;
    }
    let zeros = digits[..count].iter().take_while(|digit| **digit == 0).count();
    let weight = if count == 0 { 0 } else { count as i16 - 1 - 3 };
    let sign: u16 = if value.is_sign_negative() && count > 0 { 0x4000 } else { 0 };
    out.extend_from_slice(&((count - zeros) as i16).to_be_bytes());
    out.extend_from_slice(&weight.to_be_bytes());
    out.extend_from_slice(&sign.to_be_bytes());
    out.extend_from_slice(&(DECIMALS as u16).to_be_bytes());
    for digit in digits[zeros..count].iter().rev() {
        out.extend_from_slice(&digit.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric(text: &str) -> Vec<u16> {
        let mut out = Vec::new();
        write_numeric(text.parse().unwrap(), &mut out);
        out.chunks(2).map(|word| u16::from_be_bytes(word.try_into().unwrap())).collect()
    }

    #[test]
    fn numbers_have_one_form() {
        assert_eq!(numeric("0"), [0, 0, 0, 10]);
        assert_eq!(numeric("1"), [1, 0, 0, 10, 1]);
        assert_eq!(numeric("-12345.5"), [3, 1, 0x4000, 10, 1, 2345, 5000]);
        assert_eq!(numeric("0.0000000001"), [1, u16::MAX - 2, 0, 10, 100]);
        assert_eq!(numeric("10000.00"), [1, 1, 0, 10, 1]);
        assert_eq!(numeric("1.5"), numeric("1.50000"));
    }

    #[test]
    fn a_sum_does_not_care_for_order_and_does_for_everything_else() {
        let sum = |rows: &[&[u8]]| {
            let mut sum = Sum::default();
            rows.iter().for_each(|row| sum.add(row));
            sum
        };
        assert_eq!(sum(&[b"one", b"another"]), sum(&[b"another", b"one"]));
        assert_ne!(sum(&[b"one", b"one"]), sum(&[b"one"]));
        assert_ne!(sum(&[b"one"]), sum(&[b"ond"]));
        assert_ne!(sum(&[b"12345678", b"12345679"]).checksum, sum(&[b"12345670", b"12345678"]).checksum);
    }

    #[test]
    fn nulls_have_no_bytes() {
        let mut bytes = Vec::new();
        encode(&[&None::<i64>, &7_i16], &mut bytes);
        assert_eq!(bytes, [0, 2, 255, 255, 255, 255, 0, 0, 0, 2, 0, 7]);
        assert_eq!(row_of_message(HEADER), None);
        assert_eq!(row_of_message(&TRAILER), None);
    }
}
