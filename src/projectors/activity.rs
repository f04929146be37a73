//! What happened in a portfolio, as an investor reads it: one row a fact, in the words of the ledger.
//!
//! It only inserts, and needs no memory.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::PgConnection;
use uuid::Uuid;

use super::copy::{Table, Written};
use super::{Error, Fact, FromLog, Poison, ReadModel, column, stored};
use crate::domain::ids::Shard;
use crate::domain::money::{Price, Rate};
use crate::domain::portfolio::entry::Entry;
use crate::domain::portfolio::event::PortfolioEvent;
use crate::events::Event;
use crate::feed::Topics;

/// The projector of `activity`: what the rows do not have yet.
#[derive(Debug, Default)]
pub struct Activity {
    new: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    portfolio_id: Uuid,
    position: i64,
    event_id: String,
    kind: &'static str,
    happened_on: NaiveDate,
    occurred_at: DateTime<Utc>,
    recorded_at: DateTime<Utc>,
    entry: Option<Entry>,
    note: Option<String>,
}

impl ReadModel for Activity {
    const NAME: &'static str = "activity";
    const TOPICS: Topics = Topics::Portfolio;

    fn apply(&mut self, fact: &Fact) -> Result<(), Poison> {
        let Event::Portfolio(event) = &fact.event else { return Ok(()) };
        let envelope = &*fact.envelope;
        let entry = Entry::from_event(envelope.position, event);
        let day = entry.as_ref().map_or(envelope.recorded_at.date_naive(), |entry| entry.trade_date);
        self.new.push(Row {
            portfolio_id: stored::stream_id(envelope)?,
            position: envelope.position.0,
            event_id: envelope.event_id.to_string(),
            kind: kind(event),
            happened_on: day,
            occurred_at: envelope.occurred_at,
            recorded_at: envelope.recorded_at,
            entry,
            note: note(event),
        });
        Ok(())
    }

    async fn flush(&mut self, conn: &mut PgConnection) -> Result<(), Error> {
        let rows = std::mem::take(&mut self.new);
        if rows.is_empty() {
            return Ok(());
        }
        let of_asset = |row: &Row| row.entry.as_ref().and_then(|entry| entry.asset_id);
        let cash = |row: &Row| row.entry.as_ref().and_then(|entry| entry.cash.clone());
        sqlx::query_file!(
            "projections/activity/insert_activities.sql",
            &column(&rows, |row| row.portfolio_id),
            &column(&rows, |row| row.position),
            &column(&rows, |row| row.event_id.as_str()) as _,
            &column(&rows, |row| row.kind) as _,
            &column(&rows, |row| row.happened_on),
            &column(&rows, |row| row.occurred_at),
            &column(&rows, |row| row.recorded_at),
            &column(&rows, |row| of_asset(row).map(|id| id.0)) as _,
            &column(&rows, |row| {
                let quantity = row.entry.as_ref().filter(|_| of_asset(row).is_some());
                quantity.map(|entry| entry.quantity.decimal())
            }) as _,
            &column(&rows, |row| row.entry.as_ref().and_then(|entry| entry.price).map(Price::decimal)) as _,
            &column(&rows, |row| row.entry.as_ref().map(|entry| entry.currency.as_str())) as _,
            &column(&rows, |row| row.entry.as_ref().map(|entry| entry.amount.decimal())) as _,
            &column(&rows, |row| row.entry.as_ref().map(|entry| entry.fee.decimal())) as _,
            &column(&rows, |row| row.entry.as_ref().map(|entry| entry.tax.decimal())) as _,
            &column(&rows, |row| row.entry.as_ref().and_then(|entry| entry.fx_rate).map(Rate::decimal)) as _,
            &column(&rows, |row| cash(row).map(|cash| cash.currency.to_string())) as _,
            &column(&rows, |row| cash(row).map(|cash| cash.amount.decimal())) as _,
            &column(&rows, |row| row.note.clone()) as _,
        )
        .execute(conn)
        .await?;
        Ok(())
    }

    fn forget(&mut self, _shards: &[Shard]) {
        self.new.clear();
    }
}

impl FromLog for Activity {
    fn from_nothing() -> Self {
        Self::default()
    }

    fn held_bytes(&self) -> usize {
        self.new.len() * (size_of::<Row>() + 64)
    }

    async fn copy(&mut self, conn: &mut PgConnection) -> Result<Vec<Written>, Error> {
        const COLUMNS: &str = "portfolio_id, position, event_id, kind, happened_on, occurred_at, recorded_at, asset_id, \
            quantity, price, currency, amount, fee, tax, fx_rate, cash_currency, cash_amount, note";
        let mut rows = std::mem::take(&mut self.new);
        rows.sort_unstable_by_key(|row| (row.portfolio_id, row.position));
        let mut table = Table::open(conn, "activities", COLUMNS).await?;
        for row in &rows {
            let entry = row.entry.as_ref();
            let asset_id = entry.and_then(|entry| entry.asset_id);
            let cash = entry.and_then(|entry| entry.cash.as_ref());
            table
                .push(&[
                    &row.portfolio_id,
                    &row.position,
                    &row.event_id,
                    &row.kind,
                    &row.happened_on,
                    &row.occurred_at,
                    &row.recorded_at,
                    &asset_id.map(|id| id.0),
                    &entry.filter(|_| asset_id.is_some()).map(|entry| entry.quantity.decimal()),
                    &entry.and_then(|entry| entry.price).map(Price::decimal),
                    &entry.map(|entry| entry.currency.as_str()),
                    &entry.map(|entry| entry.amount.decimal()),
                    &entry.map(|entry| entry.fee.decimal()),
                    &entry.map(|entry| entry.tax.decimal()),
                    &entry.and_then(|entry| entry.fx_rate).map(Rate::decimal),
                    &cash.map(|cash| cash.currency.as_str()),
                    &cash.map(|cash| cash.amount.decimal()),
                    &row.note,
                ])
                .await?;
        }
        Ok(vec![table.finish().await?])
    }
}

/// The name of what happened; an entry's is the ledger's.
fn kind(event: &PortfolioEvent) -> &'static str {
    match event {
        PortfolioEvent::PortfolioOpened(_) => "opened",
        PortfolioEvent::AccountingChanged(_) => "settings_changed",
        PortfolioEvent::AssetBought(_) => "buy",
        PortfolioEvent::AssetSold(_) => "sell",
        PortfolioEvent::CashDeposited(_) => "deposit",
        PortfolioEvent::CashWithdrawn(_) => "withdraw",
    }
}

fn note(event: &PortfolioEvent) -> Option<String> {
    match event {
        PortfolioEvent::AssetBought(trade) | PortfolioEvent::AssetSold(trade) => trade.note.clone(),
        PortfolioEvent::CashDeposited(cash) | PortfolioEvent::CashWithdrawn(cash) => cash.note.clone(),
        PortfolioEvent::PortfolioOpened(_) | PortfolioEvent::AccountingChanged(_) => None,
    }
}
