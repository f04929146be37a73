//! The rows of `holdings`: read for many portfolios at once, written for many at once.

use std::collections::{BTreeMap, HashMap, HashSet};

use rust_decimal::Decimal;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Portfolio, copying};
use crate::domain::currency::Currency;
use crate::domain::ids::{AssetId, PortfolioId, Position, Shard};
use crate::domain::money::{Amount, Price, Quantity, Rate};
use crate::domain::portfolio::entry::Entry;
use crate::domain::portfolio::event::CashEffect;
use crate::domain::portfolio::ledger::{Accounting, Holding, Ledger};
use crate::domain::portfolio::lots::Lot;
use crate::projectors::{column, stored};

/// From so many new rows on COPY is cheaper than a statement with arrays; below, it costs one more exchange.
const COPY_FROM: usize = 200;

/// The portfolios of these ids that have rows.
pub(super) async fn load(
    conn: &mut PgConnection,
    ids: &[PortfolioId],
) -> Result<Vec<(PortfolioId, Portfolio)>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let ids = column(ids, |id| id.0);
    let ledgers =
        sqlx::query_file!("projections/holdings/load_ledgers.sql", &ids).fetch_all(&mut *conn).await?;
    if ledgers.is_empty() {
        return Ok(Vec::new());
    }
    let mut lots = load_lots(conn, &ids).await?;
    let mut holdings = load_holdings(conn, &ids, &mut lots).await?;
    let mut cash = load_cash(conn, &ids).await?;

    let mut portfolios = Vec::with_capacity(ledgers.len());
    for row in ledgers {
        let accounting =
            Accounting { cost_basis: stored::parse(&row.cost_basis)?, fees_in_cost: row.fees_in_cost };
        let last = row.last_trade_date.zip(row.last_entry.map(Position));
        let ledger = Ledger::restore(
            accounting,
            holdings.remove(&row.portfolio_id).unwrap_or_default(),
            cash.remove(&row.portfolio_id).unwrap_or_default(),
            last,
        );
        let portfolio = Portfolio {
            shard: Shard(row.shard),
            base_currency: stored::from_text(&row.base_currency)?,
            cash_mode: stored::parse(&row.cash)?,
            allow_short: row.allow_short,
            accounting,
            ledger,
            version: row.version,
            position: row.position,
            entries: None,
            stale: false,
            lots_before: BTreeMap::new(),
            cash_touched: false,
        };
        portfolios.push((PortfolioId(row.portfolio_id), portfolio));
    }
    Ok(portfolios)
}

type LotsOf = HashMap<(Uuid, Uuid), Vec<Lot>>;

async fn load_lots(conn: &mut PgConnection, ids: &[Uuid]) -> Result<LotsOf, sqlx::Error> {
    let mut lots = LotsOf::new();
    for row in sqlx::query_file!("projections/holdings/load_lots.sql", ids).fetch_all(conn).await? {
        lots.entry((row.portfolio_id, row.asset_id)).or_default().push(Lot {
            opened: row.opened_on,
            position: Position(row.position),
            quantity: Quantity::from_decimal(row.quantity),
            cost: Amount::from_decimal(row.cost),
            fx_rate: row.fx_rate.map(Rate::from_decimal),
        });
    }
    Ok(lots)
}

async fn load_holdings(
    conn: &mut PgConnection,
    ids: &[Uuid],
    lots: &mut LotsOf,
) -> Result<HashMap<Uuid, Vec<Holding>>, sqlx::Error> {
    let mut holdings: HashMap<Uuid, Vec<Holding>> = HashMap::new();
    for row in sqlx::query_file!("projections/holdings/load_holdings.sql", ids).fetch_all(conn).await? {
        holdings.entry(row.portfolio_id).or_default().push(Holding {
            asset_id: AssetId(row.asset_id),
            currency: stored::from_text(&row.currency)?,
            quantity: Quantity::from_decimal(row.quantity),
            cost: Amount::from_decimal(row.cost),
            realized_gain: Amount::from_decimal(row.realized_gain),
            fees: Amount::from_decimal(row.fees),
            taxes: Amount::from_decimal(row.taxes),
            lots: lots.remove(&(row.portfolio_id, row.asset_id)).unwrap_or_default(),
        });
    }
    Ok(holdings)
}

async fn load_cash(
    conn: &mut PgConnection,
    ids: &[Uuid],
) -> Result<HashMap<Uuid, Vec<(Currency, Amount)>>, sqlx::Error> {
    let mut cash: HashMap<Uuid, Vec<(Currency, Amount)>> = HashMap::new();
    for row in sqlx::query_file!("projections/holdings/load_cash.sql", ids).fetch_all(conn).await? {
        let balance = (stored::from_text(&row.currency)?, Amount::from_decimal(row.balance));
        cash.entry(row.portfolio_id).or_default().push(balance);
    }
    Ok(cash)
}

/// All entries of these portfolios; a portfolio without any has an empty list.
pub(super) async fn load_entries(
    conn: &mut PgConnection,
    ids: &[PortfolioId],
) -> Result<BTreeMap<PortfolioId, Vec<Entry>>, sqlx::Error> {
    let mut entries: BTreeMap<PortfolioId, Vec<Entry>> = ids.iter().map(|id| (*id, Vec::new())).collect();
    if ids.is_empty() {
        return Ok(entries);
    }
    let ids = column(ids, |id| id.0);
    for row in sqlx::query_file!("projections/holdings/load_entries.sql", &ids).fetch_all(conn).await? {
        let cash = match row.cash_currency.zip(row.cash_amount) {
            Some((currency, amount)) => Some(CashEffect {
                currency: stored::from_text(&currency)?,
                amount: Amount::from_decimal(amount),
            }),
            None => None,
        };
        let kind = stored::from_text(&row.kind)?;
        entries.entry(PortfolioId(row.portfolio_id)).or_default().push(Entry {
            position: Position(row.position),
            trade_date: row.trade_date,
            kind,
            asset_id: row.asset_id.map(AssetId),
            quantity: Quantity::from_decimal(row.quantity),
            price: row.price.map(Price::from_decimal),
            amount: Amount::from_decimal(row.amount),
            fee: Amount::from_decimal(row.fee),
            tax: Amount::from_decimal(row.tax),
            currency: stored::from_text(&row.currency)?,
            fx_rate: row.fx_rate.map(Rate::from_decimal),
            cash,
        });
    }
    Ok(entries)
}

/// Writes what has changed in these portfolios, and the entries that are new.
pub(super) async fn write(
    conn: &mut PgConnection,
    changed: &[(PortfolioId, &Portfolio)],
    new_entries: &[(PortfolioId, &Entry)],
) -> Result<(), sqlx::Error> {
    if changed.is_empty() {
        return Ok(());
    }
    upsert_ledgers(conn, changed).await?;
    insert_entries(conn, new_entries).await?;
    let mut holdings = Vec::new();
    let mut lots = Vec::new();
    let mut new_lots = Vec::new();
    let mut gone = Vec::new();
    let mut cash = Vec::new();
    for (id, portfolio) in changed {
        for (asset_id, before) in &portfolio.lots_before {
            let Some(holding) = portfolio.ledger.holding(*asset_id) else { continue };
            holdings.push((id.0, holding));
            let key = (id.0, asset_id.0);
            let difference = lots_that_differ(before, &holding.lots);
            new_lots.extend(difference.new.into_iter().map(|lot| (key, lot)));
            lots.extend(difference.changed.into_iter().map(|lot| (key, lot)));
            gone.extend(difference.gone.into_iter().map(|position| (key, position.0)));
        }
        if portfolio.cash_touched {
            cash.extend(
                portfolio.ledger.cash().map(|(currency, balance)| (id.0, currency, balance.decimal())),
            );
        }
    }
    upsert_holdings(conn, &holdings).await?;
    delete_lots(conn, &gone).await?;
    if new_lots.len() >= COPY_FROM {
        copying::lots(conn, new_lots.into_iter()).await?;
    } else {
        lots.extend(new_lots);
    }
    upsert_lots(conn, &lots).await?;
    upsert_cash(conn, &cash).await
}

/// What became of a holding's lots.
#[derive(Debug, Default, PartialEq)]
struct LotsThatDiffer<'a> {
    new: Vec<&'a Lot>,
    changed: Vec<&'a Lot>,
    gone: Vec<Position>,
}

fn lots_that_differ<'a>(before: &[Lot], now: &'a [Lot]) -> LotsThatDiffer<'a> {
    // A buy adds one at the end and a sale takes from one end: most of a holding's lots, which may be thousands, are as they were.
    let same = before.iter().zip(now).take_while(|(before, now)| before == now).count();
    let (before, now) = (&before[same..], &now[same..]);
    let same = before.iter().rev().zip(now.iter().rev()).take_while(|(before, now)| before == now).count();
    let (before, now) = (&before[..before.len() - same], &now[..now.len() - same]);

    let was: HashMap<Position, &Lot> = before.iter().map(|lot| (lot.position, lot)).collect();
    let is: HashSet<Position> = now.iter().map(|lot| lot.position).collect();
    let mut difference = LotsThatDiffer::default();
    for lot in now {
        match was.get(&lot.position) {
            None => difference.new.push(lot),
            Some(before) if *before != lot => difference.changed.push(lot),
            Some(_) => {}
        }
    }
    let gone = before.iter().map(|lot| lot.position).filter(|position| !is.contains(position));
    difference.gone.extend(gone);
    difference
}

async fn upsert_ledgers(
    conn: &mut PgConnection,
    rows: &[(PortfolioId, &Portfolio)],
) -> Result<(), sqlx::Error> {
    sqlx::query_file!(
        "projections/holdings/upsert_ledgers.sql",
        &column(rows, |(id, _)| id.0),
        &column(rows, |(_, row)| row.shard.0),
        &column(rows, |(_, row)| row.base_currency.to_string()),
        &column(rows, |(_, row)| stored::name(&row.accounting.cost_basis)),
        &column(rows, |(_, row)| row.accounting.fees_in_cost),
        &column(rows, |(_, row)| stored::name(&row.cash_mode)),
        &column(rows, |(_, row)| row.allow_short),
        &column(rows, |(_, row)| row.ledger.last().map(|(day, _)| day)) as _,
        &column(rows, |(_, row)| row.ledger.last().map(|(_, position)| position.0)) as _,
        &column(rows, |(_, row)| row.version),
        &column(rows, |(_, row)| row.position),
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn insert_entries(conn: &mut PgConnection, rows: &[(PortfolioId, &Entry)]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    if rows.len() >= COPY_FROM {
        copying::entries(conn, rows.iter().copied()).await?;
        return Ok(());
    }
    sqlx::query_file!(
        "projections/holdings/insert_entries.sql",
        &column(rows, |(id, _)| id.0),
        &column(rows, |(_, row)| row.position.0),
        &column(rows, |(_, row)| row.trade_date),
        &column(rows, |(_, row)| row.kind.as_str()) as _,
        &column(rows, |(_, row)| row.asset_id.map(|id| id.0)) as _,
        &column(rows, |(_, row)| row.quantity.decimal()),
        &column(rows, |(_, row)| row.price.map(Price::decimal)) as _,
        &column(rows, |(_, row)| row.currency.as_str()) as _,
        &column(rows, |(_, row)| row.amount.decimal()),
        &column(rows, |(_, row)| row.fee.decimal()),
        &column(rows, |(_, row)| row.tax.decimal()),
        &column(rows, |(_, row)| row.fx_rate.map(Rate::decimal)) as _,
        &column(rows, |(_, row)| row.cash.as_ref().map(|cash| cash.currency.as_str())) as _,
        &column(rows, |(_, row)| row.cash.as_ref().map(|cash| cash.amount.decimal())) as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn upsert_holdings(conn: &mut PgConnection, rows: &[(Uuid, &Holding)]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query_file!(
        "projections/holdings/upsert_holdings.sql",
        &column(rows, |(id, _)| *id),
        &column(rows, |(_, row)| row.asset_id.0),
        &column(rows, |(_, row)| row.currency.as_str()) as _,
        &column(rows, |(_, row)| row.quantity.decimal()),
        &column(rows, |(_, row)| row.cost.decimal()),
        &column(rows, |(_, row)| row.realized_gain.decimal()),
        &column(rows, |(_, row)| row.fees.decimal()),
        &column(rows, |(_, row)| row.taxes.decimal()),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Portfolio and asset.
pub(super) type HoldingKey = (Uuid, Uuid);

async fn upsert_lots(conn: &mut PgConnection, rows: &[(HoldingKey, &Lot)]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query_file!(
        "projections/holdings/upsert_lots.sql",
        &column(rows, |(key, _)| key.0),
        &column(rows, |(key, _)| key.1),
        &column(rows, |(_, lot)| lot.position.0),
        &column(rows, |(_, lot)| lot.opened),
        &column(rows, |(_, lot)| lot.quantity.decimal()),
        &column(rows, |(_, lot)| lot.cost.decimal()),
        &column(rows, |(_, lot)| lot.fx_rate.map(Rate::decimal)) as _,
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn delete_lots(conn: &mut PgConnection, rows: &[(HoldingKey, i64)]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query_file!(
        "projections/holdings/delete_lots.sql",
        &column(rows, |(key, _)| key.0),
        &column(rows, |(key, _)| key.1),
        &column(rows, |(_, position)| *position),
    )
    .execute(conn)
    .await?;
    Ok(())
}

async fn upsert_cash(
    conn: &mut PgConnection,
    rows: &[(Uuid, &Currency, Decimal)],
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query_file!(
        "projections/holdings/upsert_cash.sql",
        &column(rows, |(id, _, _)| *id),
        &column(rows, |(_, currency, _)| currency.as_str()) as _,
        &column(rows, |(_, _, balance)| *balance),
    )
    .execute(conn)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lots(of: &[(i64, &str)]) -> Vec<Lot> {
        let lot = |&(position, quantity): &(i64, &str)| Lot {
            opened: chrono::NaiveDate::from_ymd_opt(2024, 3, 1).unwrap(),
            position: Position(position),
            quantity: quantity.parse().unwrap(),
            cost: "10".parse().unwrap(),
            fx_rate: None,
        };
        of.iter().map(lot).collect()
    }

    #[test]
    fn only_lots_that_differ_are_written() {
        let before = lots(&[(1, "5"), (2, "5"), (3, "5"), (7, "5")]);
        for (now, new, changed, gone) in [
            (lots(&[(1, "5"), (2, "5"), (3, "5"), (7, "5")]), vec![], vec![], vec![]),
            (lots(&[(1, "5"), (2, "5"), (3, "5"), (7, "5"), (9, "5")]), vec![9], vec![], vec![]),
            (lots(&[(2, "4"), (3, "5"), (7, "5")]), vec![], vec![2], vec![1]),
            (lots(&[(1, "5"), (2, "5"), (8, "5"), (3, "5"), (7, "5")]), vec![8], vec![], vec![]),
            (lots(&[(7, "5"), (3, "5"), (1, "5")]), vec![], vec![], vec![2]),
            (lots(&[]), vec![], vec![], vec![1, 2, 3, 7]),
            (lots(&[(1, "6"), (4, "5"), (7, "6")]), vec![4], vec![1, 7], vec![2, 3]),
        ] {
            let difference = lots_that_differ(&before, &now);
            let positions = |lots: &[&Lot]| lots.iter().map(|lot| lot.position.0).collect::<Vec<_>>();
            assert_eq!(positions(&difference.new), new, "{now:?}");
            assert_eq!(positions(&difference.changed), changed, "{now:?}");
            assert_eq!(difference.gone.iter().map(|it| it.0).collect::<Vec<_>>(), gone, "{now:?}");
        }
        assert_eq!(lots_that_differ(&[], &before).new.len(), 4);
    }
}
