//! What is held, lot by lot, compared with the fold from scratch.

use super::ledger::{Holding, Ledger};
use super::reference::{Entry, Portfolio, Reference};
use super::rows::{Row, Rows, Scope, Table};

const LEDGERS: Table = Table { name: "holdings.ledgers", keys: &["portfolio_id"] };
const ENTRIES: Table = Table { name: "holdings.entries", keys: &["portfolio_id", "position"] };
const HOLDINGS: Table = Table { name: "holdings.holdings", keys: &["portfolio_id", "asset_id"] };
const LOTS: Table = Table { name: "holdings.lots", keys: &["portfolio_id", "asset_id", "position"] };
const CASH: Table = Table { name: "holdings.cash", keys: &["portfolio_id", "currency"] };
pub(super) const TABLES: [&Table; 5] = [&LEDGERS, &ENTRIES, &HOLDINGS, &LOTS, &CASH];

pub(super) async fn check(
    rows: &mut Rows<'_>,
    scope: &Scope,
    reference: &Reference,
) -> Result<(), sqlx::Error> {
    let portfolios = &reference.portfolios;
    let folded: Vec<(&String, Ledger)> = portfolios.iter().map(|(id, it)| (id, Ledger::of(it))).collect();
    let ledgers =
        folded.iter().map(|(id, ledger)| ((*id).clone(), vec![ledger_row(id, &portfolios[*id], ledger)]));
    rows.compare(&LEDGERS, scope, ledgers).await?;
    let entries = portfolios
        .iter()
        .map(|(id, it)| (id.clone(), it.entries().map(|entry| entry_row(id, entry)).collect()));
    rows.compare(&ENTRIES, scope, entries).await?;
    let holdings = folded.iter().map(|(id, ledger)| {
        let rows = ledger.holdings.iter().map(|(asset_id, holding)| holding_row(id, asset_id, holding));
        ((*id).clone(), rows.collect())
    });
    rows.compare(&HOLDINGS, scope, holdings).await?;
    let lots = folded.iter().map(|(id, ledger)| {
        let rows = ledger.holdings.iter().flat_map(|(asset_id, holding)| lot_rows(id, asset_id, holding));
        ((*id).clone(), rows.collect())
    });
    rows.compare(&LOTS, scope, lots).await?;
    let cash = folded.iter().map(|(id, ledger)| {
        let row = |(currency, balance): (&String, &super::units::Units)| -> Row {
            vec![
                ("portfolio_id", (*id).into()),
                ("currency", currency.into()),
                ("balance", (*balance).into()),
            ]
        };
        ((*id).clone(), ledger.cash.iter().map(row).collect())
    });
    rows.compare(&CASH, scope, cash).await
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
