//! What a market model is made of, checked once here; everything behind may rely on it.

use chrono::NaiveDate;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::monte_carlo::Settings;
use super::{ENGINE_VERSION, Error, NUMERAIRE};

/// Closes outside are no prices, and their returns could overflow.
const CLOSE_RANGE: std::ops::RangeInclusive<f64> = 1e-12..=1e16;

/// A day's close.
pub type Close = (NaiveDate, f64);

/// One listed asset and its closes.
#[derive(Debug, Clone, PartialEq)]
pub struct AssetCloses {
    /// The asset.
    pub asset_id: Uuid,
    /// Currency it is quoted in.
    pub currency: String,
    /// Whether it trades every day.
    pub crypto: bool,
    /// Last day it was listed, if it no longer is.
    pub delisted_on: Option<NaiveDate>,
    /// Its closes in whole units of `currency`, of one source, splits taken out, each day once, oldest first.
    pub closes: Vec<Close>,
}

/// One currency and its closes in the numeraire.
#[derive(Debug, Clone, PartialEq)]
pub struct RateCloses {
    /// The currency; never the numeraire.
    pub currency: String,
    /// US dollars for one unit of `currency`, each day once, oldest first.
    pub closes: Vec<Close>,
}

/// Everything a model is a function of.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelInputs {
    /// Market position up to which closes were read.
    pub cut: u64,
    /// Returns in the model; 1,000 by default.
    pub window: usize,
    /// The simulation's.
    pub settings: Settings,
    /// Listed assets that can be held (no fx), in any order.
    pub assets: Vec<AssetCloses>,
    /// Currencies other than the numeraire, in any order.
    pub rates: Vec<RateCloses>,
}

impl Default for ModelInputs {
    fn default() -> Self {
        Self { cut: 0, window: 1_000, settings: Settings::default(), assets: Vec::new(), rates: Vec::new() }
    }
}

impl ModelInputs {
    /// Checks everything and puts the columns into their order, so that the order of loading never shows.
    pub(super) fn checked(mut self) -> Result<Self, Error> {
        if !(2..=100_000).contains(&self.window) {
            return Err(Error::Window { given: self.window });
        }
        self.settings.check()?;
        self.assets.sort_by_key(|asset| asset.asset_id);
        self.rates.sort_by(|a, b| a.currency.cmp(&b.currency));
        for asset in &self.assets {
            check_closes(&asset.asset_id.to_string(), &asset.closes)?;
        }
        for rate in &self.rates {
            check_closes(&rate.currency, &rate.closes)?;
            if rate.currency == NUMERAIRE {
                let reason = "the numeraire has no rate to itself";
                return Err(Error::Closes { column: rate.currency.clone(), reason });
            }
        }
        if let Some(twice) = self.assets.windows(2).find(|pair| pair[0].asset_id == pair[1].asset_id) {
            return Err(Error::DuplicateColumn { column: twice[0].asset_id.to_string() });
        }
        if let Some(twice) = self.rates.windows(2).find(|pair| pair[0].currency == pair[1].currency) {
            return Err(Error::DuplicateColumn { column: twice[0].currency.clone() });
        }
        Ok(self)
    }

    /// SHA-256 in hexadecimal over all of it but the cut: models of equal content share a name, and figures of one
    /// name are equal.
    pub(super) fn hash(&self) -> String {
        let mut hash = Sha256::new();
        let mut number = |n: u64| hash.update(n.to_le_bytes());
        number(u64::from(ENGINE_VERSION));
        number(self.window as u64);
        number(self.settings.seed);
        number(self.settings.degrees_of_freedom.to_bits());
        number(self.settings.paths as u64);
        number(self.assets.len() as u64);
        for asset in &self.assets {
            hash.update(asset.asset_id.as_bytes());
            hash_text(&mut hash, &asset.currency);
            hash.update([u8::from(asset.crypto)]);
            hash_text(&mut hash, &asset.delisted_on.map(|day| day.to_string()).unwrap_or_default());
            hash_closes(&mut hash, &asset.closes);
        }
        for rate in &self.rates {
            hash_text(&mut hash, &rate.currency);
            hash_closes(&mut hash, &rate.closes);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

fn check_closes(column: &str, closes: &[Close]) -> Result<(), Error> {
    let refused = |reason| Err(Error::Closes { column: column.to_owned(), reason });
    if closes.iter().any(|(_, close)| !CLOSE_RANGE.contains(close)) {
        return refused("a close is not a positive price");
    }
    if closes.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        return refused("days are not in ascending order, each once");
    }
    Ok(())
}

/// With its length in front, so that no two inputs run together into the same bytes.
fn hash_text(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text.as_bytes());
}

fn hash_closes(hash: &mut Sha256, closes: &[Close]) {
    use chrono::Datelike;
    hash.update((closes.len() as u64).to_le_bytes());
    for (day, close) in closes {
        hash.update(day.num_days_from_ce().to_le_bytes());
        hash.update(close.to_bits().to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(n: u32) -> NaiveDate {
        NaiveDate::from_ymd_opt(2024, 1, n).unwrap()
    }

    fn asset(id: u128, closes: Vec<Close>) -> AssetCloses {
        AssetCloses {
            asset_id: Uuid::from_u128(id),
            currency: "USD".into(),
            crypto: false,
            delisted_on: None,
            closes,
        }
    }

    fn inputs(assets: Vec<AssetCloses>) -> ModelInputs {
        ModelInputs { assets, ..ModelInputs::default() }
    }

    #[test]
    fn the_order_of_loading_does_not_change_the_name() {
        let (a, b) = (asset(1, vec![(day(1), 1.0)]), asset(2, vec![(day(1), 2.0)]));
        let one = inputs(vec![a.clone(), b.clone()]).checked().unwrap();
        let other = inputs(vec![b.clone(), a.clone()]).checked().unwrap();
        assert_eq!(one.hash(), other.hash());
        assert_eq!(one.hash().len(), 64);
        let moved = ModelInputs { cut: 99, ..one.clone() };
        assert_eq!(one.hash(), moved.hash(), "a cut that brought nothing new");
        let changed = inputs(vec![a, asset(2, vec![(day(1), 2.0000000001)])]).checked().unwrap();
        assert_ne!(one.hash(), changed.hash());
        let seeded = ModelInputs { settings: Settings { seed: 1, ..one.settings }, ..one.clone() };
        assert_ne!(one.hash(), seeded.hash());
    }

    #[test]
    fn what_no_return_can_be_made_of_is_refused() {
        for close in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e17] {
            let refused = inputs(vec![asset(1, vec![(day(1), close)])]).checked();
            assert!(matches!(refused, Err(Error::Closes { .. })), "{close}");
        }
        for days in [[2, 1], [1, 1]] {
            let closes = days.map(|n| (day(n), 1.0)).to_vec();
            assert!(matches!(inputs(vec![asset(1, closes)]).checked(), Err(Error::Closes { .. })));
        }
        let twice = inputs(vec![asset(1, vec![]), asset(1, vec![])]).checked();
        assert!(matches!(twice, Err(Error::DuplicateColumn { .. })));
        let rates = vec![RateCloses { currency: "USD".into(), closes: vec![] }];
        assert!(ModelInputs { rates, ..ModelInputs::default() }.checked().is_err());
        assert!(ModelInputs { window: 1, ..ModelInputs::default() }.checked().is_err());
    }
}
