//! What symbols name and which assets are listed: facts that never change once they are in the log, so that
//! they can be remembered without asking again.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use sqlx::PgPool;

use super::aggregates::{State, Stream};
use super::load::{READ_EVENTS, fold};
use super::request::AssetRef;
use crate::domain::asset::Asset;
use crate::domain::currency::Symbol;
use crate::domain::ids::{AssetId, StreamId, Version};
use crate::event_store::{Error, Place, Witness, read};

/// Assets by id and symbol, as far as they were asked for.
#[derive(Default)]
pub(super) struct Assets {
    /// What this process knows the log by.
    witness: Arc<Witness>,
    by_symbol: RwLock<HashMap<Symbol, AssetId>>,
    listed: RwLock<HashMap<AssetId, Arc<Asset>>>,
}

impl Assets {
    /// None yet; what is read is seen by this witness.
    pub(super) fn new(witness: Arc<Witness>) -> Self {
        Self { witness, ..Self::default() }
    }

    /// The id of an asset. An id is taken as it is; a symbol that nobody has claimed is `None`.
    pub(super) async fn resolve(&self, pool: &PgPool, asset: &AssetRef) -> Result<Option<AssetId>, Error> {
        let symbol = match asset {
            AssetRef::Id(id) => return Ok(Some(*id)),
            AssetRef::Symbol(symbol) => symbol,
        };
        if let Some(id) = get(&self.by_symbol, symbol) {
            return Ok(Some(id));
        }
        let State::Symbol(owner) = self.read_stream(pool, &StreamId::symbol(symbol.as_str())).await?.state
        else {
            return Ok(None);
        };
        if let Some(id) = owner.asset_id() {
            put(&self.by_symbol, symbol.clone(), id);
        }
        Ok(owner.asset_id())
    }

    /// The asset, if it is listed. Only its listing may be relied on: the rest may be old.
    pub(super) async fn find(&self, pool: &PgPool, asset: &AssetRef) -> Result<Option<Arc<Asset>>, Error> {
        let Some(id) = self.resolve(pool, asset).await? else { return Ok(None) };
        if let Some(asset) = get(&self.listed, &id) {
            return Ok(Some(asset));
        }
        let State::Asset(asset) = self.read_stream(pool, &id.stream()).await?.state else { return Ok(None) };
        if asset.listing().is_none() {
            return Ok(None);
        }
        let asset = Arc::new(asset);
        put(&self.listed, id, Arc::clone(&asset));
        Ok(Some(asset))
    }

    /// The beginning of a stream, where the listing is.
    async fn read_stream(&self, pool: &PgPool, id: &StreamId) -> Result<Stream, Error> {
        let known = [(id.clone(), Version(0))];
        let events = read::streams_after(pool, &known, READ_EVENTS).await?.events;
        if let Some(newest) = events.last() {
            self.witness.saw(Place::from(newest));
        }
        fold(id, &events)
    }
}

fn get<K: std::hash::Hash + Eq, V: Clone>(map: &RwLock<HashMap<K, V>>, key: &K) -> Option<V> {
    map.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(key).cloned()
}

fn put<K: std::hash::Hash + Eq, V>(map: &RwLock<HashMap<K, V>>, key: K, value: V) {
    map.write().unwrap_or_else(std::sync::PoisonError::into_inner).insert(key, value);
}
