-- Writes the live risk of portfolios; one that has not changed is left alone.
insert into portfolio_risks (portfolio_id, shard, portfolio_position, price_position, model_cut, model_hash,
    engine_version, base_currency, gross_exposure, coverage, incomplete, value_at_risk_95, value_at_risk_99,
    expected_shortfall_975, risk_share, risk_band, volatility, sharpe, figures, exposures, request_position)
-- As text, since an array of documents would be read and written again, and these bytes are compared.
select r.portfolio_id, r.shard, r.portfolio_position, r.price_position, r.model_cut, r.model_hash,
    r.engine_version, r.base_currency, r.gross_exposure, r.coverage, r.incomplete, r.value_at_risk_95,
    r.value_at_risk_99, r.expected_shortfall_975, r.risk_share, r.risk_band, r.volatility, r.sharpe,
    r.figures::json, r.exposures::json, r.request_position
from unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[],
    $7::text[], $8::text[], $9::numeric[], $10::double precision[], $11::boolean[], $12::double precision[],
    $13::double precision[], $14::double precision[], $15::double precision[], $16::text[],
    $17::double precision[], $18::double precision[], $19::text[], $20::text[], $21::bigint[])
    as r(portfolio_id, shard, portfolio_position, price_position, model_cut, model_hash,
    engine_version, base_currency, gross_exposure, coverage, incomplete, value_at_risk_95, value_at_risk_99,
    expected_shortfall_975, risk_share, risk_band, volatility, sharpe, figures, exposures,
    request_position)
on conflict (portfolio_id) do update set
    shard = excluded.shard,
    portfolio_position = excluded.portfolio_position,
    price_position = excluded.price_position,
    model_cut = excluded.model_cut,
    model_hash = excluded.model_hash,
    engine_version = excluded.engine_version,
    base_currency = excluded.base_currency,
    gross_exposure = excluded.gross_exposure,
    coverage = excluded.coverage,
    incomplete = excluded.incomplete,
    value_at_risk_95 = excluded.value_at_risk_95,
    value_at_risk_99 = excluded.value_at_risk_99,
    expected_shortfall_975 = excluded.expected_shortfall_975,
    risk_share = excluded.risk_share,
    risk_band = excluded.risk_band,
    volatility = excluded.volatility,
    sharpe = excluded.sharpe,
    figures = excluded.figures,
    exposures = excluded.exposures,
    request_position = excluded.request_position
