//! Some portfolios instead of all, chosen by a seed, for logs that are too big to fold whole.

use std::collections::BTreeSet;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use sqlx::PgConnection;

use super::report::{Report, Sampled};

/// Which portfolios are folded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// How many.
    pub size: SampleSize,
    /// The same seed chooses the same ones.
    pub seed: u64,
}

/// How many portfolios.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SampleSize {
    /// So many, or all.
    Portfolios(usize),
    /// A share of all, at least one.
    Percent(f64),
}

impl FromStr for SampleSize {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const REASON: &str = "is neither a number of portfolios nor a percentage such as 5%";
        if let Some(percent) = text.strip_suffix('%') {
            let percent: f64 = percent.trim().parse().map_err(|_| REASON)?;
            return if percent > 0.0 && percent <= 100.0 { Ok(Self::Percent(percent)) } else { Err(REASON) };
        }
        let count: usize = text.parse().map_err(|_| REASON)?;
        if count > 0 { Ok(Self::Portfolios(count)) } else { Err(REASON) }
    }
}

/// The portfolios that were chosen, and the assets that they ever traded.
pub(super) struct Chosen {
    pub portfolios: Vec<String>,
    pub assets: BTreeSet<String>,
}

/// Chooses, and says in the report what will not be looked at.
pub(super) async fn choose(
    conn: &mut PgConnection,
    sample: Sample,
    report: &mut Report,
) -> Result<Chosen, sqlx::Error> {
    const ALL: &str =
        "select substr(stream_id, 11) from events where stream_id like 'portfolio-%' and version = 1";
    const ASSETS: &str = "select distinct payload->>'asset_id' from events \
        where stream_id = any($1) and payload->>'asset_id' is not null";
    let mut portfolios: Vec<String> = sqlx::query_scalar(ALL).fetch_all(&mut *conn).await?;
    let of = portfolios.len();
    let count = match sample.size {
        SampleSize::Portfolios(count) => count,
        SampleSize::Percent(percent) => ((of as f64 * percent / 100.0).ceil() as usize).max(1),
    };
    portfolios.sort_by_cached_key(|id| {
        <[u8; 32]>::from(Sha256::new().chain_update(sample.seed.to_be_bytes()).chain_update(id).finalize())
    });
    portfolios.truncate(count);
    portfolios.sort();
    let streams: Vec<String> = portfolios.iter().map(|id| format!("portfolio-{id}")).collect();
    let assets = sqlx::query_scalar::<_, String>(ASSETS).bind(streams).fetch_all(conn).await?;
    report.sample = Some(Sampled { portfolios: portfolios.len(), of, seed: sample.seed });
    report.unchecked.extend([
        "rows of portfolios outside the sample, and whether their facts add up".to_owned(),
        "prices of assets that the sample never traded".to_owned(),
        "figures of risk".to_owned(),
    ]);
    Ok(Chosen { portfolios, assets: assets.into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_or_a_percentage() {
        assert_eq!("12".parse(), Ok(SampleSize::Portfolios(12)));
        assert_eq!("2.5%".parse(), Ok(SampleSize::Percent(2.5)));
        for bad in ["", "0", "-1", "0%", "101%", "NaN%", "x", "%", "1.5"] {
            assert!(bad.parse::<SampleSize>().is_err(), "{bad}");
        }
    }
}
