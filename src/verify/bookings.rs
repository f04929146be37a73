//! Whether a fact's own amounts follow from what was agreed: its gross amount, and what it did to cash.

use super::market::Asset;
use super::reference::{Entry, Settings};
use super::units::Units;

/// What is wrong with a trade or a movement of cash; `asset` is the one it names, as it stood then.
pub(super) fn wrong(settings: &Settings, entry: &Entry, asset: Option<&Asset>) -> Option<String> {
    if entry.asset_id.is_none() {
        return (settings.cash != "tracked").then(|| "moves cash that is not tracked".to_owned());
    }
    let Some(asset) = asset else { return Some("trades an asset that was not listed".to_owned()) };
    if asset.class == "fx" || asset.currency != entry.currency {
        return Some(format!("trades an asset of class {} in {}", asset.class, entry.currency));
    }
    let price = entry.price.unwrap_or_default();
    let gross = entry.quantity.times(price).and_then(|quoted| quoted.times(asset.quote_unit));
    if gross != Some(entry.amount) {
        return Some(format!("has the amount {}, which is not quantity × price × quote unit", entry.amount));
    }
    let expected = cash(settings, entry);
    (entry.cash != expected).then(|| format!("booked {:?} of cash instead of {expected:?}", entry.cash))
}

/// What a trade pays or brings in, in minor units of the currency it is settled in.
fn cash(settings: &Settings, entry: &Entry) -> Option<(String, Units)> {
    if settings.cash != "tracked" {
        return None;
    }
    let charges = entry.fee + entry.tax;
    let change = if entry.kind == "buy" { -(entry.amount + charges) } else { entry.amount - charges };
    let (currency, change) = match entry.fx_rate.filter(|_| entry.settled_in_base) {
        Some(rate) => (&settings.base_currency, change.times(rate)?),
        None => (&entry.currency, change),
    };
    Some((currency.clone(), change.to_decimals(minor_unit_decimals(currency))))
}

/// ISO 4217, and eight for coins.
fn minor_unit_decimals(currency: &str) -> u32 {
    const NONE: &[&str] = &[
        "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV",
        "XAF", "XOF", "XPF",
    ];
    const THREE: &[&str] = &["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];
    const EIGHT: &[&str] = &["BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "USDC", "USDT"];
    [(NONE, 0), (THREE, 3), (EIGHT, 8)]
        .into_iter()
        .find_map(|(currencies, decimals)| currencies.contains(&currency).then_some(decimals))
        .unwrap_or(2)
}
