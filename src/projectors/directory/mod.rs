//! Who and what there is: investors, portfolios with their settings, assets with their earnings, and symbols.
//!
//! It needs no memory: an event says all that changes, so a batch folds into one insert and one update a table. A
//! portfolio's version moves with every fact of its stream; that is what `If-Match` is compared with. No personal data
//! passes here: it is not in the log.

mod copying;

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use rust_decimal::Decimal;
use sqlx::PgConnection;

use super::copy::Written;
use super::{Error, Fact, FromLog, Poison, ReadModel, column, stored};
use crate::domain::asset::{AssetEvent, AssetListed, EarningsReported, Quarter};
use crate::domain::ids::{AssetId, PortfolioId, Shard};
use crate::domain::investor::{InvestorEvent, InvestorRegistered};
use crate::domain::money::Amount;
use crate::domain::portfolio::event::{AccountingChanged, CostBasis, PortfolioEvent, PortfolioOpened};
use crate::events::{Envelope, Event};
use crate::feed::Topics;

/// The projector of `directory`: what the rows do not have yet.
#[derive(Debug, Default)]
pub struct Directory {
    investors: Vec<Row<InvestorRegistered>>,
    opened: BTreeMap<PortfolioId, Row<PortfolioOpened>>,
    portfolios: BTreeMap<PortfolioId, Row<PortfolioChange>>,
    listed: BTreeMap<AssetId, Row<ListedAsset>>,
    assets: BTreeMap<AssetId, Row<AssetChange>>,
    symbols: Vec<(String, AssetId, i64)>,
    earnings: Earnings,
}

/// The last report of each quarter.
type Earnings = BTreeMap<(AssetId, Quarter), Row<EarningsReported>>;

/// What a row says, as of an event of its stream.
#[derive(Debug)]
struct Row<T> {
    says: T,
    /// When the log took the stream's first event of this batch.
    recorded_at: DateTime<Utc>,
    version: i64,
    position: i64,
}

#[derive(Debug, Default)]
struct PortfolioChange {
    name: Option<String>,
    cost_basis: Option<CostBasis>,
    fees_in_cost: Option<bool>,
}

#[derive(Debug)]
struct ListedAsset {
    listed: AssetListed,
    change: AssetChange,
}

#[derive(Debug, Default, Clone)]
struct AssetChange {
    symbol: Option<String>,
    delisted_on: Option<NaiveDate>,
    final_price: Option<Decimal>,
}

impl ReadModel for Directory {
    const NAME: &'static str = "directory";
    const TOPICS: Topics = Topics::PortfolioAndMarket;

    fn apply(&mut self, fact: &Fact) -> Result<(), Poison> {
        let envelope = &*fact.envelope;
        match &fact.event {
            Event::Investor(InvestorEvent::InvestorRegistered(it)) => {
                self.investors.push(Row::new(it.clone(), envelope));
            }
            Event::Portfolio(event) => self.portfolio(envelope, event)?,
            Event::Asset(event) => self.asset(envelope, event)?,
            Event::Price(_) | Event::Held(_) | Event::Job(_) | Event::Shard(_) => {}
        }
        Ok(())
    }

    async fn flush(&mut self, conn: &mut PgConnection) -> Result<(), Error> {
        let batch = std::mem::take(self);
        insert_investors(conn, &batch.investors).await?;
        insert_portfolios(conn, &batch.opened.into_values().collect::<Vec<_>>()).await?;
        update_portfolios(conn, &batch.portfolios.into_iter().collect::<Vec<_>>()).await?;
        insert_assets(conn, &batch.listed.into_values().collect::<Vec<_>>()).await?;
        update_assets(conn, &batch.assets.into_iter().collect::<Vec<_>>()).await?;
        insert_symbols(conn, &batch.symbols).await?;
        upsert_earnings(conn, &batch.earnings.into_values().collect::<Vec<_>>()).await?;
        Ok(())
    }

    fn forget(&mut self, _shards: &[Shard]) {
        // Nothing outlives a batch, and shards are only taken away between batches or after a failure of one.
        *self = Self::default();
    }
}

impl FromLog for Directory {
    fn from_nothing() -> Self {
        Self::default()
    }

    fn held_bytes(&self) -> usize {
        let streams = self.investors.len() + self.opened.len() + self.listed.len() + self.symbols.len();
        (streams + self.earnings.len()) * (size_of::<Row<PortfolioOpened>>() + 128)
    }

    async fn copy(&mut self, conn: &mut PgConnection) -> Result<Vec<Written>, Error> {
        let Self { investors, opened, listed, symbols, earnings, .. } = std::mem::take(self);
        Ok(vec![
            copying::investors(conn, &investors).await?,
            copying::portfolios(conn, &opened).await?,
            copying::assets(conn, &listed).await?,
            copying::symbols(conn, &symbols).await?,
            copying::earnings(conn, &earnings).await?,
        ])
    }
}

impl<T> Row<T> {
    fn new(says: T, envelope: &Envelope) -> Self {
        let recorded_at = envelope.recorded_at;
        Self { says, recorded_at, version: envelope.version.0, position: envelope.position.0 }
    }

    fn move_to(&mut self, envelope: &Envelope) -> &mut T {
        self.version = envelope.version.0;
        self.position = envelope.position.0;
        &mut self.says
    }
}

impl Row<ListedAsset> {
    /// The symbol it has now.
    fn symbol(&self) -> String {
        let renamed = self.says.change.symbol.clone();
        renamed.unwrap_or_else(|| self.says.listed.symbol.to_string())
    }
}

impl Directory {
    fn portfolio(&mut self, envelope: &Envelope, event: &PortfolioEvent) -> Result<(), Poison> {
        if let PortfolioEvent::PortfolioOpened(it) = event {
            self.opened.insert(it.portfolio_id, Row::new(it.clone(), envelope));
            return Ok(());
        }
        let id = PortfolioId(stored::stream_id(envelope)?);
        let change = match event {
            PortfolioEvent::AccountingChanged(it) => it.clone(),
            _ => AccountingChanged::default(),
        };
        if let Some(row) = self.opened.get_mut(&id) {
            let portfolio = row.move_to(envelope);
            portfolio.name = change.name.unwrap_or_else(|| std::mem::take(&mut portfolio.name));
            portfolio.cost_basis = change.cost_basis.unwrap_or(portfolio.cost_basis);
            portfolio.fees_in_cost = change.fees_in_cost.unwrap_or(portfolio.fees_in_cost);
            return Ok(());
        }
        let row = self.portfolios.entry(id).or_insert_with(|| Row::new(PortfolioChange::default(), envelope));
        let changes = row.move_to(envelope);
        changes.name = change.name.or_else(|| changes.name.take());
        changes.cost_basis = change.cost_basis.or(changes.cost_basis);
        changes.fees_in_cost = change.fees_in_cost.or(changes.fees_in_cost);
        Ok(())
    }

    fn asset(&mut self, envelope: &Envelope, event: &AssetEvent) -> Result<(), Poison> {
        let change = match event {
            AssetEvent::SymbolClaimed(it) => {
                self.symbols.push((it.symbol.to_string(), it.asset_id, envelope.position.0));
                return Ok(());
            }
            AssetEvent::AssetListed(it) => {
                let listed = ListedAsset { listed: it.clone(), change: AssetChange::default() };
                self.listed.insert(it.asset_id, Row::new(listed, envelope));
                return Ok(());
            }
            AssetEvent::AssetRenamed(it) => {
                AssetChange { symbol: Some(it.symbol.to_string()), ..AssetChange::default() }
            }
            AssetEvent::AssetDelisted(it) => AssetChange {
                delisted_on: Some(it.date),
                final_price: it.final_price.map(|price| price.decimal()),
                ..AssetChange::default()
            },
            AssetEvent::EarningsReported(it) => {
                self.earnings.insert((it.asset_id, it.quarter), Row::new(it.clone(), envelope));
                AssetChange::default()
            }
            AssetEvent::SplitDeclared(_) | AssetEvent::PriceSourcesRanked(_) => AssetChange::default(),
        };
        let id = AssetId(stored::stream_id(envelope)?);
        let changes = match self.listed.get_mut(&id) {
            Some(row) => &mut row.move_to(envelope).change,
            None => {
                let row = self.assets.entry(id).or_insert_with(|| Row::new(AssetChange::default(), envelope));
                row.move_to(envelope)
            }
        };
        changes.symbol = change.symbol.or_else(|| changes.symbol.take());
        changes.delisted_on = change.delisted_on.or(changes.delisted_on);
        changes.final_price = change.final_price.or(changes.final_price);
        Ok(())
    }
}

async fn insert_investors(
    conn: &mut PgConnection,
    rows: &[Row<InvestorRegistered>],
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query_file!(
        "projections/directory/insert_investors.sql",
        &column(rows, |row| row.says.investor_id.0),
        &column(rows, |row| row.says.risk_tolerance.as_ref().map(stored::name)) as _,
        &column(rows, |row| row.says.experience_level.as_ref().map(stored::name)) as _,
        &column(rows, |row| row.recorded_at),
        &column(rows, |row| row.version),
        &column(rows, |row| row.position),
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn insert_portfolios(
    conn: &mut PgConnection,
    rows: &[Row<PortfolioOpened>],
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query_file!(
        "projections/directory/insert_portfolios.sql",
        &column(rows, |row| row.says.portfolio_id.0),
        &column(rows, |row| row.says.investor_id.0),
        &column(rows, |row| row.says.name.clone()),
        &column(rows, |row| row.says.base_currency.to_string()),
        &column(rows, |row| row.says.time_zone.clone()),
        &column(rows, |row| stored::name(&row.says.cost_basis)),
        &column(rows, |row| row.says.fees_in_cost),
        &column(rows, |row| stored::name(&row.says.cash)),
        &column(rows, |row| row.says.allow_short),
        &column(rows, |row| row.recorded_at),
        &column(rows, |row| row.version),
        &column(rows, |row| row.position),
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn update_portfolios(
    conn: &mut PgConnection,
    rows: &[(PortfolioId, Row<PortfolioChange>)],
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query_file!(
        "projections/directory/update_portfolios.sql",
        &column(rows, |(id, _)| id.0),
        &column(rows, |(_, row)| row.says.name.clone()) as _,
        &column(rows, |(_, row)| row.says.cost_basis.as_ref().map(stored::name)) as _,
        &column(rows, |(_, row)| row.says.fees_in_cost) as _,
        &column(rows, |(_, row)| row.version),
        &column(rows, |(_, row)| row.position),
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn insert_assets(conn: &mut PgConnection, rows: &[Row<ListedAsset>]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query_file!(
        "projections/directory/insert_assets.sql",
        &column(rows, |row| row.says.listed.asset_id.0),
        &column(rows, Row::symbol),
        &column(rows, |row| row.says.listed.name.clone()),
        &column(rows, |row| stored::name(&row.says.listed.class)),
        &column(rows, |row| row.says.listed.currency.to_string()),
        &column(rows, |row| row.says.listed.quote_unit.decimal()),
        &column(rows, |row| row.says.listed.isin.clone()) as _,
        &column(rows, |row| row.says.listed.exchange.clone()) as _,
        &column(rows, |row| row.recorded_at),
        &column(rows, |row| row.says.change.delisted_on) as _,
        &column(rows, |row| row.says.change.final_price) as _,
        &column(rows, |row| row.version),
        &column(rows, |row| row.position),
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn update_assets(
    conn: &mut PgConnection,
    rows: &[(AssetId, Row<AssetChange>)],
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query_file!(
        "projections/directory/update_assets.sql",
        &column(rows, |(id, _)| id.0),
        &column(rows, |(_, row)| row.says.symbol.clone()) as _,
        &column(rows, |(_, row)| row.says.delisted_on) as _,
        &column(rows, |(_, row)| row.says.final_price) as _,
        &column(rows, |(_, row)| row.version),
        &column(rows, |(_, row)| row.position),
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn insert_symbols(conn: &mut PgConnection, rows: &[(String, AssetId, i64)]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query_file!(
        "projections/directory/insert_symbols.sql",
        &column(rows, |(symbol, _, _)| symbol.clone()),
        &column(rows, |(_, id, _)| id.0),
        &column(rows, |(_, _, position)| *position),
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn upsert_earnings(conn: &mut PgConnection, rows: &[Row<EarningsReported>]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query_file!(
        "projections/directory/upsert_earnings.sql",
        &column(rows, |row| row.says.asset_id.0),
        &column(rows, |row| row.says.quarter.to_string()),
        &column(rows, |row| row.says.earnings_per_share.decimal()),
        &column(rows, |row| row.says.estimate.map(Amount::decimal)) as _,
        &column(rows, |row| row.says.revenue.map(Amount::decimal)) as _,
        &column(rows, |row| row.says.currency.to_string()),
        &column(rows, |row| row.says.reported_on) as _,
        &column(rows, |row| row.recorded_at),
        &column(rows, |row| row.position),
    )
    .execute(conn)
    .await?;
    Ok(())
}
