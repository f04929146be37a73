//! What assets' closes say: how much they move in a day, and which of them has just moved unusually.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use chrono::{Days, NaiveDate};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::answer::last_modified;
use super::conflated::Kept;
use super::{Answered, failed};
use crate::analysis::{AssetMoves, Move, MoveFigures, load_asset_moves};
use crate::api::Api;
use crate::api::fields::{Field, FieldValue};
use crate::api::openapi::ListProblems;
use crate::api::parameters::DatedHeaders;
use crate::api::problem::Problem;
use crate::api::query::{Freshness, Limit, Place, Query, WaitMs, whole_number};
use crate::api::schema::Decimal;
use crate::domain::fields::Fields;
use crate::domain::money::{Amount, Price};
use crate::queries::directory::RiskBand;

/// How old it may be: the closes of every asset are read for it.
const GOOD_FOR: Duration = Duration::from_secs(5);
/// How long one who asks waits for others who ask for something else.
const TURN_WITHIN: Duration = Duration::from_secs(5);
/// Moves that are looked at unless told: about a year.
const WINDOW_DEFAULT: u32 = 250;
const WINDOW_MAX: u32 = 1_000;
/// Assets that are shown unless told.
const SHOWN_DEFAULT: u32 = 20;
/// An asset whose last close is further behind the newest of all is not what happened last.
const CURRENT_DAYS: u64 = 7;

/// What assets' closes say.
#[derive(Serialize, ToSchema)]
pub(crate) struct Analytics {
    /// How many daily moves were looked at, of each asset at most.
    #[schema(example = 250)]
    window: u32,
    /// The newest close of all; null where there is none.
    newest_close_on: Option<NaiveDate>,
    /// Assets that have closes.
    count: usize,
    /// Those with enough of them for figures: 20 moves.
    with_figures: usize,
    /// Those, by band of annual volatility.
    risk_bands: Bands,
    /// The most interesting first: those whose last move is the largest in units of their own volatility. Without those whose
    /// last close is more than a week behind the newest.
    items: Vec<AssetFigures>,
}

/// Assets by band of annual volatility.
#[derive(Default, Serialize, ToSchema)]
#[schema(as = AssetBands)]
pub(crate) struct Bands {
    /// Below 0.15.
    low: usize,
    /// From 0.15 to below 0.25.
    medium: usize,
    /// From 0.25 on.
    high: usize,
}

/// How an asset moves, by its closes of one source.
#[derive(Serialize, ToSchema)]
pub(crate) struct AssetFigures {
    /// The asset.
    id: Uuid,
    /// Its symbol.
    #[schema(example = "AAPL")]
    symbol: String,
    /// The currency of the moves.
    #[schema(example = "USD")]
    currency: String,
    /// Whose closes these are: the most believed source that has any.
    #[schema(example = "exchange")]
    source: String,
    /// How many closes were used.
    closes: usize,
    /// The last close, in whole units of the currency.
    #[schema(value_type = Option<Decimal>)]
    last_close: Option<Price>,
    /// Size of the last return in standard deviations of the daily returns.
    unusualness: f64,
    /// What happened on the last day.
    last: DailyMove,
    /// Median of the sizes of the daily moves, in currency.
    #[schema(value_type = Decimal)]
    typical_move: Amount,
    /// The same as a fraction of the close before.
    typical_return: f64,
    /// The largest daily move in currency.
    largest_move: DailyMove,
    /// The largest daily move as a fraction.
    largest_return: DailyMove,
    /// Annual volatility of the closes.
    volatility: f64,
    /// Its band.
    #[schema(example = "medium")]
    risk_band: &'static str,
}

/// A move from one close to the next.
#[derive(Serialize, ToSchema)]
pub(crate) struct DailyMove {
    /// The day.
    day: NaiveDate,
    /// In currency.
    #[schema(value_type = Decimal, example = "-3.2")]
    r#move: Amount,
    /// As a fraction of the close before: 0.01 is 1 %.
    r#return: f64,
}

impl From<Move> for DailyMove {
    fn from(it: Move) -> Self {
        Self { day: it.day, r#move: Amount::from_decimal(it.amount), r#return: it.fraction }
    }
}

impl AssetFigures {
    fn new(moves: AssetMoves, figures: MoveFigures, unusualness: f64) -> Self {
        Self {
            id: moves.asset.asset_id,
            symbol: moves.asset.symbol,
            currency: moves.asset.currency,
            source: moves.asset.source,
            closes: moves.closes,
            last_close: moves.last.map(|(_, price)| Price::from_decimal(price)),
            unusualness,
            last: figures.last.into(),
            typical_move: Amount::from_decimal(figures.typical_move),
            typical_return: figures.typical_return,
            largest_move: figures.largest_move.into(),
            largest_return: figures.largest_return.into(),
            volatility: figures.volatility,
            risk_band: match RiskBand::of(figures.volatility) {
                RiskBand::Low => "low",
                RiskBand::Medium => "medium",
                RiskBand::High => "high",
            },
        }
    }
}

impl Analytics {
    fn of(assets: Vec<AssetMoves>, window: u32, limit: u32) -> Self {
        let newest_close_on = assets.iter().filter_map(|asset| asset.last).map(|(day, _)| day).max();
        let current_from = newest_close_on.and_then(|day| day.checked_sub_days(Days::new(CURRENT_DAYS)));
        let mut analytics = Self {
            window,
            newest_close_on,
            count: assets.len(),
            with_figures: 0,
            risk_bands: Bands::default(),
            items: Vec::new(),
        };
        for mut asset in assets {
            let Some(figures) = asset.figures.take() else { continue };
            analytics.with_figures += 1;
            match RiskBand::of(figures.volatility) {
                RiskBand::Low => analytics.risk_bands.low += 1,
                RiskBand::Medium => analytics.risk_bands.medium += 1,
                RiskBand::High => analytics.risk_bands.high += 1,
            }
            if let Some(unusualness) = figures.unusualness
                && Some(figures.last.day) >= current_from
            {
                analytics.items.push(AssetFigures::new(asset, figures, unusualness));
            }
        }
        let key = |item: &AssetFigures| (item.symbol.clone(), item.id);
        analytics
            .items
            .sort_by(|a, b| b.unusualness.total_cmp(&a.unusualness).then_with(|| key(a).cmp(&key(b))));
        analytics.items.truncate(limit as usize);
        analytics
    }
}

/// How many moves are looked at.
pub(crate) struct Window(u32);

impl FieldValue for Window {
    const EXPECTED: &'static str = "a whole number from 20 to 1000";
    fn from_text(text: &str) -> Result<Self, String> {
        let number = whole_number(text).filter(|window| (20..=WINDOW_MAX).contains(window));
        number.map(Self).ok_or_else(Self::refusal)
    }
}

/// What is looked at.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    /// How many daily moves of each asset, at most: 20 to 1,000; 250 if not told.
    #[param(value_type = Option<u32>, minimum = 20, maximum = 1_000)]
    window: Field<Window>,
    /// How many assets are shown: 1 to 500; 20 if not told.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Field<Limit>,
    /// A place that the answer must have seen: the `place` of a command's answer, such as `1:901`.
    #[param(value_type = Option<String>)]
    min_position: Field<Place>,
    /// How long to wait for it, in milliseconds: 0 to 10,000; 2,000 if not told.
    #[param(value_type = Option<u32>)]
    max_wait_ms: Field<WaitMs>,
}

/// Find how assets move
///
/// How many there are in each band of volatility, and of the most interesting ones the typical and the largest daily move, in
/// currency and as a fraction. At most five seconds old, unless a place is named that this has not seen.
#[utoipa::path(get, path = "/v1/assets/analytics", tag = "assets", operation_id = "findAssetAnalytics",
    params(Which, DatedHeaders),
    responses((status = 200, description = "The figures", body = Answered<Analytics>), ListProblems))]
pub(crate) async fn find(
    State(api): State<Arc<Api>>,
    Query(which): Query<Which>,
    request: HeaderMap,
) -> Result<Response, Problem> {
    let mut fields = Fields::new();
    let window = which.window.optional("window", &mut fields).map_or(WINDOW_DEFAULT, |Window(it)| it);
    let limit = which.limit.optional("limit", &mut fields).map_or(SHOWN_DEFAULT, |Limit(limit)| limit);
    let freshness = Freshness::read(which.min_position, which.max_wait_ms, &mut fields);
    fields.finish()?;
    api.wait_for(&freshness, &["prices"], None).await?;
    let read = async {
        // One at a time: it may read a million closes.
        let turn = tokio::time::timeout(TURN_WITHIN, api.analysing.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Problem::busy("others are asking for much", 5)) };
        let answer = load_asset_moves(&api.pool, window).await.map_err(failed)?;
        Ok(Kept::of(answer, |assets| Analytics::of(assets, window, limit)))
    };
    let question = format!("asset analytics {window} {limit}");
    let kept = api.conflated.get(question, GOOD_FOR, freshness.min_position, read).await?;
    let modified = last_modified(&kept.as_of, api.clock.now());
    Ok(kept.rendered.send_dated(&request, kept.as_of, kept.parked, modified))
}
