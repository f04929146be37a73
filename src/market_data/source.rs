//! One face for all sources: which address to ask about an asset, and what the answer says. Pure.

use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Tz;
use secrecy::ExposeSecret;

use super::seen::{self, Seen, Told, When};
use super::settings::{Kind, SourceSettings};
use super::summary::What;
use super::{alphavantage, demo, ecb, http, stooq, yahoo};
use crate::domain::asset::AssetClass;
use crate::domain::currency::Currency;
use crate::domain::money::Rate;

/// An asset, as far as a source needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// What the source calls it.
    pub symbol: String,
    /// What it is here.
    pub class: AssetClass,
    /// The currency it is quoted in.
    pub currency: Currency,
    /// Units of the currency in one unit of the price.
    pub quote_unit: Rate,
    /// Of a pair, the currency that is priced.
    pub base: Option<Currency>,
}

/// The days that are wanted, and the moment of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Days {
    /// The first.
    pub since: NaiveDate,
    /// Now; nothing after it is wanted.
    pub now: DateTime<Utc>,
}

impl Days {
    fn today(&self) -> NaiveDate {
        self.now.date_naive()
    }
}

/// Most prices that are taken from an answer: a day each for 270 years.
const PRICES_MAX: usize = 100_000;

/// A body, read as far as that is the same for every asset that it is about.
#[derive(Debug)]
pub enum Opened<'b> {
    /// As it came; empty where no network was needed.
    Body(&'b [u8]),
    /// The central bank's.
    Rates(ecb::Rates),
}

impl SourceSettings {
    /// Whether one answer is about all assets, so that it is asked for once.
    pub fn answers_for_all(&self) -> bool {
        self.kind == Kind::Ecb
    }

    /// Where the source is, if a close of today is final when it is published.
    pub fn settles_today_in(&self) -> Option<Tz> {
        (self.kind == Kind::Ecb).then_some(Tz::Europe__Berlin)
    }

    /// What recognises a body that says, as a success, that the limit of requests is reached.
    pub fn limit(&self) -> fn(&[u8]) -> bool {
        match self.kind {
            Kind::AlphaVantage => alphavantage::is_limit,
            _ => |_| false,
        }
    }

    /// The address to ask; none where no network is needed.
    ///
    /// # Errors
    /// Why this source cannot be asked about this.
    pub fn address(&self, what: What, subject: &Subject, days: Days) -> Result<Option<String>, String> {
        let (base, symbol, since, today) = (&self.base_url, &subject.symbol, days.since, days.today());
        let is_quote = what == What::Quotes;
        if what == What::Rates && subject.class != AssetClass::Fx {
            return Err("is no exchange rate".to_owned());
        }
        Ok(Some(match self.kind {
            Kind::Demo if subject.class == AssetClass::Fx => return Err("has no exchange rates".to_owned()),
            Kind::Demo => return Ok(None),
            Kind::Yahoo if is_quote => yahoo::quote_url(base, &self.pair(subject, "=X")),
            Kind::Yahoo => yahoo::history_url(base, &self.pair(subject, "=X"), since, today),
            Kind::AlphaVantage => {
                if subject.class == AssetClass::Fx {
                    return Err("is asked for shares only".to_owned());
                }
                let key = self.needed_key()?;
                match what {
                    What::Quotes => alphavantage::quote_url(base, symbol, key),
                    _ => alphavantage::history_url(base, symbol, key, since, today),
                }
            }
            Kind::Stooq if is_quote => stooq::quote_url(base, &self.pair(subject, "")),
            Kind::Stooq => stooq::history_url(base, &self.pair(subject, ""), since, today),
            Kind::Ecb if what != What::Rates => return Err("has exchange rates only".to_owned()),
            Kind::Ecb => ecb::url(base, Some(since), today),
            Kind::Http => {
                let template = if is_quote { &self.quotes_at } else { &self.history_at };
                let template =
                    template.as_ref().ok_or_else(|| format!("has no address for {}", what.as_str()))?;
                let key = if template.path.contains("{key}") { self.needed_key()? } else { "" };
                template.url(base, symbol, (since, today), key)
            }
        }))
    }

    /// Reads what is to be read once. `is_unframed`: nobody has told where the body ends.
    ///
    /// # Errors
    /// Why nothing can be taken from it.
    pub fn open<'b>(
        &self,
        what: What,
        since: NaiveDate,
        body: &'b [u8],
        is_unframed: bool,
    ) -> Result<Opened<'b>, String> {
        // A number that is cut in the middle is a number too; only the end of the line tells that it is whole.
        if is_unframed && self.is_table(what) && !body.ends_with(b"\n") {
            return Err("answers with half a table".to_owned());
        }
        match self.kind {
            Kind::Ecb => Ok(Opened::Rates(ecb::read(body, Some(since))?)),
            _ => Ok(Opened::Body(body)),
        }
    }

    fn is_table(&self, what: What) -> bool {
        let template = if what == What::Quotes { &self.quotes_at } else { &self.history_at };
        self.kind == Kind::Stooq || template.as_ref().is_some_and(|it| it.format == http::Format::Csv)
    }

    /// What an answer says of an asset.
    ///
    /// # Errors
    /// Why nothing can be taken from it.
    pub fn read(
        &self,
        what: What,
        subject: &Subject,
        days: Days,
        opened: &Opened<'_>,
    ) -> Result<Told, String> {
        let is_quote = what == What::Quotes;
        let body = match opened {
            Opened::Body(body) => *body,
            Opened::Rates(rates) => {
                let told = rate(subject, days, rates)?;
                self.check(subject, &told)?;
                return Ok(told);
            }
        };
        let mut told = match self.kind {
            Kind::Demo if is_quote => demo::quote(&subject.symbol, days.now),
            Kind::Demo => Ok(demo::history(&subject.symbol, days.since, days.today())),
            Kind::Yahoo if is_quote => yahoo::read_quote(body),
            Kind::Yahoo => yahoo::read_history(body, days.now),
            Kind::AlphaVantage if is_quote => alphavantage::read_quote(body),
            Kind::AlphaVantage => alphavantage::read_history(body, days.since),
            Kind::Stooq if is_quote => stooq::read_quote(body),
            Kind::Stooq => stooq::read_history(body),
            Kind::Ecb => Err("answers with what is no XML of rates".to_owned()),
            Kind::Http => match (is_quote, &self.quotes_at, &self.history_at) {
                (true, Some(template), _) => template.read_quote(body),
                (false, _, Some(template)) => template.read_history(body),
                _ => Err(format!("has no address for {}", what.as_str())),
            },
        }?;
        self.check(subject, &told)?;
        if told.seen.len() > PRICES_MAX {
            return Err(format!("tells more than {PRICES_MAX} prices"));
        }
        // Some tell more than they were asked for; what is known of those days was not looked up.
        told.seen.retain(|it| !matches!(it.when, When::Day(day) if day < days.since));
        Ok(told)
    }

    /// That the answer is about this asset, in its currency and unit.
    fn check(&self, subject: &Subject, told: &Told) -> Result<(), String> {
        let asked = match self.kind {
            Kind::Yahoo => self.pair(subject, "=X"),
            Kind::Stooq => self.pair(subject, ""),
            _ => subject.symbol.clone(),
        };
        if let Some(symbol) = &told.symbol
            && !symbol.eq_ignore_ascii_case(&asked)
        {
            return Err(format!("answers about {} instead of {asked}", seen::part(symbol)));
        }
        let told = match (&told.currency, &self.currency, subject.class) {
            (Some(currency), _, _) => currency,
            // A pair says by its name what it is in.
            (None, _, AssetClass::Fx) => return Ok(()),
            (None, Some(currency), _) => currency,
            (None, None, _) => return Ok(()),
        };
        let (currency, unit) = currency_and_unit(told);
        if currency != subject.currency.as_str() {
            return Err(format!(
                "tells prices in {}, and the asset is in {}",
                seen::part(told),
                subject.currency
            ));
        }
        if unit != subject.quote_unit.to_string() {
            let Subject { quote_unit, currency, .. } = subject;
            return Err(format!(
                "tells prices in {}, and the asset is quoted in units of {quote_unit} {currency}",
                seen::part(told)
            ));
        }
        Ok(())
    }

    /// What a source calls a pair, unless the settings name it; anything else by its name.
    fn pair(&self, subject: &Subject, suffix: &str) -> String {
        match &subject.base {
            Some(base) if !self.symbols.values().any(|named| *named == subject.symbol) => {
                format!("{base}{}{suffix}", subject.currency)
            }
            _ => subject.symbol.clone(),
        }
    }

    fn needed_key(&self) -> Result<&str, String> {
        match (&self.key, &self.key_env) {
            (Some(key), _) => Ok(key.expose_secret()),
            (None, Some(name)) => Err(format!("needs a key: set {name}")),
            (None, None) => Err("needs a key: name its variable as key_env".to_owned()),
        }
    }
}

/// The rates of a pair from a day on. A weekend in the daily document is no mistake; a currency that never occurs is.
fn rate(subject: &Subject, days: Days, rates: &ecb::Rates) -> Result<Told, String> {
    if subject.base != Some(Currency::eur()) {
        return Err(
            "has prices of the euro only: list the pair as EUR…, other rates follow from it".to_owned()
        );
    }
    let currency = subject.currency.as_str();
    let known = rates.get(currency).ok_or_else(|| format!("has no rate of {currency}"))?;
    let is_wanted = |it: &&Seen| matches!(it.when, When::Day(day) if day >= days.since);
    let seen = known.iter().filter(is_wanted).copied().collect();
    Ok(Told { currency: Some(currency.to_owned()), seen, ..Told::default() })
}

/// Providers have names of their own for a hundredth of a currency.
fn currency_and_unit(told: &str) -> (&str, &'static str) {
    match told {
        "GBp" | "GBX" => ("GBP", "0.01"),
        "ZAc" | "ZAX" => ("ZAR", "0.01"),
        "ILA" => ("ILS", "0.01"),
        other => (other, "1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market_data::Settings;

    fn source(name: &str) -> SourceSettings {
        Settings::read("", |_| None).unwrap().sources.remove(name).unwrap()
    }

    fn subject(symbol: &str, currency: &str, unit: &str) -> Subject {
        Subject {
            symbol: symbol.into(),
            class: AssetClass::Equity,
            currency: currency.parse().unwrap(),
            quote_unit: unit.parse().unwrap(),
            base: None,
        }
    }

    fn pair(base: &str, quoted: &str) -> Subject {
        let base = Some(base.parse().unwrap());
        Subject { class: AssetClass::Fx, base, ..subject(&format!("{}{quoted}", "X"), quoted, "1") }
    }

    fn days() -> Days {
        Days { since: "2024-02-01".parse().unwrap(), now: "2024-03-01T12:00:00Z".parse().unwrap() }
    }

    fn told(currency: Option<&str>, symbol: Option<&str>) -> Told {
        Told { currency: currency.map(Into::into), symbol: symbol.map(Into::into), ..Told::default() }
    }

    #[test]
    fn another_currency_unit_or_symbol_is_refused() {
        let yahoo = source("yahoo");
        let check = |subject: &Subject, told: &Told| yahoo.check(subject, told);
        let (apple, bae) = (subject("AAPL", "USD", "1"), subject("BA.L", "GBP", "0.01"));
        assert_eq!(check(&apple, &told(Some("USD"), Some("aapl"))), Ok(()));
        assert!(check(&apple, &told(Some("EUR"), None)).unwrap_err().contains("the asset is in USD"));
        assert!(check(&apple, &told(Some("USD"), Some("MSFT"))).unwrap_err().contains("instead of AAPL"));
        assert_eq!(check(&bae, &told(Some("GBp"), None)), Ok(()));
        assert!(check(&bae, &told(Some("GBP"), None)).unwrap_err().contains("units of 0.01 GBP"));
        // One that names no currency is believed to be in the one of the settings.
        assert!(source("stooq").check(&subject("SAP", "EUR", "1"), &told(None, None)).is_err());
    }

    #[test]
    fn pairs_have_other_names_and_the_central_bank_knows_the_euro_only() {
        let url =
            |name: &str| source(name).address(What::Rates, &pair("EUR", "USD"), days()).unwrap().unwrap();
        assert!(url("yahoo").contains("/EURUSD%3DX?"));
        assert!(url("stooq").contains("s=eurusd&"));
        assert!(url("ecb").ends_with("eurofxref-hist-90d.xml"));
        let body = b"<Envelope><Cube time='2024-02-29'><Cube currency='USD' rate='1.08'/></Cube></Envelope>";
        let ecb = source("ecb");
        let opened = ecb.open(What::Rates, days().since, body, false).unwrap();
        let read = |subject: &Subject| ecb.read(What::Rates, subject, days(), &opened);
        let later = Days { since: "2024-03-01".parse().unwrap(), ..days() };
        assert_eq!(ecb.read(What::Rates, &pair("EUR", "USD"), later, &opened).unwrap().seen, []);
        assert_eq!(read(&pair("EUR", "USD")).unwrap().seen.len(), 1);
        assert_eq!(read(&pair("EUR", "XYZ")).unwrap_err(), "has no rate of XYZ");
        assert!(read(&pair("GBP", "USD")).unwrap_err().contains("the euro only"));
        let refused = source("ecb").address(What::Quotes, &subject("AAPL", "USD", "1"), days());
        assert_eq!(refused.unwrap_err(), "has exchange rates only");
    }

    #[test]
    fn a_table_that_nobody_has_told_the_end_of_ends_with_a_line() {
        let stooq = source("stooq");
        let body = b"Date,Open,High,Low,Close,Volume\n2024-02-29,181.27,182.57,179.53,180.75,1366";
        let open =
            |body: &[u8], is_unframed| stooq.open(What::History, days().since, body, is_unframed).map(|_| ());
        assert_eq!(open(body, true).unwrap_err(), "answers with half a table");
        assert!(open(body, false).is_ok(), "its length was told");
        assert!(open(&[&body[..], &b"82600\n"[..]].concat(), true).is_ok());
        let json = source("yahoo").open(What::History, days().since, b"{}", true);
        assert!(json.is_ok(), "of other shapes half is recognised when they are read");
    }

    #[test]
    fn closes_of_days_that_nobody_asked_for_are_passed_over() {
        let body = b"Date,Close\n2024-01-31,1\n2024-02-01,2\n2024-02-02,3\n";
        let stooq = source("stooq");
        let opened = stooq.open(What::History, days().since, body, false).unwrap();
        let told = stooq.read(What::History, &subject("KO", "USD", "1"), days(), &opened).unwrap();
        assert_eq!(told.seen.len(), 2);
    }

    #[test]
    fn a_missing_key_is_named_by_its_variable() {
        let refused = source("alphavantage").address(What::Quotes, &subject("IBM", "USD", "1"), days());
        assert_eq!(refused.unwrap_err(), "needs a key: set ALPHAVANTAGE_API_KEY");
    }
}
