-- Many rows in every table of every read model, and as many events: for plans and for lists, not for folds.
insert into events (position, command_id, ordinal, stream_id, version, shard, event_type, schema_version, request_hash,
    correlation_id, occurred_at, recorded_at, payload, metadata)
select i, md5('command ' || i)::uuid, 0, 'portfolio-' || md5('portfolio ' || i)::uuid, 1, i % 32, 'PortfolioOpened', 1, '\x00',
    md5('command ' || i)::uuid, timestamptz '2024-01-01', timestamptz '2024-01-01', '{}', '{}'
from generate_series(1, $portfolios) i;

insert into investor_details (investor_id, name, email)
select md5('investor ' || i)::uuid, 'Investor ' || i, 'investor-' || i || '@example.com' from generate_series(1, $portfolios) i;

insert into directory.investors (investor_id, risk_tolerance, experience_level, registered_at, version, position)
select md5('investor ' || i)::uuid, 'medium', 'beginner', timestamptz '2024-01-01', 1, i from generate_series(1, $portfolios) i;

-- Ten portfolios each for the first tenth of them.
insert into directory.portfolios (portfolio_id, investor_id, name, base_currency, time_zone, cost_basis, fees_in_cost, cash,
    allow_short, opened_at, version, position)
select md5('portfolio ' || i)::uuid, md5('investor ' || 1 + i % ($portfolios / 10))::uuid,
    'Portfolio ' || substr(md5('name ' || i), 1, 8), (array['USD', 'EUR', 'GBP'])[1 + i % 3], 'UTC', 'fifo', false,
    'untracked', false, timestamptz '2024-01-01' + i * interval '1 second', 1, i
from generate_series(1, $portfolios) i;

insert into directory.assets (asset_id, symbol, name, class, currency, quote_unit, listed_at, version, position)
select md5('asset ' || i)::uuid, 'A' || i, 'Asset ' || i, 'equity', 'USD', 1, timestamptz '2024-01-01', 1, i
from generate_series(1, 500) i;
insert into directory.symbols (symbol, asset_id, position)
select 'A' || i, md5('asset ' || i)::uuid, i from generate_series(1, 500) i;
insert into directory.earnings (asset_id, quarter, earnings_per_share, currency, recorded_at, position)
select md5('asset ' || i)::uuid, (1980 + q / 4) || '-Q' || 1 + q % 4, 1, 'USD', timestamptz '2024-01-01', 1
from generate_series(1, 500) i, generate_series(1, 40) q;

insert into prices.quotes (asset_id, symbol, class, currency, quote_unit, ranked_sources, ranked_adjustments, position)
select md5('asset ' || i)::uuid, 'A' || i, case when i <= 5 then 'fx' else 'equity' end, 'USD', 1, '{}', '{}', i
from generate_series(1, 500) i;
insert into prices.price_sources (asset_id, source, first_used, close_day, close_price, close_position)
select md5('asset ' || i)::uuid, 'exchange', 1, date '2024-01-01' + 400, 100, 1 from generate_series(1, 500) i;
insert into prices.closes (asset_id, source, day, price, volume, position)
select md5('asset ' || i)::uuid, 'exchange', date '2024-01-01' + d, 100 + (i * 7919 + d * 104729) % 1000 / 100.0, d, 1
from generate_series(1, 500) i, generate_series(1, 400) d;

insert into prices.held_prices (asset_id, held_id, source, day, price, last_price, reason, held_at, state, position)
select md5('asset ' || 1 + i % 500)::uuid, md5('held ' || i)::uuid, 'exchange', date '2024-01-01', 300, 100, 'three times the last',
    timestamptz '2024-01-01', case when i % 100 = 0 then 'waiting' else 'accepted' end, i
from generate_series(1, $portfolios) i;

-- A hundred jobs; of their runs one in a hundred has failed for good, and ten are open.
insert into jobs.jobs (job_id, name, kind, interval_seconds, soft_limit_seconds, time_limit_seconds, attempts_max,
    retry_pause_seconds, overlap, symbols, defined_by, defined_at, defined_position, settings_at, version, position)
select md5('job ' || i)::uuid, 'job-' || i, 'fetch-quotes', 3600, 240, 300, 3, 30, 'skip', '{}', 'anonymous',
    timestamptz '2024-01-01', 0, timestamptz '2024-01-01', 1, 1
from generate_series(1, 100) i;
insert into jobs.runs (job_id, scheduled_position, run_id, due_at, trigger, state, missed, attempt, scheduled_at, position)
select md5('job ' || 1 + i % 100)::uuid, i, md5('run ' || i)::uuid, timestamptz '2024-01-01' + i * interval '1 minute', 'schedule',
    case when i > $portfolios - 10 then 'scheduled' when (i / 100) % 100 = 0 then 'failed' else 'finished' end, 0, 1,
    timestamptz '2024-01-01' + i * interval '1 minute', i
from generate_series(1, $portfolios) i;

insert into holdings.ledgers (portfolio_id, shard, base_currency, cost_basis, fees_in_cost, cash, allow_short, version, position)
select portfolio_id, position % 32, base_currency, cost_basis, fees_in_cost, cash, allow_short, version, position
from directory.portfolios;
insert into holdings.holdings (portfolio_id, asset_id, currency, quantity, cost, realized_gain, fees, taxes)
select md5('portfolio ' || i)::uuid, md5('asset ' || 1 + (i * k) % 500)::uuid, 'USD', 1, 1, 0, 0, 0
from generate_series(1, $portfolios) i, generate_series(1, 3) k on conflict do nothing;
insert into holdings.lots (portfolio_id, asset_id, position, opened_on, quantity, cost)
select portfolio_id, asset_id, 1, date '2024-01-01', quantity, cost from holdings.holdings;
insert into holdings.entries (portfolio_id, position, trade_date, kind, asset_id, quantity, currency, amount, fee, tax)
select portfolio_id, row_number() over (), date '2024-01-01', 'buy', asset_id, 1, 'USD', 1, 0, 0 from holdings.holdings;
insert into holdings.cash (portfolio_id, currency, balance)
select portfolio_id, 'USD', 1 from directory.portfolios;
insert into activity.activities (portfolio_id, position, event_id, kind, happened_on, occurred_at, recorded_at)
select portfolio_id, position, 'event ' || position, 'opened', date '2024-01-01', opened_at, opened_at
from directory.portfolios;

insert into valuations.valued_holdings (portfolio_id, asset_id, currency, quantity, cost, portfolio_position, price_position)
select portfolio_id, asset_id, currency, quantity, cost, 1, 1 from holdings.holdings;
insert into valuations.valued_cash (portfolio_id, currency, balance, portfolio_position, price_position)
select portfolio_id, currency, balance, 1, 1 from holdings.cash;
insert into valuations.valued_portfolios (portfolio_id, shard, base_currency, market_value_base, cash_base, total_value_base,
    cost_base, unrealized_gain_base, gross_value_base, incomplete, cost_incomplete, unpriced, asset_count,
    portfolio_position, price_position)
select md5('portfolio ' || i)::uuid, i % 32, (array['USD', 'EUR', 'GBP'])[1 + i % 3], v, 0, v, v, 0, v, false, false, 0,
    1 + i % 20, i, 1
from (select i, (1000 + (i::bigint * 104729) % 1000003)::numeric + 0.25 as v from generate_series(1, $portfolios) i) valued;

-- One in a hundred has no figures. The documents are about as large as real ones.
insert into risk.portfolio_risks (portfolio_id, shard, portfolio_position, price_position, request_position, model_cut, model_hash,
    engine_version, base_currency, gross_exposure, coverage, incomplete, value_at_risk_95, value_at_risk_99,
    expected_shortfall_975, risk_share, risk_band, volatility, sharpe, figures, exposures)
select md5('portfolio ' || i)::uuid, i % 32, i, 1, 0, 1, 'hash', '1', 'USD', 1000, 1, false, 1, 2, 2, volatility / 8,
    case when volatility < 0.15 then 'low' when volatility < 0.25 then 'medium' else 'high' end, volatility,
    ((i::bigint * 15485863) % 400009 / 100000.0 - 1)::double precision,
    json_build_object('methods', (select json_agg(md5(i::text || k)) from generate_series(1, 60) k)),
    json_build_array(json_build_object('a', repeat(md5(i::text), 20)))
from (
    select i, 0.05 + (i::bigint * 7919) % 100003 / 285714.0 as volatility from generate_series(1, $portfolios) i
) drawn
where i % 100 <> 0;

insert into directory.checkpoints (shard, epoch, position, recorded_at, scanned_to, price_position, revision)
select s, 1, $portfolios, timestamptz '2024-01-01', $portfolios, 0, s from generate_series(0, 32) s;
insert into holdings.checkpoints select * from directory.checkpoints where shard < 32;
insert into activity.checkpoints select * from directory.checkpoints where shard < 32;
insert into prices.checkpoints select * from directory.checkpoints where shard = 32;
insert into jobs.checkpoints (shard, epoch, position, recorded_at, scanned_to, price_position, revision)
select s, 1, $portfolios, timestamptz '2024-01-01', $portfolios, 0, 100 + s from generate_series(33, 40) s;
insert into valuations.checkpoints (shard, epoch, position, recorded_at, scanned_to, price_position, revision)
select shard, epoch, position, recorded_at, scanned_to, scanned_to, revision from holdings.checkpoints;
insert into risk.checkpoints select * from valuations.checkpoints;
analyze;
