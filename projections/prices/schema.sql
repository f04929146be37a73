-- What was seen of prices, by asset and source. The price table in memory is loaded from here.

-- What prices are read by: an asset's currency, quote unit and ranked sources.
create table quotes (
    asset_id uuid not null constraint quotes_key primary key,
    symbol text not null,
    class text not null,
    currency text not null,
    quote_unit numeric(28, 10) not null,
    -- The most believed first, as ranked by an event; then those of first use.
    sources text[] not null,
    position bigint not null
);

-- The newest tick per source.
create table ticks (
    asset_id uuid not null,
    source text not null,
    at timestamptz not null,
    price numeric(28, 10) not null,
    volume numeric(28, 10),
    position bigint not null,
    constraint ticks_key primary key (asset_id, source)
) with (fillfactor = 70);

create table closes (
    asset_id uuid not null,
    source text not null,
    day date not null,
    price numeric(28, 10) not null,
    volume numeric(28, 10),
    position bigint not null,
    constraint closes_key primary key (asset_id, source, day)
);
