-- The latest first.
select t.position, t.event_id, t.kind, t.happened_on, t.occurred_at, t.recorded_at, t.asset_id, a.symbol as "symbol?", t.quantity,
    t.price, t.currency, t.amount, t.fee, t.tax, t.fx_rate, t.cash_currency, t.cash_amount, t.note
from activity.activities t
left join directory.assets a using (asset_id)
where t.portfolio_id = $1
    and ($2::text is null or t.kind = $2)
    and ($3::uuid is null or t.asset_id = $3)
    and ($4::date is null or t.happened_on >= $4)
    and ($5::date is null or t.happened_on <= $5)
    and ($6::date is null or (t.happened_on, t.position) < ($6, $7::bigint))
order by t.happened_on desc, t.position desc
limit $8
