-- Assets by a symbol that they have or had.
select symbol, asset_id from directory.symbols where symbol = any($1)
