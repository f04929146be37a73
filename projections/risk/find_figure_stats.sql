-- Volatilities and Sharpe ratios of all portfolios. A mean is rounded, since the order in which it is summed is not fixed.
select v.low as "low!", v.medium as "medium!", v.high as "high!", v.mean as "volatility_mean?",
    v.median as "volatility_median?", s.count as "with_sharpe!", s.mean as "sharpe_mean?", s.median as "sharpe_median?"
from (
    select count(*) filter (where volatility < 0.15) as low,
        count(*) filter (where volatility >= 0.15 and volatility < 0.25) as medium,
        count(*) filter (where volatility >= 0.25) as high,
        round(avg(volatility)::numeric, 12)::double precision as mean,
        percentile_cont(0.5) within group (order by volatility) as median
    from risk.portfolio_risks
    where volatility is not null
) v
cross join (
    select count(*) as count, round(avg(sharpe)::numeric, 12)::double precision as mean,
        percentile_cont(0.5) within group (order by sharpe) as median
    from risk.portfolio_risks
    where sharpe is not null
) s
