-- What is held, lot by lot, and the facts it follows from.

-- A portfolio's accounting, and how far its rows have come.
create table ledgers (
    portfolio_id uuid not null constraint ledgers_key primary key,
    shard smallint not null,
    base_currency text not null,
    cost_basis text not null,
    fees_in_cost boolean not null,
    cash text not null,
    allow_short boolean not null,
    -- The latest entry in the order of the ledger; a fact before it is backdated.
    last_trade_date date,
    last_entry bigint,
    -- Of the last event of the stream.
    version bigint not null,
    position bigint not null
) with (fillfactor = 70);

create index ledgers_by_shard on ledgers (shard);

-- One row per ledger fact. Read only to derive a portfolio anew, in the order of (trade_date, position).
create table entries (
    portfolio_id uuid not null,
    position bigint not null,
    trade_date date not null,
    kind text not null,
    asset_id uuid,
    quantity numeric(28, 10) not null,
    price numeric(28, 10),
    currency text not null,
    amount numeric(28, 10) not null,
    fee numeric(28, 10) not null,
    tax numeric(28, 10) not null,
    fx_rate numeric(28, 10),
    cash_currency text,
    cash_amount numeric(28, 10),
    constraint entries_key primary key (portfolio_id, position)
);

-- One row per asset ever traded; one that was closed stays, with its gain.
create table holdings (
    portfolio_id uuid not null,
    asset_id uuid not null,
    currency text not null,
    quantity numeric(28, 10) not null,
    cost numeric(28, 10) not null,
    realized_gain numeric(28, 10) not null,
    -- Charges booked apart, so neither in cost nor in gain.
    fees numeric(28, 10) not null,
    taxes numeric(28, 10) not null,
    constraint holdings_key primary key (portfolio_id, asset_id)
) with (fillfactor = 70);

-- Whether anybody holds an asset. An asset of a row never changes, so updates stay on their page.
create index holdings_by_asset on holdings (asset_id);

create table lots (
    portfolio_id uuid not null,
    asset_id uuid not null,
    -- Of the fact that opened it; of the first, for the pool of the average cost basis.
    position bigint not null,
    opened_on date not null,
    quantity numeric(28, 10) not null,
    cost numeric(28, 10) not null,
    fx_rate numeric(28, 10),
    constraint lots_key primary key (portfolio_id, asset_id, position)
) with (fillfactor = 70);

create table cash (
    portfolio_id uuid not null,
    currency text not null,
    balance numeric(28, 10) not null,
    constraint cash_key primary key (portfolio_id, currency)
) with (fillfactor = 70);
