//! Where prices come from: the settings of a file, over defaults that need none.
//!
//! Keys are no settings: they come from the environment, and nothing here prints them.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

use super::ecb;
use super::http::Template;
use super::judge::Bounds;
use super::summary::What;
use super::url::Address;
use crate::domain::asset::Adjustment;
use crate::domain::price;

/// What a source is asked and how it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// No network: a walk.
    Demo,
    /// Yahoo's chart.
    Yahoo,
    /// Alpha Vantage.
    AlphaVantage,
    /// Stooq's CSV.
    Stooq,
    /// The European Central Bank.
    Ecb,
    /// Any address.
    Http,
}

/// Everything about fetching.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Who is asked unless somebody says otherwise.
    pub quotes: String,
    /// The same for closes.
    pub history: String,
    /// The same for exchange rates.
    pub rates: String,
    /// How far from the last price is too far.
    pub bounds: Bounds,
    /// How far back closes are fetched of which none is known, if that was told; see [`Settings::days_back`].
    pub history_days: Option<u32>,
    /// How long a whole fetch may take.
    pub total: Duration,
    /// By name.
    pub sources: BTreeMap<String, SourceSettings>,
}

/// A source.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// How it is spoken to.
    pub kind: Kind,
    /// Scheme, host and port, perhaps with a path.
    pub base_url: Address,
    /// What it calls an asset, where that is not the asset's symbol.
    pub symbols: BTreeMap<String, String>,
    /// Put behind symbols that are not in that list.
    pub suffix: String,
    /// What its prices are in, where it does not say so.
    pub currency: Option<String>,
    /// The series that quotes go into.
    pub quotes: Series,
    /// The series that closes go into.
    pub history: Series,
    /// The key, if the environment has it.
    pub key: Option<SecretString>,
    /// The variable that holds the key.
    pub key_env: Option<String>,
    /// How it is asked.
    pub asking: Asking,
    /// Of `http`: where its quotes are.
    pub quotes_at: Option<Template>,
    /// Of `http`: where its closes are.
    pub history_at: Option<Template>,
}

/// The name under which prices stand in the log, and what they have been corrected for. Two kinds of prices never share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// The name.
    pub name: String,
    /// Corrected for what.
    pub adjustment: Adjustment,
}

/// How a source is asked.
#[derive(Debug, Clone)]
pub struct Asking {
    /// Requests a minute; 0 for no limit.
    pub requests_per_minute: u32,
    /// Requests at once.
    pub concurrency: u32,
    /// To connect.
    pub connect: Duration,
    /// Between two pieces of an answer.
    pub read: Duration,
    /// For one attempt as a whole.
    pub attempt: Duration,
    /// How often one request is sent at most.
    pub attempts: u32,
    /// The bound of the first pause between attempts.
    pub pause_first: Duration,
    /// The bound of every pause, also of one that the source asks for.
    pub pause_max: Duration,
    /// For all attempts of one request together, with their pauses.
    pub within: Duration,
    /// Failures in a row after which it is left alone.
    pub failures_max: u32,
    /// For how long.
    pub rest: Duration,
    /// Bytes of an answer at most.
    pub body_bytes_max: u64,
    /// How we introduce ourselves.
    pub user_agent: String,
}

/// What is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Wrong(pub(super) String);

impl Settings {
    /// Reads the text of a settings file, which may be empty. `variable` looks into the environment.
    ///
    /// # Errors
    /// [`Wrong`], which names the setting.
    pub fn read(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Wrong> {
        let file: File = toml::from_str(text).map_err(|error| Wrong(in_a_line(text, &error)))?;
        let mut sources: BTreeMap<String, SourceSettings> = BTreeMap::new();
        let mut told = file.sources;
        for (name, kind) in BUILT_IN {
            sources.insert(
                name.into(),
                told.remove(name).unwrap_or_default().over(name, Some(kind), &variable)?,
            );
        }
        for (name, source) in told {
            let source = source.over(&name, None, &variable)?;
            sources.insert(name, source);
        }
        let settings = Self {
            quotes: file.quotes.unwrap_or_else(|| "yahoo".into()),
            history: file.history.unwrap_or_else(|| "yahoo".into()),
            rates: file.rates.unwrap_or_else(|| "ecb".into()),
            bounds: Bounds {
                jump_percent: within("jump_percent", file.jump_percent, 50, 1, 100_000)?,
                refuse_times: within("refuse_times", file.refuse_times, 1_000, 2, 1_000_000)?,
            },
            history_days: file
                .history_days
                .map(|days| within("history_days", Some(days), days, 1, 50_000))
                .transpose()?,
            total: seconds("total_seconds", file.total_seconds, 900, 1, 86_400)?,
            sources,
        };
        for what in [What::Quotes, What::History, What::Rates] {
            let name = settings.default_source(what);
            if !settings.sources.contains_key(name) {
                return Err(Wrong(format!("{} names the source {name}, which there is not", what.as_str())));
            }
        }
        Ok(settings)
    }

    /// How far back closes of a source are fetched of which none is known.
    pub fn days_back(&self, source: &SourceSettings) -> u32 {
        let default = if source.kind == Kind::Ecb { ecb::SHORT_DAYS } else { HISTORY_DAYS };
        self.history_days.unwrap_or(default)
    }

    /// Who is asked unless somebody says otherwise.
    pub fn default_source(&self, what: What) -> &str {
        match what {
            What::Quotes => &self.quotes,
            What::History => &self.history,
            What::Rates => &self.rates,
        }
    }
}

impl SourceSettings {
    /// The series that these prices go into.
    pub fn series(&self, what: What) -> &Series {
        match what {
            What::Quotes => &self.quotes,
            What::History | What::Rates => &self.history,
        }
    }

    /// What the source calls an asset.
    pub fn symbol(&self, symbol: &str) -> String {
        self.symbols.get(symbol).cloned().unwrap_or_else(|| format!("{symbol}{}", self.suffix))
    }
}

/// Three months.
const HISTORY_DAYS: u32 = 92;

const BUILT_IN: [(&str, Kind); 5] = [
    ("demo", Kind::Demo),
    ("yahoo", Kind::Yahoo),
    ("alphavantage", Kind::AlphaVantage),
    ("stooq", Kind::Stooq),
    ("ecb", Kind::Ecb),
];

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct File {
    quotes: Option<String>,
    history: Option<String>,
    rates: Option<String>,
    jump_percent: Option<u32>,
    refuse_times: Option<u32>,
    history_days: Option<u32>,
    total_seconds: Option<u32>,
    #[serde(default)]
    sources: BTreeMap<String, Source>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Source {
    kind: Option<Kind>,
    base_url: Option<String>,
    #[serde(default)]
    symbols: BTreeMap<String, String>,
    suffix: Option<String>,
    currency: Option<String>,
    quotes_series: Option<String>,
    quotes_adjustment: Option<Adjustment>,
    history_series: Option<String>,
    history_adjustment: Option<Adjustment>,
    key_env: Option<String>,
    requests_per_minute: Option<u32>,
    concurrency: Option<u32>,
    connect_ms: Option<u32>,
    read_ms: Option<u32>,
    attempt_ms: Option<u32>,
    attempts: Option<u32>,
    pause_first_ms: Option<u32>,
    pause_max_ms: Option<u32>,
    within_ms: Option<u32>,
    failures_max: Option<u32>,
    rest_ms: Option<u32>,
    body_bytes_max: Option<u32>,
    user_agent: Option<String>,
    quotes: Option<Template>,
    history: Option<Template>,
}

/// What differs between the built-in sources.
struct Defaults {
    base_url: &'static str,
    suffix: &'static str,
    currency: Option<&'static str>,
    key_env: Option<&'static str>,
    history_series: Option<&'static str>,
    /// Of quotes and of closes.
    adjustments: [Adjustment; 2],
    requests_per_minute: u32,
    concurrency: u32,
    body_bytes_max: u32,
}

impl Kind {
    fn defaults(self) -> Defaults {
        use Adjustment::{None as Unadjusted, Splits, SplitsAndDividends};
        let plain = Defaults {
            base_url: "",
            suffix: "",
            currency: None,
            key_env: None,
            history_series: None,
            adjustments: [Unadjusted, Unadjusted],
            requests_per_minute: 60,
            concurrency: 4,
            body_bytes_max: 8 << 20,
        };
        match self {
            Self::Demo => Defaults {
                adjustments: [SplitsAndDividends, SplitsAndDividends],
                requests_per_minute: 0,
                ..plain
            },
            Self::Yahoo => Defaults {
                base_url: "https://query1.finance.yahoo.com",
                history_series: Some("yahoo.splits"),
                adjustments: [Unadjusted, Splits],
                requests_per_minute: 300,
                concurrency: 8,
                ..plain
            },
            Self::AlphaVantage => Defaults {
                base_url: "https://www.alphavantage.co",
                currency: Some("USD"),
                key_env: Some("ALPHAVANTAGE_API_KEY"),
                requests_per_minute: 5,
                concurrency: 1,
                ..plain
            },
            Self::Stooq => Defaults {
                base_url: "https://stooq.com",
                suffix: ".us",
                currency: Some("USD"),
                history_series: Some("stooq.adjusted"),
                adjustments: [Unadjusted, SplitsAndDividends],
                ..plain
            },
            // The whole history has been beyond 8 MB for a while, and grows.
            Self::Ecb => Defaults {
                base_url: "https://www.ecb.europa.eu",
                concurrency: 1,
                body_bytes_max: 32 << 20,
                ..plain
            },
            Self::Http => plain,
        }
    }
}

impl Source {
    /// These settings over the defaults of their kind.
    fn over(
        self,
        name: &str,
        built_in: Option<Kind>,
        variable: &impl Fn(&str) -> Option<String>,
    ) -> Result<SourceSettings, Wrong> {
        let wrong = |setting: &str, reason: &str| Wrong(format!("sources.{name}.{setting} {reason}"));
        price::check_source(name).map_err(|reason| Wrong(format!("sources.{name} {reason}")))?;
        let kind = self.kind.or(built_in).ok_or_else(|| wrong("kind", "is missing"))?;
        let defaults = kind.defaults();
        let base_url = self.base_url.unwrap_or_else(|| defaults.base_url.into());
        let is_address = base_url.starts_with("https://") || base_url.starts_with("http://");
        if kind != Kind::Demo && !is_address {
            return Err(wrong("base_url", "must be an address such as https://prices.example"));
        }
        for (setting, template) in [("quotes", &self.quotes), ("history", &self.history)] {
            match template {
                Some(_) if kind != Kind::Http => return Err(wrong(setting, "is for the kind http")),
                Some(template) => {
                    template.check().map_err(|reason| wrong(setting, &format!(": {reason}")))?
                }
                None => {}
            }
        }
        let series = |setting: &str, told: Option<String>, default: Option<&str>, adjustment: Adjustment| {
            let series = told.unwrap_or_else(|| default.unwrap_or(name).into());
            price::check_source(&series).map_err(|reason| wrong(setting, reason))?;
            Ok::<_, Wrong>(Series { name: series, adjustment })
        };
        let [of_quotes, of_history] = defaults.adjustments;
        let quotes =
            series("quotes_series", self.quotes_series, None, self.quotes_adjustment.unwrap_or(of_quotes))?;
        let of_history = self.history_adjustment.unwrap_or(of_history);
        let history = series("history_series", self.history_series, defaults.history_series, of_history)?;
        if quotes.name == history.name && quotes.adjustment != history.adjustment {
            return Err(wrong("history_series", "must differ from quotes_series where the adjustment does"));
        }
        let key_env = self.key_env.or(defaults.key_env.map(Into::into));
        let key = key_env.as_deref().and_then(variable).filter(|key| !key.is_empty()).map(SecretString::from);
        let named = |setting: &str| format!("sources.{name}.{setting}");
        let ms = |setting: &str, told, default| milliseconds(&named(setting), told, default);
        let asking = Asking {
            requests_per_minute: within(
                &named("requests_per_minute"),
                self.requests_per_minute,
                defaults.requests_per_minute,
                0,
                1_000_000,
            )?,
            concurrency: within(&named("concurrency"), self.concurrency, defaults.concurrency, 1, 1_000)?,
            connect: ms("connect_ms", self.connect_ms, 5_000)?,
            read: ms("read_ms", self.read_ms, 10_000)?,
            attempt: ms("attempt_ms", self.attempt_ms, 30_000)?,
            attempts: within(&named("attempts"), self.attempts, 4, 1, 100)?,
            pause_first: ms("pause_first_ms", self.pause_first_ms, 500)?,
            pause_max: ms("pause_max_ms", self.pause_max_ms, 30_000)?,
            within: ms("within_ms", self.within_ms, 90_000)?,
            failures_max: within(&named("failures_max"), self.failures_max, 10, 1, 1_000_000)?,
            rest: ms("rest_ms", self.rest_ms, 5_000)?,
            body_bytes_max: within(
                &named("body_bytes_max"),
                self.body_bytes_max,
                defaults.body_bytes_max,
                1_024,
                1 << 30,
            )?
            .into(),
            user_agent: self
                .user_agent
                .unwrap_or_else(|| concat!("portfolio-insight/", env!("CARGO_PKG_VERSION")).into()),
        };
        if asking.user_agent.bytes().any(|byte| !(0x20..0x7f).contains(&byte)) {
            return Err(wrong("user_agent", "must be plain characters"));
        }
        Ok(SourceSettings {
            kind,
            base_url: Address(base_url.trim_end_matches('/').into()),
            symbols: self.symbols,
            suffix: self.suffix.unwrap_or_else(|| defaults.suffix.into()),
            currency: self.currency.or(defaults.currency.map(Into::into)),
            quotes,
            history,
            key,
            key_env,
            asking,
            quotes_at: self.quotes,
            history_at: self.history,
        })
    }
}

fn within(setting: &str, told: Option<u32>, default: u32, least: u32, most: u32) -> Result<u32, Wrong> {
    let value = told.unwrap_or(default);
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        Err(Wrong(format!("{setting} must be {least} to {most}")))
    }
}

fn milliseconds(setting: &str, told: Option<u32>, default: u32) -> Result<Duration, Wrong> {
    Ok(Duration::from_millis(within(setting, told, default, 1, 3_600_000)?.into()))
}

fn seconds(setting: &str, told: Option<u32>, default: u32, least: u32, most: u32) -> Result<Duration, Wrong> {
    Ok(Duration::from_secs(within(setting, told, default, least, most)?.into()))
}

/// What is wrong and in which line, without the text around it.
fn in_a_line(text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let message = error.message().replace('\n', " ");
    line.map_or(message.clone(), |line| format!("line {line}: {message}"))
}

#[cfg(test)]
mod tests;
