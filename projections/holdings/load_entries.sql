select portfolio_id, position, event_id, place, trade_date, kind, asset_id, quantity, price, currency, amount, fee, tax,
    fx_rate, settle, cash_currency, cash_amount
from entries
where portfolio_id = any($1) and undone_at is null
order by portfolio_id, trade_date, place
