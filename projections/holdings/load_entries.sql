select portfolio_id, position, trade_date, kind, asset_id, quantity, price, currency, amount, fee, tax, fx_rate,
    cash_currency, cash_amount
from entries
where portfolio_id = any($1)
