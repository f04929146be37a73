select r.portfolio_id, r.portfolio_position, r.price_position, r.model_cut, r.model_hash, r.engine_version, r.base_currency,
    r.gross_exposure, r.coverage, r.incomplete, r.value_at_risk_95, r.value_at_risk_99, r.expected_shortfall_975,
    r.risk_share, r.risk_band, r.volatility, r.sharpe, r.figures, r.exposures
from risk.portfolio_risks r
where r.portfolio_id = $1
