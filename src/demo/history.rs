//! What the demo's investors did, from 2000 to the last closes: pure, and a function of seed and market.
//!
//! A plan never oversells and never overdraws, also where a trade is entered late. What a trade takes (cash for a buy, units for a
//! sale) is set aside on the day it is made; what it brings counts only once it is entered. So every prefix of the plan is a ledger
//! without a negative day, which is what the server will check.

use std::collections::BTreeMap;

use chrono::{Datelike, NaiveDate};
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde::Serialize;

use super::market::Market;
use super::styles::{Style, Taste};
use crate::domain::exact;
use crate::domain::money::{Amount, Price, Quantity, Rate};
use crate::domain::portfolio::event::CashMode;

/// Days at the end that come as live ticks; nobody trades on them.
pub const LIVE_DAYS: usize = 3;

const FIRST_YEAR: i32 = 2000;
/// Trading days in a year: how far back strength is measured.
const YEAR_DAYS: usize = 252;
/// A late trade is entered so many months after it was made.
const LATE_MONTHS: usize = 2;
/// Raise of the budget, in percent of the first year's, each year.
const RAISE_PERCENT: i32 = 2;
const CENTS: u32 = 2;

/// A command on a portfolio. It serialises as its body.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Fact {
    /// Buys units.
    Buy(Trade),
    /// Sells units.
    Sell(Trade),
    /// Pays cash in.
    Deposit(Movement),
    /// Takes cash out.
    Withdraw(Movement),
}

/// Body of a buy or a sale.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trade {
    /// Symbol of the asset.
    pub asset: String,
    /// Units, whole.
    pub quantity: Quantity,
    /// The close of the day.
    pub price: Price,
    /// What the broker took.
    pub fee: Amount,
    /// The day.
    pub trade_date: NaiveDate,
    /// On late entries: why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Body of a deposit or a withdrawal.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Movement {
    /// Whole dollars.
    pub amount: Amount,
    /// `USD`.
    pub currency: &'static str,
    /// The day.
    pub trade_date: NaiveDate,
}

impl Fact {
    /// The last part of the path that takes it.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Buy(_) => "buy",
            Self::Sell(_) => "sell",
            Self::Deposit(_) => "deposit",
            Self::Withdraw(_) => "withdraw",
        }
    }
}

/// Everything that happens in the portfolio with this number, in the order in which it is entered.
pub fn plan(market: &Market, style: &Style, seed: u64, portfolio: usize) -> Vec<Fact> {
    // An odd multiplier keeps the streams of neighbouring seeds and portfolios apart.
    let seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(portfolio as u64);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut universe: Vec<usize> = (0..market.assets.len()).collect();
    universe.shuffle(&mut random);
    universe.truncate(style.assets);

    let mut book = Book::new(market, style, universe);
    for (month, first_day) in month_starts(market).into_iter().enumerate() {
        book.enter_what_is_due(month);
        book.live_through(month, first_day + random.random_range(0..10));
    }
    book.enter_what_is_due(usize::MAX);
    book.entered
}

/// The first trading day of each month, from 2000 on, as long as ten days follow it before the live ones.
fn month_starts(market: &Market) -> Vec<usize> {
    let traded = market.days.len().saturating_sub(LIVE_DAYS + 10);
    let starts = (1..traded).filter(|&day| {
        let (before, now) = (market.days[day - 1], market.days[day]);
        now.year() >= FIRST_YEAR && now.month() != before.month()
    });
    starts.collect()
}

/// A portfolio as its owner knows it.
struct Book<'a> {
    market: &'a Market,
    style: &'a Style,
    universe: Vec<usize>,
    /// Units that may be sold, by asset.
    units: BTreeMap<usize, u64>,
    /// Dollars that may be spent; stays 0 where cash is not tracked.
    cash: Decimal,
    trades: usize,
    late: Vec<(usize, Fact)>,
    entered: Vec<Fact>,
}

impl<'a> Book<'a> {
    fn new(market: &'a Market, style: &'a Style, universe: Vec<usize>) -> Self {
        Self {
            market,
            style,
            universe,
            units: BTreeMap::new(),
            cash: Decimal::ZERO,
            trades: 0,
            late: Vec::new(),
            entered: Vec::new(),
        }
    }

    /// One month: pay in, rebalance in January, buy when it is time.
    fn live_through(&mut self, month: usize, day: usize) {
        let date = self.market.days[day];
        if !month.is_multiple_of(self.style.every_months) {
            return;
        }
        let raise = Decimal::new(i64::from(100 + RAISE_PERCENT * (date.year() - FIRST_YEAR)), 2);
        let budget = (Decimal::from(self.style.budget) * raise).trunc();
        if self.tracks_cash() {
            self.enter(Fact::Deposit(movement(budget, date)));
        }
        if date.month() == 1 && date.year() > FIRST_YEAR {
            self.trim(month, day);
            self.draw(day);
        }
        self.buy_picks(month, day, budget);
        self.make_room(month, day);
    }

    /// Sells what has grown beyond its share.
    fn trim(&mut self, month: usize, day: usize) {
        let Some(percent) = self.style.share_percent_max else { return };
        // Where there is little to choose from, an equal share must be allowed, and half as much again.
        let percent = Decimal::from(percent.max(150 / self.universe.len().max(1) as u64));
        let total: Decimal = self.units.keys().map(|&asset| self.value(asset, day)).sum();
        let allowed = total * percent / Decimal::ONE_HUNDRED;
        for asset in self.held() {
            let excess = self.value(asset, day) - allowed;
            let units = (excess / self.price(asset, day).decimal()).trunc().to_u64().unwrap_or(0);
            if units > 0 {
                self.sell(month, day, asset, units);
            }
        }
    }

    /// Every fifth January, half of the cash is taken out.
    fn draw(&mut self, day: usize) {
        let date = self.market.days[day];
        let half = (self.cash / Decimal::TWO).trunc();
        if self.tracks_cash() && date.year() % 5 == 0 && half > Decimal::ZERO {
            self.enter(Fact::Withdraw(movement(half, date)));
        }
    }

    fn buy_picks(&mut self, month: usize, day: usize, budget: Decimal) {
        let to_spend = if self.tracks_cash() { self.cash } else { budget };
        let mut picks = self.universe.clone();
        match self.style.taste {
            Taste::Lightest => picks.sort_by_key(|&asset| self.value(asset, day)),
            Taste::Strongest => {
                picks.sort_by(|&a, &b| self.strength(b, day).total_cmp(&self.strength(a, day)))
            }
            Taste::Weakest => picks.sort_by(|&a, &b| self.strength(a, day).total_cmp(&self.strength(b, day))),
        }
        picks.truncate(self.style.picks);
        let share = to_spend / Decimal::from(picks.len().max(1) as u64);
        for asset in picks {
            let after_fee = share - fee(share);
            let units = (after_fee / self.price(asset, day).decimal()).trunc().to_u64().unwrap_or(0);
            if units > 0 {
                self.buy(month, day, asset, units);
            }
        }
    }

    /// Sells out what is liked least, while more is held than wanted.
    fn make_room(&mut self, month: usize, day: usize) {
        while self.units.len() > self.style.holdings_max {
            let strength = |&asset: &usize| self.strength(asset, day);
            let by_strength = |a: &usize, b: &usize| strength(a).total_cmp(&strength(b));
            let held = self.held();
            let least_liked = match self.style.taste {
                Taste::Lightest => held.into_iter().max_by_key(|&asset| self.value(asset, day)),
                Taste::Strongest => held.into_iter().min_by(by_strength),
                Taste::Weakest => held.into_iter().max_by(by_strength),
            };
            let Some(asset) = least_liked else { return };
            self.sell(month, day, asset, self.units[&asset]);
        }
    }

    fn buy(&mut self, month: usize, day: usize, asset: usize, units: u64) {
        let trade = self.trade(day, asset, units);
        if self.tracks_cash() {
            self.cash -= exact::round_to(gross(&trade) + trade.fee.decimal(), CENTS);
        }
        self.enter_now_or_late(month, Fact::Buy(trade));
    }

    fn sell(&mut self, month: usize, day: usize, asset: usize, units: u64) {
        let trade = self.trade(day, asset, units);
        let left = self.units[&asset] - units;
        match left {
            0 => self.units.remove(&asset),
            _ => self.units.insert(asset, left),
        };
        self.enter_now_or_late(month, Fact::Sell(trade));
    }

    fn trade(&self, day: usize, asset: usize, units: u64) -> Trade {
        let price = self.price(asset, day);
        Trade {
            asset: self.market.assets[asset].symbol.clone(),
            quantity: Quantity::from_decimal(Decimal::from(units)),
            price,
            fee: Amount::from_decimal(fee(Decimal::from(units) * price.decimal())),
            trade_date: self.market.days[day],
            note: None,
        }
    }

    fn enter_now_or_late(&mut self, month: usize, mut fact: Fact) {
        self.trades += 1;
        let is_late = self.style.late_every.is_some_and(|every| self.trades.is_multiple_of(every));
        if !is_late {
            return self.enter(fact);
        }
        if let Fact::Buy(trade) | Fact::Sell(trade) = &mut fact {
            trade.note = Some("entered when the contract note was found".into());
        }
        self.late.push((month + LATE_MONTHS, fact));
    }

    fn enter_what_is_due(&mut self, month: usize) {
        let (due, later) = std::mem::take(&mut self.late).into_iter().partition(|(when, _)| *when <= month);
        self.late = later;
        let due: Vec<(usize, Fact)> = due;
        for (_, fact) in due {
            self.enter(fact);
        }
    }

    /// From now on the server knows it, and what it brings may be used.
    fn enter(&mut self, fact: Fact) {
        match &fact {
            Fact::Buy(trade) => *self.units.entry(self.asset(&trade.asset)).or_default() += units(trade),
            Fact::Sell(trade) if self.tracks_cash() => {
                self.cash += exact::round_to(gross(trade) - trade.fee.decimal(), CENTS);
            }
            Fact::Sell(_) => {}
            Fact::Deposit(movement) => self.cash += movement.amount.decimal(),
            Fact::Withdraw(movement) => self.cash -= movement.amount.decimal(),
        }
        self.entered.push(fact);
    }

    fn tracks_cash(&self) -> bool {
        self.style.settings.cash == CashMode::Tracked
    }

    fn asset(&self, symbol: &str) -> usize {
        let place = self.market.assets.iter().position(|asset| asset.symbol == symbol);
        place.expect("trades are made from the assets of this market")
    }

    fn held(&self) -> Vec<usize> {
        self.units.keys().copied().collect()
    }

    fn price(&self, asset: usize, day: usize) -> Price {
        self.market.assets[asset].close(day)
    }

    fn value(&self, asset: usize, day: usize) -> Decimal {
        let units = self.units.get(&asset).copied().unwrap_or(0);
        Decimal::from(units) * self.price(asset, day).decimal()
    }

    /// Price over the price a year before.
    fn strength(&self, asset: usize, day: usize) -> f64 {
        let ratio = self.price(asset, day).decimal() / self.price(asset, day - YEAR_DAYS).decimal();
        ratio.to_f64().unwrap_or(1.0)
    }
}

/// A tenth of a percent, at least a dollar, in cents.
fn fee(amount: Decimal) -> Decimal {
    exact::round_to(amount / Decimal::ONE_THOUSAND, CENTS).max(Decimal::ONE)
}

fn gross(trade: &Trade) -> Decimal {
    let one = Rate::from_decimal(Decimal::ONE);
    let gross = Amount::gross(trade.quantity, trade.price, one);
    gross.expect("budgets of some thousands stay far below the bound").decimal()
}

fn units(trade: &Trade) -> u64 {
    trade.quantity.decimal().to_u64().expect("plans trade whole units")
}

fn movement(amount: Decimal, trade_date: NaiveDate) -> Movement {
    Movement { amount: Amount::from_decimal(amount), currency: "USD", trade_date }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::market::market;
    use crate::demo::styles::style;

    /// Folds what was entered so far, in the order of the ledger, and says where something went below zero.
    fn first_shortfall(entered: &[Fact], tracked: bool) -> Option<String> {
        let mut ledger: Vec<&Fact> = entered.iter().collect();
        ledger.sort_by_key(|fact| match fact {
            Fact::Buy(trade) | Fact::Sell(trade) => trade.trade_date,
            Fact::Deposit(movement) | Fact::Withdraw(movement) => movement.trade_date,
        });
        let mut cash = Decimal::ZERO;
        let mut units: BTreeMap<&str, Decimal> = BTreeMap::new();
        for fact in ledger {
            match fact {
                Fact::Buy(t) => {
                    cash -= exact::round_to(gross(t) + t.fee.decimal(), 2);
                    *units.entry(&t.asset).or_default() += t.quantity.decimal();
                }
                Fact::Sell(t) => {
                    cash += exact::round_to(gross(t) - t.fee.decimal(), 2);
                    *units.entry(&t.asset).or_default() -= t.quantity.decimal();
                }
                Fact::Deposit(m) => cash += m.amount.decimal(),
                Fact::Withdraw(m) => cash -= m.amount.decimal(),
            }
            if (tracked && cash < Decimal::ZERO) || units.values().any(|held| *held < Decimal::ZERO) {
                return Some(format!("{fact:?} leaves {cash} and {units:?}"));
            }
        }
        None
    }

    #[test]
    fn no_day_is_negative_whenever_one_looks() {
        let market = market(20);
        for portfolio in 0..6 {
            let style = style(portfolio);
            let facts = plan(&market, style, 7, portfolio);
            let tracked = style.settings.cash == CashMode::Tracked;
            for entered in (0..=facts.len()).step_by(3).chain([facts.len()]) {
                assert_eq!(first_shortfall(&facts[..entered], tracked), None, "{}", style.name);
            }
        }
    }

    #[test]
    fn a_history_is_long_has_both_sides_and_late_entries() {
        let market = market(20);
        let facts: Vec<Fact> = (0..6).flat_map(|p| plan(&market, style(p), 7, p)).collect();
        let count = |verb| facts.iter().filter(|fact| fact.verb() == verb).count();
        assert!((1_500..6_000).contains(&facts.len()), "{}", facts.len());
        assert!(count("sell") > 100 && count("withdraw") > 3, "{} {}", count("sell"), count("withdraw"));
        let late = facts.iter().filter(|f| matches!(f, Fact::Buy(t) | Fact::Sell(t) if t.note.is_some()));
        assert!(late.count() > 20);
    }

    #[test]
    fn the_same_seed_gives_the_same_history_and_another_one_another() {
        let market = market(20);
        assert_eq!(plan(&market, style(0), 1, 0), plan(&market, style(0), 1, 0));
        assert_ne!(plan(&market, style(0), 1, 0), plan(&market, style(0), 2, 0));
        assert_ne!(plan(&market, style(0), 1, 0), plan(&market, style(0), 1, 6));
    }

    #[test]
    fn a_market_of_one_asset_is_enough() {
        let market = market(1);
        for portfolio in 0..6 {
            assert!(!plan(&market, style(portfolio), 1, portfolio).is_empty());
        }
    }

    #[test]
    fn a_fact_is_the_body_that_the_api_takes() {
        let facts = plan(&market(20), style(0), 7, 0);
        let bodies: Vec<String> = facts.iter().take(2).map(|f| serde_json::to_string(f).unwrap()).collect();
        assert!(bodies[0].starts_with(r#"{"amount":"1500","currency":"USD","trade_date":"2000-01-"#));
        assert!(bodies[1].contains(r#""quantity":""#) && !bodies[1].contains("note"), "{}", bodies[1]);
    }
}
