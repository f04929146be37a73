-- Who and what there is: investors (no personal data), portfolios with their settings, assets, symbols.

create table investors (
    investor_id uuid not null constraint investors_key primary key,
    risk_tolerance text,
    experience_level text,
    registered_at timestamptz not null,
    version bigint not null,
    position bigint not null
);

create table portfolios (
    portfolio_id uuid not null constraint portfolios_key primary key,
    investor_id uuid not null,
    name text not null,
    base_currency text not null,
    time_zone text not null,
    cost_basis text not null,
    fees_in_cost boolean not null,
    cash text not null,
    allow_short boolean not null,
    opened_at timestamptz not null,
    -- Of the last event of any type in the portfolio's stream: what `If-Match` is compared with.
    version bigint not null,
    position bigint not null
) with (fillfactor = 70);

create index portfolios_by_investor on portfolios (investor_id, portfolio_id);
create index portfolios_by_name on portfolios (name, portfolio_id);

create table assets (
    asset_id uuid not null constraint assets_key primary key,
    symbol text not null,
    name text not null,
    class text not null,
    currency text not null,
    quote_unit numeric(28, 10) not null,
    isin text,
    exchange text,
    listed_at timestamptz not null,
    delisted_on date,
    final_price numeric(28, 10),
    version bigint not null,
    position bigint not null
);

create index assets_by_symbol on assets (symbol, asset_id);

-- Every symbol ever claimed: an old one goes on naming its asset.
create table symbols (
    symbol text not null constraint symbols_key primary key,
    asset_id uuid not null,
    position bigint not null
);

-- What is believed of a quarter: the last report of it.
create table earnings (
    asset_id uuid not null,
    -- `2024-Q1`, which sorts as text.
    quarter text not null,
    earnings_per_share numeric(28, 10) not null,
    estimate numeric(28, 10),
    revenue numeric(28, 10),
    currency text not null,
    reported_on date,
    -- When the log took that report, and where it stands.
    recorded_at timestamptz not null,
    position bigint not null,
    constraint earnings_key primary key (asset_id, quarter)
);
