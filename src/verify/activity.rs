//! What happened, as an investor reads it, compared.

use super::reference::{Happening, Reference};
use super::rows::{Row, Rows, Scope, Table};

const ACTIVITIES: Table = Table { name: "activity.activities", keys: &["portfolio_id", "position"] };
pub(super) const TABLES: [&Table; 1] = [&ACTIVITIES];

pub(super) async fn check(
    rows: &mut Rows<'_>,
    scope: &Scope,
    reference: &Reference,
) -> Result<(), sqlx::Error> {
    let portfolios = reference.portfolios.iter();
    let activities = portfolios
        .map(|(id, portfolio)| (id.clone(), portfolio.happenings.iter().map(|it| row(id, it)).collect()));
    rows.compare(&ACTIVITIES, scope, activities).await
}

fn row(id: &String, happening: &Happening) -> Row {
    let entry = happening.entry.as_ref();
    let trade = entry.filter(|entry| entry.asset_id.is_some());
    let recorded_on = happening.recorded_at.date_naive().to_string();
    vec![
        ("portfolio_id", id.into()),
        ("position", happening.position.into()),
        ("event_id", (&happening.event_id).into()),
        ("kind", happening.kind.into()),
        ("happened_on", entry.map_or(&recorded_on, |entry| &entry.trade_date).into()),
        ("occurred_at", happening.occurred_at.into()),
        ("recorded_at", happening.recorded_at.into()),
        ("asset_id", trade.and_then(|trade| trade.asset_id.as_ref()).into()),
        ("quantity", trade.map(|trade| trade.quantity).into()),
        ("price", trade.and_then(|trade| trade.price).into()),
        ("currency", entry.map(|entry| &entry.currency).into()),
        ("amount", entry.map(|entry| entry.amount).into()),
        ("fee", entry.map(|entry| entry.fee).into()),
        ("tax", entry.map(|entry| entry.tax).into()),
        ("fx_rate", entry.and_then(|entry| entry.fx_rate).into()),
        ("cash_currency", entry.and_then(|entry| entry.cash.as_ref()).map(|(currency, _)| currency).into()),
        ("cash_amount", entry.and_then(|entry| entry.cash.as_ref()).map(|(_, amount)| *amount).into()),
        ("note", happening.note.as_ref().into()),
    ]
}
