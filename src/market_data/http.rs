//! Any address that answers with JSON or CSV: the settings say where in the answer things are.
//!
//! In JSON a thing is named by a pointer (RFC 6901), in CSV by its column. Of a list, `rows` points at the list and the other
//! pointers begin at each of its members.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveTime, SubsecRound, Utc};
use chrono_tz::Tz;
use serde::Deserialize;
use serde_json::Value;

use super::seen::{self, DECIMALS_MAX, Seen, Told, When};
use super::table;
use super::url::escape;

/// Instants are kept to the microsecond.
const INSTANT_DECIMALS: u16 = 6;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// JSON.
    Json,
    /// CSV with a line of names.
    Csv,
}

/// Where to ask, and where in the answer things are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// The address after the source's base, with `{symbol}`, `{from}`, `{to}` (days) and `{key}` where they belong.
    pub path: String,
    /// How the answer is written.
    pub format: Format,
    /// JSON: the list, if there is one.
    pub rows: Option<String>,
    /// The price.
    pub price: String,
    /// When: seconds since 1970, an instant, or a day.
    pub time: String,
    /// Of closes: the exchange's time zone, such as `Asia/Tokyo`. Without it, seconds are in UTC and an instant is of the day
    /// that it says itself.
    pub time_zone: Option<String>,
    /// Units traded.
    pub volume: Option<String>,
    /// The currency, in JSON; where the whole answer says it.
    pub currency: Option<String>,
}

impl Template {
    /// What is wrong with it, if anything is.
    pub fn check(&self) -> Result<(), String> {
        let pointers = [self.rows.as_deref(), Some(&*self.price), Some(&*self.time), self.volume.as_deref()];
        let is_pointer = |text: &str| text.is_empty() || text.starts_with('/');
        match self.format {
            _ if !self.path.starts_with('/') => Err("path must begin with /".to_owned()),
            Format::Json if !pointers.into_iter().flatten().all(is_pointer) => {
                Err("rows, price, time and volume must be JSON pointers such as /chart/price".to_owned())
            }
            Format::Csv if self.rows.is_some() || self.currency.is_some() => {
                Err("rows and currency are for JSON".to_owned())
            }
            _ => self.zone().map(drop),
        }
    }

    fn zone(&self) -> Result<Option<Tz>, String> {
        let zone = self.time_zone.as_deref().map(str::parse).transpose();
        zone.map_err(|_| "time_zone must be one such as Asia/Tokyo".to_owned())
    }

    /// The address to ask.
    pub fn url(&self, base: &str, symbol: &str, days: (NaiveDate, NaiveDate), key: &str) -> String {
        let path = self
            .path
            .replace("{symbol}", &escape(symbol))
            .replace("{from}", &days.0.to_string())
            .replace("{to}", &days.1.to_string())
            .replace("{key}", &escape(key));
        format!("{base}{path}")
    }

    /// The latest price.
    ///
    /// # Errors
    /// Why nothing can be taken from it.
    pub fn read_quote(&self, body: &[u8]) -> Result<Told, String> {
        let told = self.read(body, |time| match instant(time)? {
            Time::Day(day) => Ok(When::At(day.and_time(NaiveTime::MIN).and_utc())),
            Time::Seconds(at) => Ok(When::At(at)),
            // As it is kept: what differs by less is the same instant.
            Time::Instant(at) => Ok(When::At(at.with_timezone(&Utc).trunc_subsecs(INSTANT_DECIMALS))),
        })?;
        if told.seen.len() == 1 { Ok(told) } else { Err("tells more than one price, or none".to_owned()) }
    }

    /// Closes.
    ///
    /// # Errors
    /// Why nothing can be taken from it.
    pub fn read_history(&self, body: &[u8]) -> Result<Told, String> {
        let zone = self.zone()?;
        self.read(body, |time| {
            Ok(When::Day(match (instant(time)?, zone) {
                (Time::Day(day), _) => day,
                (Time::Seconds(at), Some(zone)) => at.with_timezone(&zone).date_naive(),
                (Time::Seconds(at), None) => at.date_naive(),
                (Time::Instant(at), Some(zone)) => at.with_timezone(&zone).date_naive(),
                (Time::Instant(at), None) => at.date_naive(),
            }))
        })
    }

    fn read(&self, body: &[u8], when: impl Fn(&str) -> Result<When, String>) -> Result<Told, String> {
        let seen = |price: &str, time: &str, volume: Option<&str>| {
            Ok::<_, String>(Seen {
                when: when(time)?,
                price: seen::price(price, DECIMALS_MAX)?,
                volume: volume.and_then(seen::volume),
            })
        };
        if self.format == Format::Csv {
            let volume: Vec<&str> = self.volume.as_deref().into_iter().collect();
            let rows = table::read(body, &[&self.price, &self.time], &volume)?;
            let rows = rows.iter().map(|row| {
                let volume = row.optional.first().and_then(Option::as_deref);
                seen(&row.cells[0], &row.cells[1], volume)
            });
            return Ok(Told { seen: rows.collect::<Result<_, _>>()?, ..Told::default() });
        }
        let document: Value = serde_json::from_slice(body).map_err(|error| seen::not_json(body, &error))?;
        let whole = std::slice::from_ref(&document);
        let rows = match &self.rows {
            Some(rows) => at(&document, rows)?.as_array().ok_or("has no list where the rows should be")?,
            None => whole,
        };
        let read = |row: &Value| {
            let volume = self.volume.as_deref().and_then(|pointer| row.pointer(pointer)).map(text);
            seen(&text(at(row, &self.price)?), &text(at(row, &self.time)?), volume.as_deref())
        };
        let currency =
            self.currency.as_deref().map(|pointer| at(&document, pointer).map(text)).transpose()?;
        Ok(Told { currency, seen: rows.iter().map(read).collect::<Result<_, _>>()?, ..Told::default() })
    }
}

fn at<'v>(value: &'v Value, pointer: &str) -> Result<&'v Value, String> {
    value.pointer(pointer).ok_or_else(|| format!("has nothing at {pointer}"))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A time as it is written.
enum Time {
    Seconds(DateTime<Utc>),
    Instant(DateTime<FixedOffset>),
    Day(NaiveDate),
}

fn instant(text: &str) -> Result<Time, String> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(Time::Seconds(seen::unix_seconds(seconds)?));
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(Time::Instant(at));
    }
    seen::day(text).map(Time::Day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(toml: &str) -> Template {
        let template: Template = toml::from_str(toml).unwrap();
        template.check().unwrap();
        template
    }

    #[test]
    fn a_quote_is_found_by_pointers() {
        let template = template(
            r#"path = "/last/{symbol}?k={key}"
            format = "json"
            price = "/data/last"
            time = "/data/t"
            currency = "/data/ccy""#,
        );
        let days = ("2024-01-01".parse().unwrap(), "2024-03-01".parse().unwrap());
        assert_eq!(template.url("http://h", "A/B", days, "s p"), "http://h/last/A%2FB?k=s%20p");
        let told = template.read_quote(br#"{"data":{"last":"12.5","t":1709326801,"ccy":"EUR"}}"#).unwrap();
        assert_eq!(told.currency.as_deref(), Some("EUR"));
        assert_eq!(told.seen[0].when, When::At("2024-03-01T21:00:01Z".parse().unwrap()));
        assert_eq!(template.read_quote(b"{}").unwrap_err(), "has nothing at /data/ccy");
        let null = br#"{"data":{"last":null,"t":1,"ccy":"EUR"}}"#;
        assert!(template.read_quote(null).unwrap_err().contains("no number"));
    }

    #[test]
    fn closes_come_as_rows_of_json_or_csv() {
        let json = template(
            r#"path = "/x"
            format = "json"
            rows = "/days"
            price = "/c"
            time = "/d""#,
        );
        let told = json.read_history(br#"{"days":[{"c":1.5,"d":"2024-02-29"},{"c":1.6,"d":"2024-03-01"}]}"#);
        assert_eq!(told.unwrap().seen.len(), 2);
        let csv = template(
            r#"path = "/x"
            format = "csv"
            price = "close"
            time = "day"
            volume = "volume""#,
        );
        let told = csv.read_history(b"day,close,volume\n2024-03-01,1.6,10\n").unwrap();
        assert_eq!(told.seen[0].volume, Some("10".parse().unwrap()));
    }

    #[test]
    fn a_close_is_of_the_exchanges_day() {
        let days = |zone: &str, time: &str| {
            let text = format!("path = \"/x\"\nformat = \"json\"\nprice = \"/c\"\ntime = \"/d\"\n{zone}");
            let body = format!("{{\"c\":1.5,\"d\":{time}}}");
            template(&text).read_history(body.as_bytes()).unwrap().seen[0].when.to_string()
        };
        assert_eq!(days("", "\"2024-03-01T00:00:00+09:00\""), "2024-03-01");
        assert_eq!(days("", "\"2024-03-01T20:00:00-05:00\""), "2024-03-01");
        // Midnight in Tokyo.
        assert_eq!(days("", "1709218800"), "2024-02-29");
        assert_eq!(days("time_zone = \"Asia/Tokyo\"", "1709218800"), "2024-03-01");
        assert_eq!(days("time_zone = \"Asia/Tokyo\"", "\"2024-02-29T15:00:00Z\""), "2024-03-01");
    }

    #[test]
    fn an_instant_of_nanoseconds_is_the_one_that_is_kept() {
        let template = template("path = \"/x\"\nformat = \"json\"\nprice = \"/c\"\ntime = \"/d\"");
        let told = template.read_quote(br#"{"c":1,"d":"2024-03-01T11:00:00.123456789Z"}"#).unwrap();
        assert_eq!(told.seen[0].when, When::At("2024-03-01T11:00:00.123456Z".parse().unwrap()));
    }

    #[test]
    fn a_wrong_template_is_told() {
        let wrong: Template =
            toml::from_str("path = \"/x\"\nformat = \"json\"\nprice = \"price\"\ntime = \"/t\"").unwrap();
        assert!(wrong.check().unwrap_err().contains("JSON pointers"));
        assert!(toml::from_str::<Template>("path = \"/x\"\ncolour = 1").is_err());
        let zone = Template { price: "/p".into(), time_zone: Some("Mars/Olympus".into()), ..wrong };
        assert!(zone.check().unwrap_err().starts_with("time_zone must be one"));
    }
}
