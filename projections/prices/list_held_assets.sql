-- Assets that somebody holds and that are still traded.
select a.asset_id
from directory.assets a
where a.delisted_on is null
    and exists (select 1 from holdings.holdings h where h.asset_id = a.asset_id and h.quantity <> 0)
order by a.symbol
