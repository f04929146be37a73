-- What happened in a portfolio, as an investor reads it.

create table activities (
    portfolio_id uuid not null,
    position bigint not null,
    event_id text not null,
    kind text not null,
    -- The day it is dated; of facts without a day, the day it was recorded (UTC).
    happened_on date not null,
    occurred_at timestamptz not null,
    recorded_at timestamptz not null,
    asset_id uuid,
    quantity numeric(28, 10),
    price numeric(28, 10),
    currency text,
    amount numeric(28, 10),
    fee numeric(28, 10),
    tax numeric(28, 10),
    fx_rate numeric(28, 10),
    cash_currency text,
    cash_amount numeric(28, 10),
    note text,
    constraint activities_key primary key (portfolio_id, position)
);

create index activities_by_day on activities (portfolio_id, happened_on desc, position desc);
