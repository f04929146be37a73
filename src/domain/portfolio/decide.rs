//! Decides: a command and what is known give facts, or a rejection. Everything is checked here.
//!
//! Fields come first and all at once (422), then what the state refuses (409). Limits are kept for every total
//! that a fact can cause under any cost basis and in any order, so that folds cannot overflow.

use chrono::{DateTime, NaiveDate, Utc};

use super::command::{CashCommand, ChangeAccounting, OpenPortfolio, PortfolioCommand, TradeCommand};
use super::event::{
    AccountingChanged, CashEffect, CashMode, CashMovement, PortfolioEvent, PortfolioOpened, Settlement, Trade,
};
use super::state::{Portfolio, Settings};
use crate::domain::asset::{Asset, AssetClass, Listing};
use crate::domain::currency::Currency;
use crate::domain::dates;
use crate::domain::fields::Fields;
use crate::domain::money::{Amount, Quantity, Rate};
use crate::domain::rejection::Rejection;

/// Characters of a portfolio's name.
pub const NAME_CHARS_MAX: usize = 200;
/// Characters of a remark.
pub const NOTE_CHARS_MAX: usize = 1_000;
const NOT_POSITIVE: &str = "must be greater than 0";
const NEGATIVE: &str = "must not be negative";
const TOO_LARGE: &str = "is too large: amounts and totals must stay below 100000000000000000";

/// The facts that a command makes of a portfolio; none if it changes nothing. `asset` is the one that a trade
/// names, if there is such an asset.
///
/// # Errors
/// [`Rejection`]: a field is impossible, or the state refuses.
pub fn decide(
    portfolio: &Portfolio,
    asset: Option<&Asset>,
    command: &PortfolioCommand,
    now: DateTime<Utc>,
) -> Result<Vec<PortfolioEvent>, Rejection> {
    let deciding = || Deciding::about(portfolio, now);
    match command {
        PortfolioCommand::Open(open) => open_portfolio(portfolio, open),
        PortfolioCommand::ChangeAccounting(change) => change_accounting(deciding()?.settings, change),
        PortfolioCommand::Buy(trade) => deciding()?.buy(asset, trade),
        PortfolioCommand::Sell(trade) => deciding()?.sell(asset, trade),
        PortfolioCommand::Deposit(cash) => deciding()?.deposit(cash),
        PortfolioCommand::Withdraw(cash) => deciding()?.withdraw(cash),
    }
}

fn open_portfolio(portfolio: &Portfolio, open: &OpenPortfolio) -> Result<Vec<PortfolioEvent>, Rejection> {
    if portfolio.settings().is_some() {
        return Err(Rejection::AlreadyExists { kind: "portfolio" });
    }
    let time_zone = open.time_zone.as_deref().unwrap_or("UTC");
    let mut fields = Fields::new();
    fields.text("name", &open.name, NAME_CHARS_MAX);
    fields.take("time_zone", dates::zone(time_zone));
    fields.finish()?;
    Ok(vec![PortfolioEvent::PortfolioOpened(PortfolioOpened {
        portfolio_id: open.portfolio_id,
        investor_id: open.investor_id,
        name: open.name.clone(),
        base_currency: open.base_currency.clone(),
        time_zone: time_zone.to_owned(),
        cost_basis: open.cost_basis,
        fees_in_cost: open.fees_in_cost,
        cash: open.cash,
        allow_short: open.allow_short,
    })])
}

/// What is told again changes nothing, so it is left out; a change of nothing is no event.
fn change_accounting(
    settings: &Settings,
    change: &ChangeAccounting,
) -> Result<Vec<PortfolioEvent>, Rejection> {
    let mut fields = Fields::new();
    fields.optional_text("name", change.name.as_deref(), NAME_CHARS_MAX);
    fields.finish()?;
    let changed = AccountingChanged {
        name: change.name.clone().filter(|name| *name != settings.name),
        cost_basis: change.cost_basis.filter(|basis| *basis != settings.accounting.cost_basis),
        fees_in_cost: change.fees_in_cost.filter(|in_cost| *in_cost != settings.accounting.fees_in_cost),
    };
    if changed == AccountingChanged::default() {
        return Ok(Vec::new());
    }
    Ok(vec![PortfolioEvent::AccountingChanged(changed)])
}

/// What decisions about an open portfolio lean on.
struct Deciding<'a> {
    portfolio: &'a Portfolio,
    settings: &'a Settings,
    today: NaiveDate,
}

impl<'a> Deciding<'a> {
    fn about(portfolio: &'a Portfolio, now: DateTime<Utc>) -> Result<Self, Rejection> {
        let settings = portfolio.settings().ok_or(Rejection::NotFound { kind: "portfolio" })?;
        Ok(Self { portfolio, settings, today: dates::today(now, settings.time_zone) })
    }

    fn buy(&self, asset: Option<&Asset>, command: &TradeCommand) -> Result<Vec<PortfolioEvent>, Rejection> {
        let checked = self.check_trade(asset, command)?;
        if asset.and_then(Asset::delisted).is_some_and(|last_day| checked.trade_date > last_day) {
            return Err(Rejection::NotTradable { reason: "it is no longer listed on that day" });
        }
        let paid = -checked.amount.saturating_add(checked.charges);
        let trade = self.settle(command, checked, paid)?;
        Ok(vec![PortfolioEvent::AssetBought(trade)])
    }

    fn sell(&self, asset: Option<&Asset>, command: &TradeCommand) -> Result<Vec<PortfolioEvent>, Rejection> {
        let checked = self.check_trade(asset, command)?;
        if !self.settings.allow_short {
            self.require_units(command, checked.trade_date)?;
        }
        let received = checked.amount.saturating_sub(checked.charges);
        let trade = self.settle(command, checked, received)?;
        Ok(vec![PortfolioEvent::AssetSold(trade)])
    }

    fn deposit(&self, command: &CashCommand) -> Result<Vec<PortfolioEvent>, Rejection> {
        let movement = self.check_movement(command)?;
        Ok(vec![PortfolioEvent::CashDeposited(movement)])
    }

    fn withdraw(&self, command: &CashCommand) -> Result<Vec<PortfolioEvent>, Rejection> {
        let movement = self.check_movement(command)?;
        self.require_cash(&movement.currency, movement.trade_date, -movement.amount)?;
        Ok(vec![PortfolioEvent::CashWithdrawn(movement)])
    }

    /// Checks the fields of a trade, and that the asset is one that is traded.
    fn check_trade(&self, asset: Option<&Asset>, command: &TradeCommand) -> Result<CheckedTrade, Rejection> {
        let mut fields = Fields::new();
        fields.require(command.quantity.is_positive(), "quantity", NOT_POSITIVE);
        fields.require(command.price.is_positive(), "price", NOT_POSITIVE);
        fields.require(!command.fee.is_negative(), "fee", NEGATIVE);
        fields.require(!command.tax.is_negative(), "tax", NEGATIVE);
        fields.require(command.fx_rate.is_none_or(Rate::is_positive), "fx_rate", NOT_POSITIVE);
        fields.optional_text("note", command.note.as_deref(), NOTE_CHARS_MAX);
        let trade_date = self.check_day(&mut fields, command.trade_date);

        let Some(listing) = asset.and_then(Asset::listing) else {
            fields.refuse("asset", "is unknown");
            return Err(fields.rejection());
        };
        self.check_currencies(&mut fields, listing, command);
        fields.finish()?;
        if listing.class == AssetClass::Fx {
            return Err(Rejection::NotTradable { reason: "it is an exchange rate" });
        }

        let too_large = |field| move || Rejection::field(field, TOO_LARGE);
        let amount = Amount::gross(command.quantity, command.price, listing.quote_unit);
        let amount = amount.ok_or_else(too_large("quantity"))?;
        let charges = command.fee.checked_add(command.tax).ok_or_else(too_large("fee"))?;
        let turnover = amount.checked_add(charges).ok_or_else(too_large("fee"))?;
        if !self.portfolio.has_room_for_trade(command.asset_id, command.quantity, turnover) {
            return Err(Rejection::field("quantity", TOO_LARGE));
        }
        Ok(CheckedTrade { amount, charges, currency: listing.currency.clone(), trade_date })
    }

    fn check_currencies(&self, fields: &mut Fields, listing: &Listing, command: &TradeCommand) {
        let base = &self.settings.base_currency;
        if command.currency.as_ref().is_some_and(|told| *told != listing.currency) {
            fields.refuse("currency", format!("is not the asset's currency, {}", listing.currency));
        }
        match command.fx_rate {
            Some(rate) if listing.currency == *base && rate.is_positive() && rate != Rate::ONE => {
                fields.refuse("fx_rate", format!("must be 1 or absent: the asset is quoted in {base} too"));
            }
            None if listing.currency != *base && command.settle == Settlement::Base => {
                fields.refuse("fx_rate", format!("is needed to settle {} in {base}", listing.currency));
            }
            _ => {}
        }
    }

    /// The trade with its effect on cash: `change` of the asset's currency, in the currency it is settled in.
    fn settle(
        &self,
        command: &TradeCommand,
        checked: CheckedTrade,
        change: Amount,
    ) -> Result<Trade, Rejection> {
        let cash = match self.settings.cash {
            CashMode::Untracked => None,
            CashMode::Tracked => Some(self.cash_effect(command, &checked, change)?),
        };
        if let Some(effect) = &cash {
            self.require_cash(&effect.currency, checked.trade_date, effect.amount)?;
        }
        Ok(Trade {
            asset_id: command.asset_id,
            quantity: command.quantity,
            price: command.price,
            currency: checked.currency,
            amount: checked.amount,
            fee: command.fee,
            tax: command.tax,
            fx_rate: command.fx_rate,
            settle: command.settle,
            cash,
            trade_date: checked.trade_date,
            note: command.note.clone(),
        })
    }

    fn cash_effect(
        &self,
        command: &TradeCommand,
        checked: &CheckedTrade,
        change: Amount,
    ) -> Result<CashEffect, Rejection> {
        let (currency, change) = match (command.settle, command.fx_rate) {
            (Settlement::Base, Some(rate)) => (&self.settings.base_currency, change.at_rate(rate)),
            _ => (&checked.currency, Some(change)),
        };
        let change = change.map(|change| change.to_minor_unit(currency));
        match change.filter(|change| self.portfolio.has_room_for_cash(currency, *change)) {
            Some(amount) => Ok(CashEffect { currency: currency.clone(), amount }),
            None => Err(Rejection::field("quantity", TOO_LARGE)),
        }
    }

    /// Checks a deposit or withdrawal; its amount is rounded to the minor unit, as it will be booked.
    fn check_movement(&self, command: &CashCommand) -> Result<CashMovement, Rejection> {
        let currency = command.currency.as_ref().unwrap_or(&self.settings.base_currency);
        let amount = command.amount.to_minor_unit(currency);
        let mut fields = Fields::new();
        if !command.amount.is_positive() {
            fields.refuse("amount", NOT_POSITIVE);
        } else if amount.is_zero() {
            fields.refuse("amount", format!("is less than the smallest unit of {currency}"));
        } else if !self.portfolio.has_room_for_cash(currency, amount) {
            fields.refuse("amount", TOO_LARGE);
        }
        fields.optional_text("note", command.note.as_deref(), NOTE_CHARS_MAX);
        let trade_date = self.check_day(&mut fields, command.trade_date);
        fields.finish()?;
        if self.settings.cash == CashMode::Untracked {
            return Err(Rejection::CashUntracked);
        }
        Ok(CashMovement { amount, currency: currency.clone(), trade_date, note: command.note.clone() })
    }

    fn check_day(&self, fields: &mut Fields, told: Option<NaiveDate>) -> NaiveDate {
        let day = told.unwrap_or(self.today);
        fields.take("trade_date", dates::check_day(day, self.today));
        day
    }

    /// Refuses a sale after which, on its day or a later one, more would be sold than held.
    fn require_units(&self, command: &TradeCommand, day: NaiveDate) -> Result<(), Rejection> {
        match self.portfolio.units_shortfall(command.asset_id, day, -command.quantity) {
            None => Ok(()),
            Some(shortfall) => Err(Rejection::InsufficientHolding {
                day: shortfall.day,
                held: Quantity::from_decimal(shortfall.held),
            }),
        }
    }

    /// Refuses a payment after which, on its day or a later one, cash would be negative.
    fn require_cash(&self, currency: &Currency, day: NaiveDate, change: Amount) -> Result<(), Rejection> {
        match self.portfolio.cash_shortfall(currency, day, change) {
            None => Ok(()),
            Some(shortfall) => Err(Rejection::InsufficientCash {
                day: shortfall.day,
                currency: currency.to_string(),
                available: Amount::from_decimal(shortfall.held),
            }),
        }
    }
}

/// A trade whose fields are possible.
struct CheckedTrade {
    /// Quantity × price × quote unit.
    amount: Amount,
    /// Fee and tax together.
    charges: Amount,
    currency: Currency,
    trade_date: NaiveDate,
}
