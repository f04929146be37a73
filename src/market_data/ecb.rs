//! Reference rates of the European Central Bank: `eurofxref-daily.xml`, `-hist-90d.xml`, `-hist.xml`, as
//! <https://www.ecb.europa.eu/stats/policy_and_exchange_rates/euro_reference_exchange_rates/> publishes them.
//!
//! One document has all currencies: units of each for one euro. A rate between two others would be a quotient that nobody has
//! published, so only pairs with the euro first are taken; the valuation finds its way through the euro by itself.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::seen::{self, DECIMALS_MAX, Seen, When};

/// Calendar days that the short history spans at least. The long one is hundred times as large.
pub const SHORT_DAYS: u32 = 85;

/// Rates by currency.
pub type Rates = BTreeMap<String, Vec<Seen>>;

/// Where the rates from a day on are.
pub fn url(base: &str, since: Option<NaiveDate>, today: NaiveDate) -> String {
    let file = match since.map(|since| (today - since).num_days()) {
        None | Some(..=0) => "eurofxref-daily.xml",
        Some(days) if days <= SHORT_DAYS.into() => "eurofxref-hist-90d.xml",
        Some(_) => "eurofxref-hist.xml",
    };
    format!("{base}/stats/eurofxref/{file}")
}

/// The rates from a day on, by currency. One that has none of these days has none, and is there.
///
/// # Errors
/// Why nothing can be taken from it.
pub fn read(body: &[u8], since: Option<NaiveDate>) -> Result<Rates, String> {
    if seen::is_html(body) {
        return Err("answers with a web page".to_owned());
    }
    let mut reader = Reader::from_reader(body);
    let (mut rates, mut day, mut depth, mut is_envelope) = (Rates::new(), None, 0_u32, false);
    loop {
        match reader.read_event().map_err(|error| not_xml(&error))? {
            Event::Start(tag) => {
                depth += 1;
                is_envelope |= tag.local_name().as_ref() == b"Envelope";
                take(&tag, &mut day, since, &mut rates)?;
            }
            Event::Empty(tag) => take(&tag, &mut day, since, &mut rates)?,
            Event::End(_) => depth = depth.saturating_sub(1),
            Event::Eof if depth > 0 => return Err("answers with half a document".to_owned()),
            Event::Eof => break,
            _ => {}
        }
    }
    if !is_envelope {
        return Err("answers with what is no XML of rates".to_owned());
    }
    for seen in rates.values_mut() {
        seen.sort_by_key(|seen| seen.when);
    }
    Ok(rates)
}

fn not_xml(error: &quick_xml::Error) -> String {
    // Something was opened and the document ends before it is closed.
    let is_cut = matches!(error, quick_xml::Error::Syntax(_));
    if is_cut { "answers with half a document" } else { "answers with what is no XML" }.to_owned()
}

/// `<Cube time="…">` begins a day, `<Cube currency="…" rate="…"/>` is a rate of it.
fn take(
    tag: &BytesStart<'_>,
    day: &mut Option<NaiveDate>,
    since: Option<NaiveDate>,
    rates: &mut Rates,
) -> Result<(), String> {
    if tag.local_name().as_ref() != b"Cube" {
        return Ok(());
    }
    let (mut currency, mut rate) = (None, None);
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|_| "answers with what is no XML".to_owned())?;
        let value = String::from_utf8_lossy(&attribute.value).into_owned();
        match attribute.key.as_ref() {
            b"time" => *day = Some(seen::day(&value)?),
            b"currency" => currency = Some(value),
            b"rate" => rate = Some(value),
            _ => {}
        }
    }
    let (Some(currency), Some(rate)) = (currency, rate) else { return Ok(()) };
    let day = day.ok_or("tells a rate without a day")?;
    let of_currency = rates.entry(currency.clone()).or_default();
    if since.is_none_or(|since| day >= since) {
        let price = seen::price(&rate, DECIMALS_MAX).map_err(|reason| format!("{reason} ({currency})"))?;
        of_currency.push(Seen { when: When::Day(day), price, volume: None });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAILY: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01" xmlns="http://www.ecb.int/vocabulary/2002-08-01/eurofxref">
    <gesmes:subject>Reference rates</gesmes:subject>
    <gesmes:Sender><gesmes:name>European Central Bank</gesmes:name></gesmes:Sender>
    <Cube><Cube time='2024-03-01'><Cube currency='USD' rate='1.0830'/><Cube currency='JPY' rate='162.87'/></Cube>
    <Cube time='2024-02-29'><Cube currency='USD' rate='1.0826'/></Cube></Cube>
</gesmes:Envelope>"#;

    #[test]
    fn rates_are_read_by_currency_and_day() {
        let rates = read(DAILY.as_bytes(), None).unwrap();
        let usd: Vec<String> = rates["USD"].iter().map(|it| format!("{} {}", it.when, it.price)).collect();
        assert_eq!(usd, ["2024-02-29 1.0826", "2024-03-01 1.083"]);
        assert_eq!(rates["JPY"].len(), 1);
        assert_eq!(read(DAILY.as_bytes(), Some("2024-03-01".parse().unwrap())).unwrap()["USD"].len(), 1);
        assert_eq!(read(DAILY.as_bytes(), Some("2024-03-02".parse().unwrap())).unwrap()["JPY"], []);
    }

    #[test]
    fn half_a_document_and_other_nonsense_is_refused() {
        assert_eq!(read(&DAILY.as_bytes()[..300], None).unwrap_err(), "answers with half a document");
        assert_eq!(read(b"<html>", None).unwrap_err(), "answers with a web page");
        assert_eq!(read(b"{}", None).unwrap_err(), "answers with what is no XML of rates");
        let zero = DAILY.replacen("1.0830", "0", 1);
        assert_eq!(read(zero.as_bytes(), None).unwrap_err(), "tells the price 0 (USD)");
        let day = DAILY.replacen("2024-03-01", "tomorrow", 1);
        assert!(read(day.as_bytes(), None).unwrap_err().contains("a day that is none"));
    }

    #[test]
    fn the_shortest_document_that_has_the_days_is_asked_for() {
        let today = "2024-03-01".parse().unwrap();
        let file = |since: Option<&str>| url("", since.map(|day| day.parse().unwrap()), today);
        assert!(file(None).ends_with("eurofxref-daily.xml"));
        assert!(file(Some("2024-01-10")).ends_with("eurofxref-hist-90d.xml"));
        assert!(file(Some("2020-01-10")).ends_with("eurofxref-hist.xml"));
    }
}
