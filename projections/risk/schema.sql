-- How much could be lost: one live row per portfolio, a pure function of what it names.

create table portfolio_risks (
    portfolio_id uuid not null constraint portfolio_risks_key primary key,
    shard smallint not null,
    portfolio_position bigint not null,
    price_position bigint not null,
    -- The last request to compute everything of the shard anew that the row has obeyed; 0 if there was none.
    request_position bigint not null,
    -- Market position that the model's closes end at, what the model was, and who computed.
    model_cut bigint not null,
    model_hash text not null,
    engine_version text not null,
    base_currency text not null,
    -- Gross exposure, and the share of it that the figures cover.
    gross_exposure numeric(28, 10) not null,
    coverage double precision not null,
    incomplete boolean not null,
    -- Headline: filtered historical simulation, one day, in base; a loss is positive.
    value_at_risk_95 double precision,
    value_at_risk_99 double precision,
    expected_shortfall_975 double precision,
    -- Value at risk 99 % as a share of gross exposure: what `order=risk` sorts by.
    risk_share double precision,
    -- Cut from the annual volatility: low below 0.15, high from 0.25 on.
    risk_band text,
    volatility double precision,
    sharpe double precision,
    -- Every method with figures, intervals, window, seed, counts; and the exposures it reflects.
    figures json not null,
    exposures json not null
) with (fillfactor = 70);

create index portfolio_risks_by_share on portfolio_risks (risk_share, portfolio_id);
-- The band is a range of volatility.
create index portfolio_risks_by_volatility on portfolio_risks (volatility, portfolio_id);
create index portfolio_risks_by_sharpe on portfolio_risks (sharpe, portfolio_id);

-- How far a request has come is counted here, without a look at the rows.
create index portfolio_risks_by_request on portfolio_risks (shard, request_position);
