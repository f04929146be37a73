select e.quarter, e.earnings_per_share, e.estimate, e.revenue, e.currency, e.reported_on, e.recorded_at, e.position
from directory.earnings e
where e.asset_id = $1
    and ($2::text is null or e.quarter >= $2)
    and ($3::text is null or e.quarter <= $3)
    and ($4::text is null or e.quarter > $4)
order by e.quarter
limit $5
