//! What is held, lot by lot, compared with the fold from scratch.

use sqlx::PgConnection;

use super::ledger::{Holding, Ledger};
use super::reference::{Entry, Portfolio, Reference};
use super::report::Report;
use super::rows::{Row, compare};

pub(super) async fn check(
    conn: &mut PgConnection,
    reference: &Reference,
    report: &mut Report,
) -> Result<u64, sqlx::Error> {
    let (mut ledgers, mut entries, mut holdings, mut lots, mut cash) =
        (vec![], vec![], vec![], vec![], vec![]);
    for (id, portfolio) in &reference.portfolios {
        let ledger = Ledger::of(portfolio);
        ledgers.push(ledger_row(id, portfolio, &ledger));
        entries.extend(portfolio.entries().map(|entry| entry_row(id, entry)));
        for (asset_id, holding) in &ledger.holdings {
            holdings.push(holding_row(id, asset_id, holding));
            lots.extend(lot_rows(id, asset_id, holding));
        }
        for (currency, balance) in &ledger.cash {
            cash.push(vec![
                ("portfolio_id", id.into()),
                ("currency", currency.into()),
                ("balance", (*balance).into()),
            ]);
        }
    }
    let mut rows = compare(conn, "holdings.ledgers", 1, ledgers, report).await?;
    rows += compare(conn, "holdings.entries", 2, entries, report).await?;
    rows += compare(conn, "holdings.holdings", 2, holdings, report).await?;
    rows += compare(conn, "holdings.lots", 3, lots, report).await?;
    rows += compare(conn, "holdings.cash", 2, cash, report).await?;
    Ok(rows)
}

fn ledger_row(id: &String, portfolio: &Portfolio, ledger: &Ledger) -> Row {
    let settings = portfolio.settings();
    vec![
        ("portfolio_id", id.into()),
        ("shard", portfolio.shard.into()),
        ("base_currency", (&settings.base_currency).into()),
        ("cost_basis", (&settings.cost_basis).into()),
        ("fees_in_cost", settings.fees_in_cost.into()),
        ("cash", (&settings.cash).into()),
        ("allow_short", settings.allow_short.into()),
        ("last_trade_date", ledger.last.as_ref().map(|(day, _)| day).into()),
        ("last_entry", ledger.last.as_ref().map(|(_, position)| *position).into()),
        ("version", portfolio.version.into()),
        ("position", portfolio.position.into()),
    ]
}

fn entry_row(id: &String, entry: &Entry) -> Row {
    vec![
        ("portfolio_id", id.into()),
        ("position", entry.position.into()),
        ("trade_date", (&entry.trade_date).into()),
        ("kind", entry.kind.into()),
        ("asset_id", entry.asset_id.as_ref().into()),
        ("quantity", entry.quantity.into()),
        ("price", entry.price.into()),
        ("currency", (&entry.currency).into()),
        ("amount", entry.amount.into()),
        ("fee", entry.fee.into()),
        ("tax", entry.tax.into()),
        ("fx_rate", entry.fx_rate.into()),
        ("cash_currency", entry.cash.as_ref().map(|(currency, _)| currency).into()),
        ("cash_amount", entry.cash.as_ref().map(|(_, amount)| *amount).into()),
    ]
}

fn holding_row(id: &String, asset_id: &String, holding: &Holding) -> Row {
    vec![
        ("portfolio_id", id.into()),
        ("asset_id", asset_id.into()),
        ("currency", (&holding.currency).into()),
        ("quantity", holding.quantity().into()),
        ("cost", holding.cost().into()),
        ("realized_gain", holding.realized_gain.into()),
        ("fees", holding.fees.into()),
        ("taxes", holding.taxes.into()),
    ]
}

fn lot_rows(id: &String, asset_id: &String, holding: &Holding) -> Vec<Row> {
    let row = |lot: &super::ledger::Lot| {
        vec![
            ("portfolio_id", id.into()),
            ("asset_id", asset_id.into()),
            ("position", lot.position.into()),
            ("opened_on", (&lot.opened_on).into()),
            ("quantity", lot.quantity.into()),
            ("cost", lot.cost.into()),
            ("fx_rate", lot.fx_rate.into()),
        ]
    };
    holding.lots.iter().map(row).collect()
}
