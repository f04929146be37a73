//! Decides about assets: listing one under a free symbol, and ranking its sources of prices.

use super::event::{AssetClass, AssetEvent, AssetListed, PriceSourcesRanked, RankedSource, SymbolClaimed};
use super::state::{Asset, SymbolOwner};
use crate::domain::currency::{Currency, Symbol};
use crate::domain::fields::Fields;
use crate::domain::ids::AssetId;
use crate::domain::money::Rate;
use crate::domain::price;
use crate::domain::rejection::Rejection;

/// Characters of an asset's name.
pub const NAME_CHARS_MAX: usize = 200;
/// Characters of an exchange's name.
pub const EXCHANGE_CHARS_MAX: usize = 50;
/// Sources in a ranking.
pub const SOURCES_MAX: usize = 20;

/// Lists an asset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListAsset {
    /// Its id, new.
    pub asset_id: AssetId,
    /// Its symbol.
    pub symbol: Symbol,
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: AssetClass,
    /// The currency it is quoted and paid in.
    pub currency: Currency,
    /// Units of the currency in one unit of the price; 1 if not told.
    pub quote_unit: Option<Rate>,
    /// ISIN.
    pub isin: Option<String>,
    /// Exchange.
    pub exchange: Option<String>,
}

/// Ranks an asset's sources of prices, the most believed first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankSources {
    /// The sources.
    pub sources: Vec<RankedSource>,
}

/// What listing makes: two facts in two streams, written together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// For the stream `symbol:X`, which must be empty.
    pub claim: AssetEvent,
    /// For the asset's stream.
    pub listing: AssetEvent,
}

/// Lists an asset under a symbol that `owner` shows to be free.
///
/// # Errors
/// [`Rejection`]: a field is impossible, or the symbol names another asset.
pub fn list(owner: SymbolOwner, command: &ListAsset) -> Result<Listed, Rejection> {
    let quote_unit = command.quote_unit.unwrap_or(Rate::ONE);
    let mut fields = Fields::new();
    fields.text("name", &command.name, NAME_CHARS_MAX);
    fields.require(quote_unit.is_positive(), "quote_unit", "must be greater than 0");
    fields.optional_text("exchange", command.exchange.as_deref(), EXCHANGE_CHARS_MAX);
    if let Some(isin) = &command.isin {
        fields.require(is_isin(isin), "isin", "is not an ISIN such as \"US0378331005\"");
    }
    if command.class == AssetClass::Fx && base_of_pair(&command.symbol, &command.currency).is_none() {
        let example = "must be a pair that ends in its currency, such as \"EURUSD\" with \"USD\"";
        fields.refuse("symbol", example);
    }
    fields.finish()?;
    if owner.asset_id().is_some() {
        return Err(Rejection::SymbolTaken { symbol: command.symbol.to_string() });
    }
    let asset_id = command.asset_id;
    Ok(Listed {
        claim: AssetEvent::SymbolClaimed(SymbolClaimed { symbol: command.symbol.clone(), asset_id }),
        listing: AssetEvent::AssetListed(AssetListed {
            asset_id,
            symbol: command.symbol.clone(),
            name: command.name.clone(),
            class: command.class,
            currency: command.currency.clone(),
            quote_unit,
            isin: command.isin.clone(),
            exchange: command.exchange.clone(),
        }),
    })
}

/// Ranks the sources of an asset. The same ranking again is no event.
///
/// # Errors
/// [`Rejection`]: there is no such asset, a field is impossible, or a source's adjustment would change.
pub fn rank_sources(asset: &Asset, command: &RankSources) -> Result<Vec<AssetEvent>, Rejection> {
    let Some(listing) = asset.listing() else {
        return Err(Rejection::NotFound { kind: "asset" });
    };
    let sources = &command.sources;
    let mut fields = Fields::new();
    if sources.is_empty() || sources.len() > SOURCES_MAX {
        fields.refuse("sources", format!("must have 1 to {SOURCES_MAX} entries"));
    }
    for (i, source) in sources.iter().enumerate().take(SOURCES_MAX) {
        let field = format!("sources[{i}].source");
        fields.take(&field, price::check_source(&source.source));
        let is_repeated = sources[..i].iter().any(|earlier| earlier.source == source.source);
        fields.require(!is_repeated, &field, "is in the list twice");
    }
    fields.finish()?;

    let differs = |s: &&RankedSource| asset.adjustment(&s.source).is_some_and(|fixed| fixed != s.adjustment);
    if let Some(source) = sources.iter().find(differs) {
        return Err(Rejection::AdjustmentFixed { source_name: source.source.clone() });
    }
    if sources == asset.ranking() {
        return Ok(Vec::new());
    }
    let ranked = PriceSourcesRanked { asset_id: listing.asset_id, sources: sources.clone() };
    Ok(vec![AssetEvent::PriceSourcesRanked(ranked)])
}

/// The currency that a pair prices: `EUR` of `EURUSD`, whose prices are in `USD`.
pub(crate) fn base_of_pair(symbol: &Symbol, quoted_in: &Currency) -> Option<Currency> {
    let base: Currency = symbol.as_str().strip_suffix(quoted_in.as_str())?.parse().ok()?;
    (base != *quoted_in).then_some(base)
}

/// Two letters, nine letters or digits, and the check digit of ISO 6166 (Luhn over letters as 10 to 35).
fn is_isin(text: &str) -> bool {
    let bytes = text.as_bytes();
    let shaped = bytes.len() == 12
        && bytes[..2].iter().all(u8::is_ascii_uppercase)
        && bytes[2..11].iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
        && bytes[11].is_ascii_digit();
    shaped && luhn_sum(bytes).is_multiple_of(10)
}

fn luhn_sum(bytes: &[u8]) -> u32 {
    let mut digits = Vec::with_capacity(24);
    for byte in bytes {
        match byte {
            b'0'..=b'9' => digits.push(u32::from(byte - b'0')),
            letter => {
                let value = u32::from(letter - b'A') + 10;
                digits.extend([value / 10, value % 10]);
            }
        }
    }
    let doubled = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    digits.iter().rev().enumerate().map(|(i, d)| if i % 2 == 1 { doubled(*d) } else { *d }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::asset::Adjustment;
    use crate::domain::rejection::FieldError;

    fn apple() -> ListAsset {
        ListAsset {
            asset_id: AssetId(uuid::Uuid::from_u128(1)),
            symbol: "AAPL".parse().unwrap(),
            name: "Apple".to_owned(),
            class: AssetClass::Equity,
            currency: Currency::usd(),
            quote_unit: None,
            isin: Some("US0378331005".to_owned()),
            exchange: Some("XNAS".to_owned()),
        }
    }

    fn listed() -> Asset {
        let mut asset = Asset::initial();
        asset.evolve(&list(SymbolOwner::initial(), &apple()).unwrap().listing);
        asset
    }

    fn ranking(sources: &[(&str, Adjustment)]) -> RankSources {
        let ranked = |(source, adjustment): &(&str, Adjustment)| RankedSource {
            source: (*source).to_owned(),
            adjustment: *adjustment,
        };
        RankSources { sources: sources.iter().map(ranked).collect() }
    }

    fn refused_fields(rejection: Rejection) -> Vec<String> {
        let Rejection::InvalidFields(errors) = rejection else { panic!("{rejection:?} is not about fields") };
        errors.into_iter().map(|FieldError { field, .. }| field).collect()
    }

    #[test]
    fn listing_claims_the_symbol() {
        let Listed { claim, listing } = list(SymbolOwner::initial(), &apple()).unwrap();
        assert_eq!(claim.stream().as_str(), "symbol:AAPL");
        assert_eq!(listing.stream(), apple().asset_id.stream());
        let mut owner = SymbolOwner::initial();
        owner.evolve(&claim);
        assert_eq!(list(owner, &apple()), Err(Rejection::SymbolTaken { symbol: "AAPL".to_owned() }));
        assert_eq!(listed().listing().unwrap().quote_unit, Rate::ONE);
    }

    #[test]
    fn impossible_fields_are_all_told() {
        let command = ListAsset {
            name: "\u{0}".to_owned(),
            quote_unit: Some(Rate::ZERO),
            isin: Some("US0378331006".to_owned()),
            class: AssetClass::Fx,
            ..apple()
        };
        let rejection = list(SymbolOwner::initial(), &command).unwrap_err();
        assert_eq!(refused_fields(rejection), ["name", "quote_unit", "isin", "symbol"]);
    }

    #[test]
    fn an_exchange_rate_is_named_after_its_pair() {
        for (symbol, currency, accepted) in [
            ("EURUSD", "USD", true),
            ("USDUSD", "USD", false),
            ("EURUSD", "EUR", false),
            ("BTCUSD", "USD", true),
        ] {
            let command = ListAsset {
                symbol: symbol.parse().unwrap(),
                currency: currency.parse().unwrap(),
                class: AssetClass::Fx,
                isin: None,
                ..apple()
            };
            assert_eq!(list(SymbolOwner::initial(), &command).is_ok(), accepted, "{symbol} in {currency}");
        }
    }

    #[test]
    fn published_isins_are_read() {
        for good in ["US0378331005", "US5949181045", "DE0007164600", "GB0002634946", "AU0000XVGZA3"] {
            assert!(is_isin(good), "{good}");
        }
        for bad in ["", "US0378331004", "us0378331005", "US037833100", "US03783310055", "ÜS037833100"] {
            assert!(!is_isin(bad), "{bad}");
        }
    }

    #[test]
    fn the_same_ranking_again_is_no_event() {
        let mut asset = listed();
        let command = ranking(&[("exchange", Adjustment::None), ("manual", Adjustment::None)]);
        let events = rank_sources(&asset, &command).unwrap();
        assert_eq!(events.len(), 1);
        asset.evolve(&events[0]);
        assert_eq!(rank_sources(&asset, &command), Ok(vec![]));
    }

    #[test]
    fn an_adjustment_once_given_stays_even_if_the_source_was_left_out_meanwhile() {
        let mut asset = listed();
        for sources in [&[("stooq", Adjustment::Splits)], &[("manual", Adjustment::None)]] {
            asset.evolve(&rank_sources(&asset, &ranking(sources)).unwrap()[0]);
        }
        let rejection = rank_sources(&asset, &ranking(&[("stooq", Adjustment::None)])).unwrap_err();
        assert_eq!(rejection, Rejection::AdjustmentFixed { source_name: "stooq".to_owned() });
    }

    #[test]
    fn a_ranking_names_each_source_once_and_well() {
        let bad = ranking(&[("a", Adjustment::None), ("A b", Adjustment::None), ("a", Adjustment::None)]);
        let rejection = rank_sources(&listed(), &bad).unwrap_err();
        assert_eq!(refused_fields(rejection), ["sources[1].source", "sources[2].source"]);
        assert_eq!(refused_fields(rank_sources(&listed(), &ranking(&[])).unwrap_err()), ["sources"]);
        assert!(matches!(rank_sources(&Asset::initial(), &bad), Err(Rejection::NotFound { kind: "asset" })));
    }
}
