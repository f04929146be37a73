//! Earnings of a share, quarter by quarter: what was reported, beside what was expected.
//!
//! A later report of the same quarter replaces the earlier one, and both stay in the log; the same again is no event.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::event::{AssetClass, AssetEvent, EarningsReported};
use super::state::Asset;
use crate::domain::currency::Currency;
use crate::domain::dates;
use crate::domain::fields::Fields;
use crate::domain::money::Amount;
use crate::domain::rejection::Rejection;

/// A quarter of a year, such as `2024-Q1`. Sorts by time, also as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String", extend("pattern" = "^[12][0-9]{3}-Q[1-4]$"))]
pub struct Quarter {
    year: i32,
    number: u32,
}

impl Quarter {
    /// The quarter that a day lies in.
    pub fn of(day: NaiveDate) -> Self {
        Self { year: day.year(), number: day.month0() / 3 + 1 }
    }

    /// Its first day.
    pub fn first_day(self) -> NaiveDate {
        NaiveDate::from_ymd_opt(self.year, self.number * 3 - 2, 1).unwrap_or_default()
    }
}

impl fmt::Display for Quarter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-Q{}", self.year, self.number)
    }
}

impl FromStr for Quarter {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (year, number) = text.split_once("-Q")?;
            let is_year = year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit());
            let is_number = matches!(number, "1" | "2" | "3" | "4");
            let (year, number) = (year.parse().ok()?, number.parse().ok()?);
            let is_quarter = is_year && is_number && (1_000..3_000).contains(&year);
            is_quarter.then_some(Self { year, number })
        };
        read().ok_or("is not a quarter such as \"2024-Q1\"")
    }
}

impl Serialize for Quarter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quarter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|reason| de::Error::custom(format!("{text:?} {reason}")))
    }
}

/// Reports the earnings of a quarter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportEarnings {
    /// Which quarter.
    pub quarter: Quarter,
    /// Earnings of one share; a loss is negative.
    pub earnings_per_share: Amount,
    /// What was expected.
    pub estimate: Option<Amount>,
    /// Revenue.
    pub revenue: Option<Amount>,
    /// The currency of all three; the asset's if not told. A company may report in another than it is quoted in.
    pub currency: Option<Currency>,
    /// When it was published.
    pub reported_on: Option<NaiveDate>,
}

/// Reports earnings of an asset. What is known already is no event.
///
/// # Errors
/// [`Rejection`]: there is no such asset, it is no share, or a field is impossible.
pub fn report_earnings(
    asset: &Asset,
    command: &ReportEarnings,
    now: DateTime<Utc>,
) -> Result<Vec<AssetEvent>, Rejection> {
    let Some(listing) = asset.listing() else {
        return Err(Rejection::NotFound { kind: "asset" });
    };
    let today = dates::latest_day(now);
    let first_day = command.quarter.first_day();
    let mut fields = Fields::new();
    fields.require(listing.class == AssetClass::Equity, "asset", "is no share: only those report earnings");
    if first_day > today {
        fields.refuse("quarter", "has not begun");
    } else {
        fields.take("quarter", dates::check_day(first_day, today));
    }
    fields.require(!command.revenue.is_some_and(Amount::is_negative), "revenue", "must not be negative");
    if let Some(day) = command.reported_on {
        fields.take("reported_on", dates::check_day(day, today));
        fields.require(day >= first_day, "reported_on", "is before the quarter begins");
    }
    fields.finish()?;
    let reported = EarningsReported {
        asset_id: listing.asset_id,
        quarter: command.quarter,
        earnings_per_share: command.earnings_per_share,
        estimate: command.estimate,
        revenue: command.revenue,
        currency: command.currency.clone().unwrap_or_else(|| listing.currency.clone()),
        reported_on: command.reported_on,
    };
    if asset.earnings(command.quarter) == Some(&reported) {
        return Ok(Vec::new());
    }
    Ok(vec![AssetEvent::EarningsReported(reported)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::asset::{AssetEvent, AssetListed};
    use crate::domain::ids::AssetId;
    use crate::domain::money::Rate;
    use crate::domain::rejection::FieldError;

    fn listed(class: AssetClass) -> Asset {
        let mut asset = Asset::initial();
        asset.evolve(&AssetEvent::AssetListed(AssetListed {
            asset_id: AssetId(uuid::Uuid::from_u128(1)),
            symbol: "AAPL".parse().unwrap(),
            name: "Apple".to_owned(),
            class,
            currency: Currency::usd(),
            quote_unit: Rate::ONE,
            isin: None,
            exchange: None,
        }));
        asset
    }

    fn report(quarter: &str, earnings: &str) -> ReportEarnings {
        ReportEarnings {
            quarter: quarter.parse().unwrap(),
            earnings_per_share: earnings.parse().unwrap(),
            estimate: None,
            revenue: None,
            currency: None,
            reported_on: None,
        }
    }

    fn now() -> DateTime<Utc> {
        "2024-05-02T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_quarter_has_one_spelling() {
        for good in ["1900-Q1", "2024-Q4"] {
            assert_eq!(good.parse::<Quarter>().unwrap().to_string(), good);
        }
        for bad in
            ["2024", "2024-Q0", "2024-Q5", "2024-q1", "24-Q1", "2024-Q11", "+024-Q1", "0999-Q1", "2024-Q1 "]
        {
            assert!(bad.parse::<Quarter>().is_err(), "{bad}");
        }
        assert_eq!(Quarter::of("2024-06-30".parse().unwrap()).to_string(), "2024-Q2");
        assert_eq!("2024-Q3".parse::<Quarter>().unwrap().first_day(), "2024-07-01".parse().unwrap());
    }

    #[test]
    fn the_same_again_is_no_event_and_another_figure_replaces() {
        let mut asset = listed(AssetClass::Equity);
        let events = report_earnings(&asset, &report("2024-Q1", "1.53"), now()).unwrap();
        let [AssetEvent::EarningsReported(reported)] = &events[..] else { panic!("{events:?}") };
        assert_eq!(reported.currency, Currency::usd());
        asset.evolve(&events[0]);
        assert_eq!(report_earnings(&asset, &report("2024-Q1", "1.530"), now()), Ok(vec![]));
        assert_eq!(report_earnings(&asset, &report("2024-Q1", "1.54"), now()).unwrap().len(), 1);
        assert_eq!(report_earnings(&asset, &report("2023-Q4", "1.53"), now()).unwrap().len(), 1);
    }

    #[test]
    fn what_cannot_be_is_refused_by_field() {
        let refused = |asset: &Asset, command: &ReportEarnings| match report_earnings(asset, command, now()) {
            Err(Rejection::InvalidFields(errors)) => {
                errors.into_iter().map(|FieldError { field, .. }| field).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        let share = listed(AssetClass::Equity);
        assert_eq!(refused(&listed(AssetClass::Fx), &report("2024-Q1", "1")), ["asset"]);
        assert_eq!(refused(&share, &report("2024-Q3", "1")), ["quarter"]);
        assert_eq!(refused(&share, &report("1899-Q4", "1")), ["quarter"]);
        let odd = ReportEarnings {
            revenue: Some("-1".parse().unwrap()),
            reported_on: Some("2023-12-31".parse().unwrap()),
            ..report("2024-Q1", "-1")
        };
        assert_eq!(refused(&share, &odd), ["revenue", "reported_on"]);
        let nothing = report_earnings(&Asset::initial(), &report("2024-Q1", "1"), now());
        assert_eq!(nothing, Err(Rejection::NotFound { kind: "asset" }));
    }
}
