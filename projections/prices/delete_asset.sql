-- All that is known of one asset, to be folded again.
with gone_quotes as (
    delete from quotes where asset_id = $1
), gone_sources as (
    delete from price_sources where asset_id = $1
)
delete from closes where asset_id = $1
