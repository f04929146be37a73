//! Live prices and closes, compared.

use sqlx::PgConnection;

use super::market::{Asset, Live, Source};
use super::reference::Reference;
use super::report::Report;
use super::rows::{Row, compare};

pub(super) async fn check(
    conn: &mut PgConnection,
    reference: &Reference,
    report: &mut Report,
) -> Result<u64, sqlx::Error> {
    let (mut quotes, mut sources, mut closes) = (vec![], vec![], vec![]);
    for (id, asset) in &reference.market.assets {
        quotes.push(quote_row(id, asset));
        for (name, source) in &asset.sources {
            sources.push(source_row(id, name, source));
            closes.extend(close_rows(id, name, source));
        }
    }
    let mut rows = compare(conn, "prices.quotes", 1, quotes, report).await?;
    rows += compare(conn, "prices.price_sources", 2, sources, report).await?;
    rows += compare(conn, "prices.closes", 3, closes, report).await?;
    Ok(rows)
}

fn quote_row(id: &String, asset: &Asset) -> Row {
    let list = |items: Vec<&String>| serde_json::json!(items).to_string();
    let live = asset.live();
    vec![
        ("asset_id", id.into()),
        ("symbol", (&asset.symbol).into()),
        ("class", (&asset.class).into()),
        ("currency", (&asset.currency).into()),
        ("quote_unit", asset.quote_unit.into()),
        ("ranked_sources", (&list(asset.ranking.iter().map(|(source, _)| source).collect())).into()),
        ("ranked_adjustments", (&list(asset.ranking.iter().map(|(_, how)| how).collect())).into()),
        ("price", live.as_ref().map(|live| live.price).into()),
        ("priced_at", live.as_ref().map(|live| live.at).into()),
        ("price_source", live.as_ref().map(|live| &live.source).into()),
        ("price_kind", live.as_ref().map(Live::kind).into()),
        ("position", asset.live_position.into()),
    ]
}

fn source_row(id: &String, name: &String, source: &Source) -> Row {
    let (tick, close) = (source.tick.as_ref(), source.newest_close());
    vec![
        ("asset_id", id.into()),
        ("source", name.into()),
        ("first_used", source.first_used.into()),
        ("tick_at", tick.map(|tick| tick.at).into()),
        ("tick_price", tick.map(|tick| tick.price).into()),
        ("tick_position", tick.map(|tick| tick.position).into()),
        ("close_day", close.map(|(day, _)| day).into()),
        ("close_price", close.map(|(_, close)| close.price).into()),
        ("close_position", close.map(|(_, close)| close.position).into()),
    ]
}

fn close_rows(id: &String, name: &String, source: &Source) -> Vec<Row> {
    let row = |(day, close): (&String, &super::market::Close)| {
        vec![
            ("asset_id", id.into()),
            ("source", name.into()),
            ("day", day.into()),
            ("price", close.price.into()),
            ("volume", close.volume.into()),
            ("position", close.position.into()),
        ]
    };
    source.closes.iter().map(row).collect()
}
