select asset_id, source, first_used, tick_at, tick_price, tick_position, close_day, close_price, close_position
from price_sources
