//! Which assets are asked for, from which source, and what is known of each. Reads; decides what can be decided without asking.

use std::str::FromStr;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::de::DeserializeOwned;
use sqlx::PgPool;

use super::judge::{HeldBefore, Known, Standing, Word};
use super::seen::When;
use super::settings::{Series, Settings, SourceSettings};
use super::source::Subject;
use super::summary::{Refused, Request, What};
use crate::domain::asset::{Adjustment, AssetClass, RankedSource, SOURCES_MAX, base_of_pair};
use crate::domain::currency::{Currency, Symbol};
use crate::domain::ids::{AssetId, Version};
use crate::domain::money::{Price, Rate};
use crate::queries;
use crate::queries::fetching::{self, PricedAsset};

/// Known closes of so many days are asked for again: providers correct them.
const OVERLAP: TimeDelta = TimeDelta::days(7);

/// An asset that one source is asked about.
#[derive(Debug)]
pub struct Target {
    /// The asset.
    pub asset_id: AssetId,
    /// As it is told to whoever asked.
    pub symbol: String,
    /// The source.
    pub source: String,
    /// What the source needs to know.
    pub subject: Subject,
    /// The first day that is wanted.
    pub since: NaiveDate,
    /// What is known of the series, without its closes.
    pub known: Known,
    /// The ranking to be declared first, so that the series has its adjustment; with the version it is made from.
    pub declare: Option<(Vec<RankedSource>, Version)>,
}

/// Finds the assets of a request. Who cannot be asked for is refused.
///
/// # Errors
/// The database.
pub async fn find(
    pool: &PgPool,
    settings: &Settings,
    request: &Request,
    now: DateTime<Utc>,
) -> Result<(Vec<Target>, Vec<Refused>), queries::Error> {
    let (mut targets, mut refused) = (Vec::new(), Vec::new());
    let mut refuse = |symbol: &str, source: &str, reason: String| {
        refused.push(Refused { symbol: symbol.into(), source: source.into(), reason });
    };
    let wanted: Vec<(Option<String>, AssetId)> = if !request.symbols.is_empty() {
        let names: Vec<String> = request.symbols.iter().map(|name| name.trim().to_owned()).collect();
        let found = fetching::find_named_assets(pool, &names).await?;
        let mut wanted = Vec::with_capacity(names.len());
        for name in names {
            match found.get(&name).copied().or_else(|| name.parse().ok()) {
                Some(id) if wanted.iter().any(|(_, known)| *known == id) => {}
                Some(id) => wanted.push((Some(name), id)),
                None => refuse(&name, "", "is no asset here".to_owned()),
            }
        }
        wanted
    } else if request.what == What::Rates {
        fetching::list_pairs(pool).await?.into_iter().map(|id| (None, id)).collect()
    } else {
        fetching::list_held_assets(pool).await?.into_iter().map(|id| (None, id)).collect()
    };
    let ids: Vec<AssetId> = wanted.iter().map(|(_, id)| *id).collect();
    let mut known = fetching::list_priced_assets(pool, &ids).await?;
    for (name, id) in wanted {
        let Some(asset) = known.remove(&id) else {
            refuse(&name.unwrap_or_else(|| id.to_string()), "", "is no asset here".to_owned());
            continue;
        };
        let source = source_of(settings, request, &asset);
        match target(settings, request, &source, &asset, now) {
            Ok(target) => targets.push(target),
            Err(reason) => refuse(&asset.symbol, &source, reason),
        }
    }
    Ok((targets, refused))
}

/// The source that was asked for; else the best-ranked one that we can ask; else that of the settings.
fn source_of(settings: &Settings, request: &Request, asset: &PricedAsset) -> String {
    if let Some(source) = &request.source {
        return source.clone();
    }
    let by_series = |series: &str| {
        let of = |(_, source): &(&String, &SourceSettings)| source.series(request.what).name == series;
        settings.sources.iter().find(of).map(|(name, _)| name.clone())
    };
    let ranked = asset.ranking.iter().find_map(|(series, _)| by_series(series));
    ranked.unwrap_or_else(|| settings.default_source(request.what).to_owned())
}

fn target(
    settings: &Settings,
    request: &Request,
    source: &str,
    asset: &PricedAsset,
    now: DateTime<Utc>,
) -> Result<Target, String> {
    let told =
        settings.sources.get(source).ok_or_else(|| format!("the source {source} is not in the settings"))?;
    let series = told.series(request.what);
    let subject = subject(told, asset)?;
    let place = asset.sources.iter().find(|place| place.source == series.name);
    let tick = place
        .and_then(|place| place.tick)
        .map(|(at, price, position)| (at, Standing { price: Price::from_decimal(price), position }));
    let held = asset.held.iter().filter(|held| held.source == series.name);
    let held = held.filter_map(|held| {
        let when = held.at.map(When::At).or(held.day.map(When::Day))?;
        let word = match held.state.as_str() {
            "waiting" => Word::Waits,
            "accepted" => Word::Accepted,
            _ => Word::Dismissed,
        };
        let (held_id, position) = (held.held_id, held.position);
        Some(HeldBefore { when, price: Price::from_decimal(held.price), held_id, position, word })
    });
    let live = asset.live.map(|(at, price)| (at, Price::from_decimal(price)));
    let first = now.date_naive() - TimeDelta::days(settings.days_back(told).into());
    let newest = place.and_then(|place| place.close_day).map(|day| day - OVERLAP);
    let since = match (request.since, newest) {
        // Only known closes can tell that a series is told anew.
        (Some(told), Some(newest)) if series.adjustment != Adjustment::None => told.min(newest),
        (told, newest) => told.or(newest).unwrap_or(first),
    };
    Ok(Target {
        asset_id: asset.asset_id,
        symbol: asset.symbol.clone(),
        source: source.to_owned(),
        subject,
        since,
        known: Known { tick, live, held: held.collect(), ..Known::default() },
        declare: declare(series, asset)?.map(|ranking| (ranking, Version(asset.version))),
    })
}

fn subject(source: &SourceSettings, asset: &PricedAsset) -> Result<Subject, String> {
    let unreadable = || "is listed in a way that this program cannot read".to_owned();
    let class = named(&asset.class).ok_or_else(unreadable)?;
    let currency = Currency::from_str(&asset.currency).map_err(|_| unreadable())?;
    let symbol = Symbol::from_str(&asset.symbol).map_err(|_| unreadable())?;
    let base = match class {
        AssetClass::Fx => Some(
            base_of_pair(&symbol, &currency).ok_or("is no pair: its symbol must end with its currency")?,
        ),
        _ => None,
    };
    Ok(Subject {
        symbol: source.symbol(&asset.symbol),
        class,
        currency,
        quote_unit: Rate::from_decimal(asset.quote_unit),
        base,
    })
}

/// The ranking that says what a series is corrected for, if none does yet.
///
/// A series without a word is one that is corrected for nothing. So one that is corrected is ranked before its first price:
/// behind all others, which keep their order.
///
/// # Errors
/// The ranking says otherwise, and a series never changes what it is.
fn declare(series: &Series, asset: &PricedAsset) -> Result<Option<Vec<RankedSource>>, String> {
    let ranked = |(source, adjustment): &(String, String)| {
        Ok(RankedSource {
            source: source.clone(),
            adjustment: named(adjustment).ok_or("is ranked in a way that this program cannot read")?,
        })
    };
    let mut ranking: Vec<RankedSource> = asset.ranking.iter().map(ranked).collect::<Result<_, String>>()?;
    match ranking.iter().find(|ranked| ranked.source == series.name) {
        Some(ranked) if ranked.adjustment == series.adjustment => return Ok(None),
        Some(ranked) => {
            return Err(format!(
                "the series {} is declared as {} and the source's prices are {}: they never mix, name another series in \
                 the settings",
                series.name,
                words(ranked.adjustment),
                words(series.adjustment)
            ));
        }
        None if series.adjustment == Adjustment::None => return Ok(None),
        None => {}
    }
    for place in &asset.sources {
        if place.source == series.name {
            return Err(format!(
                "the series {} holds prices that are declared as corrected for nothing, and the source's are {}",
                series.name,
                words(series.adjustment)
            ));
        }
        if !ranking.iter().any(|ranked| ranked.source == place.source) {
            ranking.push(RankedSource { source: place.source.clone(), adjustment: Adjustment::None });
        }
    }
    ranking.push(RankedSource { source: series.name.clone(), adjustment: series.adjustment });
    if ranking.len() > SOURCES_MAX {
        return Err(format!("has {} sources, and no more can be declared", ranking.len() - 1));
    }
    Ok(Some(ranking))
}

/// The value of this name, as columns and JSON have it.
fn named<T: DeserializeOwned>(name: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
}

fn words(adjustment: Adjustment) -> &'static str {
    match adjustment {
        Adjustment::None => "corrected for nothing",
        Adjustment::Splits => "corrected for splits",
        Adjustment::SplitsAndDividends => "corrected for splits and dividends",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queries::fetching::SourcePlace;
    use uuid::Uuid;

    fn asset(ranking: &[(&str, &str)], used: &[&str]) -> PricedAsset {
        let place = |source: &&str| SourcePlace { source: (*source).into(), tick: None, close_day: None };
        PricedAsset {
            asset_id: AssetId(Uuid::from_u128(1)),
            symbol: "AAPL".into(),
            class: "equity".into(),
            currency: "USD".into(),
            quote_unit: rust_decimal::Decimal::ONE,
            ranking: ranking.iter().map(|(source, how)| ((*source).into(), (*how).into())).collect(),
            live: None,
            version: 2,
            sources: used.iter().map(place).collect(),
            held: Vec::new(),
        }
    }

    fn series(name: &str, adjustment: Adjustment) -> Series {
        Series { name: name.into(), adjustment }
    }

    #[test]
    fn a_corrected_series_is_declared_behind_all_others() {
        let asset = asset(&[("bank", "none")], &["manual", "bank"]);
        let ranking = declare(&series("yahoo.splits", Adjustment::Splits), &asset).unwrap().unwrap();
        let ranking: Vec<_> = ranking.iter().map(|it| (it.source.as_str(), it.adjustment)).collect();
        let expected =
            [("bank", Adjustment::None), ("manual", Adjustment::None), ("yahoo.splits", Adjustment::Splits)];
        assert_eq!(ranking, expected);
        assert_eq!(declare(&series("yahoo", Adjustment::None), &asset), Ok(None));
    }

    #[test]
    fn adjusted_and_unadjusted_prices_never_mix() {
        let ranked = asset(&[("demo", "none")], &[]);
        let refused = declare(&series("demo", Adjustment::SplitsAndDividends), &ranked).unwrap_err();
        assert!(refused.contains("they never mix"), "{refused}");
        let used = asset(&[], &["demo"]);
        assert!(declare(&series("demo", Adjustment::SplitsAndDividends), &used).is_err());
        let same = asset(&[("demo", "splits_and_dividends")], &["demo"]);
        assert_eq!(declare(&series("demo", Adjustment::SplitsAndDividends), &same), Ok(None));
    }

    #[test]
    fn of_the_central_bank_the_short_history_is_asked_for_first() {
        let settings = Settings::read("", |_| None).unwrap();
        let wish =
            Request { what: What::Rates, symbols: Vec::new(), source: None, since: None, dry_run: false };
        let pair = PricedAsset { symbol: "EURUSD".into(), class: "fx".into(), ..asset(&[], &[]) };
        let now = "2024-03-01T12:00:00Z".parse().unwrap();
        let target = target(&settings, &wish, "ecb", &pair, now).unwrap();
        let days = super::super::source::Days { since: target.since, now };
        let address = settings.sources["ecb"].address(What::Rates, &target.subject, days).unwrap().unwrap();
        assert!(address.ends_with("eurofxref-hist-90d.xml"), "{address}");
    }

    #[test]
    fn a_corrected_series_is_asked_for_from_its_last_known_days_whatever_is_wished() {
        let settings = Settings::read("", |_| None).unwrap();
        let now = "2024-03-29T12:00:00Z".parse().unwrap();
        let place = |source: &str| SourcePlace {
            source: source.into(),
            tick: None,
            close_day: Some("2024-03-08".parse().unwrap()),
        };
        let ranking = [("stooq.adjusted", "splits_and_dividends")];
        let known = PricedAsset {
            sources: vec![place("stooq.adjusted"), place("alphavantage")],
            ..asset(&ranking, &[])
        };
        let since = |source: &str, told: Option<&str>| {
            let since = told.map(|day| day.parse().unwrap());
            let wish =
                Request { what: What::History, symbols: Vec::new(), source: None, since, dry_run: false };
            target(&settings, &wish, source, &known, now).unwrap().since.to_string()
        };
        assert_eq!(since("stooq", None), "2024-03-01");
        assert_eq!(since("stooq", Some("2024-03-20")), "2024-03-01");
        assert_eq!(since("stooq", Some("2024-01-01")), "2024-01-01");
        assert_eq!(since("alphavantage", Some("2024-03-20")), "2024-03-20");
    }

    #[test]
    fn the_best_ranked_source_that_can_be_asked_is_asked() {
        let settings = Settings::read("", |_| None).unwrap();
        let request = |source: Option<&str>| Request {
            what: What::History,
            symbols: Vec::new(),
            source: source.map(Into::into),
            since: None,
            dry_run: false,
        };
        let ranked = asset(&[("exchange", "none"), ("stooq.adjusted", "splits_and_dividends")], &[]);
        assert_eq!(source_of(&settings, &request(None), &ranked), "stooq");
        assert_eq!(source_of(&settings, &request(Some("demo")), &ranked), "demo");
        assert_eq!(source_of(&settings, &request(None), &asset(&[], &[])), "yahoo");
    }
}
