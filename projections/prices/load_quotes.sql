select asset_id, symbol, class, currency, quote_unit, ranked_sources, ranked_adjustments, position
from quotes
