-- What holdings are worth at live prices. A row is a function of the events at or below the two positions it names.

create table valued_holdings (
    portfolio_id uuid not null,
    asset_id uuid not null,
    currency text not null,
    quantity numeric(28, 10) not null,
    -- Why something below is null: `no_price`, `no_rate`, `too_large`; never 1, never 0, never a later one.
    unpriced text,
    price numeric(28, 10),
    priced_at timestamptz,
    price_source text,
    price_kind text,
    market_value numeric(28, 10),
    cost numeric(28, 10) not null,
    unrealized_gain numeric(28, 10),
    -- Units of base for one unit of the asset's currency, and how it was found.
    rate numeric(28, 10),
    rate_path text,
    market_value_base numeric(28, 10),
    -- Why cost in base is null: `no_rate_at_purchase`.
    cost_base numeric(28, 10),
    cost_base_missing text,
    unrealized_gain_base numeric(28, 10),
    -- Share of the gross market value of what is priced.
    weight numeric(28, 10),
    portfolio_position bigint not null,
    price_position bigint not null,
    constraint valued_holdings_key primary key (portfolio_id, asset_id)
) with (fillfactor = 60);

create table valued_cash (
    portfolio_id uuid not null,
    currency text not null,
    balance numeric(28, 10) not null,
    unpriced text,
    rate numeric(28, 10),
    rate_path text,
    balance_base numeric(28, 10),
    portfolio_position bigint not null,
    price_position bigint not null,
    constraint valued_cash_key primary key (portfolio_id, currency)
) with (fillfactor = 60);

create table valued_portfolios (
    portfolio_id uuid not null constraint valued_portfolios_key primary key,
    shard smallint not null,
    base_currency text not null,
    market_value_base numeric(28, 10) not null,
    cash_base numeric(28, 10) not null,
    total_value_base numeric(28, 10) not null,
    cost_base numeric(28, 10) not null,
    unrealized_gain_base numeric(28, 10) not null,
    -- Sum of the absolute market values: what weights are shares of.
    gross_value_base numeric(28, 10) not null,
    -- A price or rate is missing: the sums above are of what is priced.
    incomplete boolean not null,
    -- An opening rate is missing: cost and gain in base are of what is known.
    cost_incomplete boolean not null,
    unpriced integer not null,
    -- Assets that are held.
    asset_count integer not null,
    portfolio_position bigint not null,
    price_position bigint not null
) with (fillfactor = 60);

create index valued_portfolios_by_value on valued_portfolios (total_value_base, portfolio_id);
create index valued_portfolios_by_asset_count on valued_portfolios (asset_count, portfolio_id);
