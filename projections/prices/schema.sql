-- What was seen of prices, by asset and source. The price table that readers hold in memory is loaded from here.

-- What an asset's prices are read by.
create table quotes (
    asset_id uuid not null constraint quotes_key primary key,
    symbol text not null,
    class text not null,
    currency text not null,
    quote_unit numeric(28, 10) not null,
    -- The ranked sources, the most believed first, and how each series is adjusted.
    ranked_sources text[] not null,
    ranked_adjustments text[] not null,
    -- The live price that follows from the sources; none where there is none.
    price numeric(28, 10),
    priced_at timestamptz,
    price_source text,
    price_kind text,
    -- Of the last event that changed the live price.
    position bigint not null
) with (fillfactor = 70);

-- The newest tick and close of each source.
create table price_sources (
    asset_id uuid not null,
    source text not null,
    first_used bigint not null,
    tick_at timestamptz,
    tick_price numeric(28, 10),
    tick_position bigint,
    close_day date,
    close_price numeric(28, 10),
    close_position bigint,
    constraint price_sources_key primary key (asset_id, source)
) with (fillfactor = 70);

-- Every close; its identity is (asset, source, day).
create table closes (
    asset_id uuid not null,
    source text not null,
    day date not null,
    price numeric(28, 10) not null,
    volume numeric(28, 10),
    -- Of the event that gave it this price.
    position bigint not null,
    constraint closes_key primary key (asset_id, source, day)
);

-- Prices that a source has told and that are too far from the last one: they wait for a word, or have had it.
create table held_prices (
    asset_id uuid not null,
    held_id uuid not null,
    source text not null,
    -- One of both.
    at timestamptz,
    day date,
    price numeric(28, 10) not null,
    volume numeric(28, 10),
    last_price numeric(28, 10) not null,
    reason text not null,
    held_at timestamptz not null,
    -- `waiting`, `accepted` or `dismissed`.
    state text not null,
    -- Of the event that says so.
    position bigint not null,
    constraint held_prices_key primary key (asset_id, held_id)
);

create index held_prices_by_state on held_prices (state, position);
