//! Live prices and closes, compared.

use super::held::Held;
use super::market::{Asset, Live, Market, Source};
use super::rows::{Row, Rows, Scope, Table};

const QUOTES: Table = Table { name: "prices.quotes", keys: &["asset_id"] };
const SOURCES: Table = Table { name: "prices.price_sources", keys: &["asset_id", "source"] };
const CLOSES: Table = Table { name: "prices.closes", keys: &["asset_id", "source", "day"] };
const HELD: Table = Table { name: "prices.held_prices", keys: &["asset_id", "held_id"] };

/// Compares the prices of all assets, or of some.
pub(super) async fn check(rows: &mut Rows<'_>, scope: &Scope, market: &Market) -> Result<(), sqlx::Error> {
    let is_asked = |id: &str| match scope {
        Scope::All => true,
        Scope::Of(ids) => id.parse().is_ok_and(|id| ids.contains(&id)),
    };
    let assets = || market.assets.iter().filter(|(id, _)| is_asked(id));
    rows.compare(&QUOTES, scope, assets().map(|(id, asset)| (id.clone(), vec![quote_row(id, asset)])))
        .await?;
    let sources = assets().map(|(id, asset)| {
        (id.clone(), asset.sources.iter().map(|(name, source)| source_row(id, name, source)).collect())
    });
    rows.compare(&SOURCES, scope, sources).await?;
    let closes = assets().map(|(id, asset)| {
        (id.clone(), asset.sources.iter().flat_map(|(name, source)| close_rows(id, name, source)).collect())
    });
    rows.compare(&CLOSES, scope, closes).await?;
    let held = assets().map(|(id, asset)| {
        (id.clone(), asset.held.iter().map(|(held_id, held)| held_row(id, held_id, held)).collect())
    });
    rows.compare(&HELD, scope, held).await
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

fn held_row(id: &String, held_id: &String, held: &Held) -> Row {
    vec![
        ("asset_id", id.into()),
        ("held_id", held_id.into()),
        ("source", (&held.source).into()),
        ("at", held.at.into()),
        ("day", held.day.as_ref().into()),
        ("price", held.price.into()),
        ("volume", held.volume.into()),
        ("last_price", held.last_price.into()),
        ("reason", (&held.reason).into()),
        ("held_at", held.held_at.into()),
        ("state", held.state.into()),
        ("position", held.position.into()),
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
