//! The reference: what the log says, read and folded in the plainest way there is.
//!
//! It shares no code with `domain`: it reads payloads as JSON, keeps ids as text, counts in [`Units`], and has no short
//! cuts. Every fact of a portfolio is kept, and the [ledger](super::ledger) sorts and folds them all. So whoever
//! agrees with it to the last digit does not agree because both have the same mistake.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::jobs::{self, Job};
use super::market::Market;
use super::payload::{Payload, Unreadable};
use super::units::Units;
use crate::events::Envelope;

/// Everything that events have told so far.
#[derive(Debug, Clone, Default)]
pub struct Reference {
    /// By id.
    pub investors: BTreeMap<String, Investor>,
    /// By id.
    pub portfolios: BTreeMap<String, Portfolio>,
    /// Assets, symbols and prices.
    pub market: Market,
    /// By id.
    pub jobs: BTreeMap<String, Job>,
    /// By shard, where it was asked for that all risk be computed anew.
    pub requests: BTreeMap<i16, BTreeSet<i64>>,
}

/// An investor, without personal data.
#[derive(Debug, Clone)]
pub struct Investor {
    /// Self-declared.
    pub risk_tolerance: Option<String>,
    /// Self-declared.
    pub experience_level: Option<String>,
    /// When the log took the first event.
    pub registered_at: DateTime<Utc>,
    /// The stream's last event.
    pub version: i64,
    /// The stream's last event.
    pub position: i64,
}

/// A portfolio: its settings as of now, and everything that happened in it.
#[derive(Debug, Clone)]
pub struct Portfolio {
    /// By the position from which they are: a change of accounting applies to the whole history.
    pub settings: BTreeMap<i64, Settings>,
    /// In the order of the log.
    pub happenings: Vec<Happening>,
    /// When the log took the first event.
    pub opened_at: DateTime<Utc>,
    /// Where its events live.
    pub shard: i16,
    /// The stream's last event.
    pub version: i64,
    /// The stream's last event.
    pub position: i64,
}

/// How a portfolio is kept. Names of choices are those of the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whose it is.
    pub investor_id: String,
    /// What it is called.
    pub name: String,
    /// What it reports in.
    pub base_currency: String,
    /// IANA zone.
    pub time_zone: String,
    /// `fifo`, `lifo`, `hifo` or `average`.
    pub cost_basis: String,
    /// Whether a buy's charges are part of its cost, and a sale's fee of its proceeds.
    pub fees_in_cost: bool,
    /// `tracked` or `untracked`.
    pub cash: String,
    /// Whether more may be sold than is held.
    pub allow_short: bool,
}

/// One event of a portfolio.
#[derive(Debug, Clone)]
pub struct Happening {
    /// In the log.
    pub position: i64,
    /// `{command_id}.{ordinal}`.
    pub event_id: String,
    /// As it is told to an investor.
    pub kind: &'static str,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// When the log took it.
    pub recorded_at: DateTime<Utc>,
    /// The client's remark.
    pub note: Option<String>,
    /// What it is in the ledger; absent for settings.
    pub entry: Option<Entry>,
}

/// One fact of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// In the log.
    pub position: i64,
    /// `YYYY-MM-DD`, which sorts as text.
    pub trade_date: String,
    /// `buy`, `sell`, `deposit` or `withdraw`.
    pub kind: &'static str,
    /// Absent for cash.
    pub asset_id: Option<String>,
    /// Positive; zero for cash.
    pub quantity: Units,
    /// In quote units; absent for cash.
    pub price: Option<Units>,
    /// Gross, positive.
    pub amount: Units,
    /// Not negative.
    pub fee: Units,
    /// Not negative.
    pub tax: Units,
    /// Of amount, fee and tax.
    pub currency: String,
    /// Units of base for one of `currency`, if told.
    pub fx_rate: Option<Units>,
    /// Whether a trade was paid in base.
    pub settled_in_base: bool,
    /// Currency and change of tracked cash.
    pub cash: Option<(String, Units)>,
}

impl Reference {
    /// Takes in the next event.
    ///
    /// # Errors
    /// [`Unreadable`]: it cannot be what the log holds at this place.
    pub fn take(&mut self, event: &Envelope) -> Result<(), Unreadable> {
        let payload = Payload::parse(&event.payload)?;
        let stream = event.stream_id.as_str();
        let told = |message: &str| Unreadable(format!("{message} in the stream {stream}"));
        if let Some(id) = stream.strip_prefix("investor-") {
            return self.investor(id, event, &payload);
        }
        if let Some(id) = stream.strip_prefix("portfolio-") {
            return match self.portfolios.get_mut(id) {
                Some(portfolio) => portfolio.take(event, &payload),
                None if &*event.event_type == "PortfolioOpened" => {
                    require_id(&payload, "portfolio_id", id)?;
                    self.portfolios.insert(id.to_owned(), Portfolio::open(event, &payload)?);
                    Ok(())
                }
                None => Err(told("stands before the opening")),
            };
        }
        if let Some(id) = stream.strip_prefix("job-") {
            return jobs::take(&mut self.jobs, id, event, &payload);
        }
        if let Some(shard) = stream.strip_prefix("shard-") {
            return self.shard(shard, event, &payload);
        }
        self.market.take(event, &payload)
    }

    fn shard(&mut self, shard: &str, event: &Envelope, payload: &Payload) -> Result<(), Unreadable> {
        if &*event.event_type != "RiskRecomputeRequested" || event.shard.0.to_string() != shard {
            return Err(Unreadable(format!("{} does not belong into shard-{shard}", event.event_type)));
        }
        payload.text("job_id")?;
        payload.text("run_id")?;
        self.requests.entry(event.shard.0).or_default().insert(event.position.0);
        Ok(())
    }

    fn investor(&mut self, id: &str, event: &Envelope, payload: &Payload) -> Result<(), Unreadable> {
        if &*event.event_type != "InvestorRegistered" || self.investors.contains_key(id) {
            return Err(Unreadable(format!("{} does not belong into investor-{id}", event.event_type)));
        }
        require_id(payload, "investor_id", id)?;
        let investor = Investor {
            risk_tolerance: payload.optional_text("risk_tolerance")?,
            experience_level: payload.optional_text("experience_level")?,
            registered_at: event.recorded_at,
            version: event.version.0,
            position: event.position.0,
        };
        self.investors.insert(id.to_owned(), investor);
        Ok(())
    }
}

/// A payload names the id that its stream is named after.
pub(super) fn require_id(payload: &Payload, name: &str, id: &str) -> Result<(), Unreadable> {
    let named = payload.text(name)?;
    if named == id {
        Ok(())
    } else {
        Err(Unreadable(format!("names the {name} {named} in the stream of {id}")))
    }
}

impl Portfolio {
    /// Its facts, in the order of the log.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.happenings.iter().filter_map(|happening| happening.entry.as_ref())
    }

    /// The settings as of now.
    pub fn settings(&self) -> &Settings {
        self.settings_at(i64::MAX)
    }

    /// The settings as of a position of the log at or after the opening.
    pub fn settings_at(&self, position: i64) -> &Settings {
        let before = self.settings.range(..=position).next_back();
        before.or_else(|| self.settings.first_key_value()).expect("a portfolio was opened with settings").1
    }

    fn open(event: &Envelope, payload: &Payload) -> Result<Self, Unreadable> {
        let settings = Settings {
            investor_id: payload.text("investor_id")?,
            name: payload.text("name")?,
            base_currency: payload.text("base_currency")?,
            time_zone: payload.text("time_zone")?,
            cost_basis: cost_basis(payload.text("cost_basis")?)?,
            fees_in_cost: payload.flag("fees_in_cost")?,
            cash: payload.text("cash")?,
            allow_short: payload.flag("allow_short")?,
        };
        Ok(Self {
            settings: BTreeMap::from([(event.position.0, settings)]),
            happenings: vec![Happening::new(event, "opened", None, None)],
            opened_at: event.recorded_at,
            shard: event.shard.0,
            version: event.version.0,
            position: event.position.0,
        })
    }

    fn take(&mut self, event: &Envelope, payload: &Payload) -> Result<(), Unreadable> {
        let happening = match &*event.event_type {
            "AccountingChanged" => {
                let changed = self.settings().changed(payload)?;
                self.settings.insert(event.position.0, changed);
                Happening::new(event, "settings_changed", None, None)
            }
            "AssetBought" => Happening::of_entry(event, payload, Entry::trade(event, "buy", payload)?)?,
            "AssetSold" => Happening::of_entry(event, payload, Entry::trade(event, "sell", payload)?)?,
            "CashDeposited" => Happening::of_entry(event, payload, Entry::cash(event, "deposit", payload)?)?,
            "CashWithdrawn" => Happening::of_entry(event, payload, Entry::cash(event, "withdraw", payload)?)?,
            other => return Err(Unreadable(format!("{other} does not belong into {}", event.stream_id))),
        };
        self.happenings.push(happening);
        self.version = event.version.0;
        self.position = event.position.0;
        Ok(())
    }
}

impl Settings {
    fn changed(&self, payload: &Payload) -> Result<Self, Unreadable> {
        let basis = payload.optional_text("cost_basis")?.map(cost_basis).transpose()?;
        Ok(Self {
            name: payload.optional_text("name")?.unwrap_or_else(|| self.name.clone()),
            cost_basis: basis.unwrap_or_else(|| self.cost_basis.clone()),
            fees_in_cost: payload.optional_flag("fees_in_cost")?.unwrap_or(self.fees_in_cost),
            ..self.clone()
        })
    }
}

fn cost_basis(name: String) -> Result<String, Unreadable> {
    match name.as_str() {
        "fifo" | "lifo" | "hifo" | "average" => Ok(name),
        _ => Err(Unreadable(format!("has an unknown cost basis {name:?}"))),
    }
}

impl Happening {
    fn new(event: &Envelope, kind: &'static str, note: Option<String>, entry: Option<Entry>) -> Self {
        Self {
            position: event.position.0,
            event_id: event.event_id.to_string(),
            kind,
            occurred_at: event.occurred_at,
            recorded_at: event.recorded_at,
            note,
            entry,
        }
    }

    fn of_entry(event: &Envelope, payload: &Payload, entry: Entry) -> Result<Self, Unreadable> {
        Ok(Self::new(event, entry.kind, payload.optional_text("note")?, Some(entry)))
    }
}

impl Entry {
    fn trade(event: &Envelope, kind: &'static str, payload: &Payload) -> Result<Self, Unreadable> {
        let cash = match payload.object("cash") {
            Some(cash) => Some((cash.text("currency")?, cash.units("amount")?)),
            None => None,
        };
        let entry = Self {
            position: event.position.0,
            trade_date: payload.text("trade_date")?,
            kind,
            asset_id: Some(payload.text("asset_id")?),
            quantity: payload.units("quantity")?,
            price: Some(payload.units("price")?),
            amount: payload.units("amount")?,
            fee: payload.units("fee")?,
            tax: payload.units("tax")?,
            currency: payload.text("currency")?,
            fx_rate: payload.optional_units("fx_rate")?,
            settled_in_base: payload.text("settle")? == "base",
            cash,
        };
        let is_possible = entry.quantity.signum() > 0 && !entry.fee.is_negative() && !entry.tax.is_negative();
        if is_possible {
            Ok(entry)
        } else {
            Err(Unreadable("is a trade of nothing, or with a negative charge".into()))
        }
    }

    fn cash(event: &Envelope, kind: &'static str, payload: &Payload) -> Result<Self, Unreadable> {
        let (currency, amount) = (payload.text("currency")?, payload.units("amount")?);
        if amount.signum() <= 0 {
            return Err(Unreadable(format!("moves {amount} of cash")));
        }
        let change = if kind == "deposit" { amount } else { -amount };
        Ok(Self {
            position: event.position.0,
            trade_date: payload.text("trade_date")?,
            kind,
            asset_id: None,
            quantity: Units::ZERO,
            price: None,
            amount,
            fee: Units::ZERO,
            tax: Units::ZERO,
            currency: currency.clone(),
            fx_rate: None,
            settled_in_base: false,
            cash: Some((currency, change)),
        })
    }
}
