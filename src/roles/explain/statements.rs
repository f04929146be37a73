//! Every statement of the read models, what it is tried with, and what may read a large table from end to end.
//!
//! A parameter of which nothing is said here is chosen by its type. A test compares the list with the folder.

/// A statement of a read model.
#[derive(Debug)]
pub struct Statement {
    /// Its file below `projections`, without the ending.
    pub name: &'static str,
    /// Its text.
    pub sql: &'static str,
}

macro_rules! statements {
    ($($name:literal),* $(,)?) => {
        /// Every statement, by name.
        pub const STATEMENTS: &[Statement] = &[$(Statement {
            name: $name,
            sql: include_str!(concat!("../../../projections/", $name, ".sql")),
        }),*];
    };
}

statements![
    "activity/insert_activities",
    "activity/list_activities",
    "advance_checkpoints",
    "copy_holdings_checkpoints",
    "delete_parked_stream",
    "directory/find_asset",
    "directory/find_investor",
    "directory/find_investors_by_email",
    "directory/find_portfolio",
    "directory/find_portfolios_by_name",
    "directory/insert_assets",
    "directory/insert_investors",
    "directory/insert_portfolios",
    "directory/insert_symbols",
    "directory/list_assets",
    "directory/list_currency_totals",
    "directory/list_earnings",
    "directory/list_investors",
    "directory/list_portfolios_by_asset_count",
    "directory/list_portfolios_by_name",
    "directory/list_portfolios_by_risk",
    "directory/list_portfolios_by_sharpe",
    "directory/list_portfolios_by_value",
    "directory/list_portfolios_by_volatility",
    "directory/update_assets",
    "directory/update_portfolios",
    "directory/upsert_earnings",
    "find_as_of",
    "find_changed_at",
    "find_epoch",
    "find_parked_stream",
    "holdings/delete_lots",
    "holdings/find_holdings",
    "holdings/find_holdings_place",
    "holdings/insert_entries",
    "holdings/load_cash",
    "holdings/load_entries",
    "holdings/load_holdings",
    "holdings/load_ledgers",
    "holdings/load_lots",
    "holdings/upsert_cash",
    "holdings/upsert_holdings",
    "holdings/upsert_ledgers",
    "holdings/upsert_lots",
    "insert_missing_checkpoints",
    "insert_skipped_event",
    "jobs/find_changes",
    "jobs/find_longest_wait",
    "jobs/find_run",
    "jobs/list_failed_runs",
    "jobs/list_idle_leases",
    "jobs/list_jobs",
    "jobs/list_known_jobs",
    "jobs/list_names_defined_by",
    "jobs/list_open_runs",
    "jobs/list_places",
    "jobs/list_planned_jobs",
    "jobs/list_running_runs",
    "jobs/list_runs",
    "jobs/list_runs_in_state",
    "jobs/list_waiting_runs",
    "jobs/load_jobs",
    "jobs/load_runs",
    "jobs/upsert_jobs",
    "jobs/upsert_runs",
    "list_checkpoints",
    "list_lags",
    "list_parked_events",
    "list_parked_streams",
    "list_skipped_events",
    "load_checkpoints",
    "lock_checkpoint",
    "park_streams",
    "prices/delete_asset",
    "prices/delete_closes",
    "prices/find_market_scan",
    "prices/find_model_cut",
    "prices/find_named_assets",
    "prices/insert_held_prices",
    "prices/list_closes",
    "prices/list_held_assets",
    "prices/list_held_of_assets",
    "prices/list_held_prices",
    "prices/list_model_closes",
    "prices/list_pairs",
    "prices/list_recent_closes",
    "prices/list_series_closes",
    "prices/list_series_places",
    "prices/list_sources",
    "prices/load_fx_closes",
    "prices/load_market_checkpoint",
    "prices/load_quotes",
    "prices/load_sources",
    "prices/update_held_prices",
    "prices/upsert_closes",
    "prices/upsert_quotes",
    "prices/upsert_sources",
    "risk/count_recomputed",
    "risk/find_figure_stats",
    "risk/find_risk",
    "risk/find_unreachable",
    "risk/load_requests",
    "risk/upsert_risks",
    "valuations/delete_cash",
    "valuations/delete_holdings",
    "valuations/find_valuation",
    "valuations/list_valued_cash",
    "valuations/list_valued_holdings",
    "valuations/load_book",
    "valuations/load_holdings_places",
    "valuations/upsert_cash",
    "valuations/upsert_holdings",
    "valuations/upsert_portfolios",
];

/// A sequential scan of a large table that is as it should be.
pub(super) struct Leave {
    pub statement: &'static str,
    /// With which kind of parameters.
    pub case: &'static str,
    pub table: &'static str,
    pub reason: &'static str,
}

const ALL_ASKED_FOR: &str = "statistics of all of them, read once for everybody who asks within seconds";
const AT_START: &str = "read whole, once, by a process that starts";
const OF_ALL_CLOSES: &str = "a model is made of the closes of every asset, when closes have come";
const OF_A_SHARD: &str = "a process that takes over a shard reads all of it, once";
const THE_REST: &str = "those without the figure, which are asked for where the others do not fill the page";

macro_rules! leave {
    ($($statement:literal, $case:literal, $table:literal: $reason:expr;)*) => {
        /// All of them.
        pub(super) const LEAVE: &[Leave] =
            &[$(Leave { statement: $statement, case: $case, table: $table, reason: $reason }),*];
    };
}

leave! {
    "directory/list_currency_totals", "", "directory.portfolios": ALL_ASKED_FOR;
    "directory/list_currency_totals", "", "valuations.valued_portfolios": ALL_ASKED_FOR;
    "risk/find_figure_stats", "", "risk.portfolio_risks": ALL_ASKED_FOR;
    "valuations/load_book", "by shard", "holdings.ledgers": OF_A_SHARD;
    "valuations/load_book", "by shard", "holdings.holdings": OF_A_SHARD;
    "valuations/load_book", "by shard", "holdings.lots": OF_A_SHARD;
    "valuations/load_book", "by shard", "holdings.cash": OF_A_SHARD;
    "prices/load_quotes", "", "prices.quotes": AT_START;
    "prices/load_sources", "", "prices.price_sources": AT_START;
    "prices/load_fx_closes", "", "prices.closes": AT_START;
    "prices/load_fx_closes", "", "prices.quotes": AT_START;
    "prices/list_model_closes", "", "prices.closes": OF_ALL_CLOSES;
    "prices/list_model_closes", "", "prices.quotes": OF_ALL_CLOSES;
    "prices/list_model_closes", "", "prices.price_sources": OF_ALL_CLOSES;
    "prices/list_recent_closes", "", "prices.quotes": ALL_ASKED_FOR;
    "directory/list_portfolios_by_asset_count", "the rest", "directory.portfolios": THE_REST;
    "directory/list_portfolios_by_asset_count", "the rest", "valuations.valued_portfolios": THE_REST;
    "directory/list_portfolios_by_asset_count", "the rest", "risk.portfolio_risks": THE_REST;
    "directory/list_portfolios_by_volatility", "the rest", "directory.portfolios": THE_REST;
    "directory/list_portfolios_by_volatility", "the rest", "risk.portfolio_risks": THE_REST;
    "directory/list_portfolios_by_volatility", "the rest", "valuations.valued_portfolios": THE_REST;
    "directory/list_portfolios_by_sharpe", "the rest", "directory.portfolios": THE_REST;
    "directory/list_portfolios_by_sharpe", "the rest", "risk.portfolio_risks": THE_REST;
    "directory/list_portfolios_by_sharpe", "the rest", "valuations.valued_portfolios": THE_REST;
    "directory/list_portfolios_by_value", "the rest", "directory.portfolios": THE_REST;
    "directory/list_portfolios_by_value", "the rest", "valuations.valued_portfolios": THE_REST;
    "directory/list_portfolios_by_value", "the rest", "risk.portfolio_risks": THE_REST;
    "directory/list_portfolios_by_risk", "the rest", "directory.portfolios": THE_REST;
    "directory/list_portfolios_by_risk", "the rest", "risk.portfolio_risks": THE_REST;
    "directory/list_portfolios_by_risk", "the rest", "valuations.valued_portfolios": THE_REST;
}

/// A kind of parameters: what it is called, and an expression for each, empty where its type decides.
type Case = (&'static str, &'static [&'static str]);

const ASSET: &str = "select asset_id from directory.assets order by asset_id limit 1";
const ASSETS: &str =
    "select array_agg(asset_id) from (select asset_id from directory.assets order by asset_id limit 100) ids";
const FEW_ASSETS: &str =
    "select array_agg(asset_id) from (select asset_id from directory.assets order by asset_id limit 3) ids";
const SYMBOL: &str = "select symbol from directory.symbols order by symbol limit 1";
const INVESTOR: &str = "select investor_id from directory.investors order by investor_id limit 1";
const INVESTORS: &str = "select array_agg(investor_id) from (select investor_id from directory.portfolios order by portfolio_id limit 100) ids";
const NAMES: &str = "select array_agg(name) from (select name from directory.portfolios order by portfolio_id limit 100) names";
const EMAILS: &str = "select array_agg(email) from (select email from public.investor_details order by investor_id limit 100) emails";
const SHARPE: &str = "select coalesce(max(sharpe), 0) from risk.portfolio_risks";
const JOB: &str = "select job_id from jobs.jobs order by job_id limit 1";
const RUN: &str =
    "select run_id from jobs.runs where run_id is not null order by job_id, scheduled_position limit 1";
const RUNS: &str = "select array_agg(run_id) from (select run_id from jobs.runs order by job_id, scheduled_position limit 100) ids";
const PORTFOLIO: &str = "select portfolio_id from directory.portfolios order by portfolio_id limit 1";

/// What lists of portfolios are asked: all, one way and the other, and by the filters that people use.
const LISTS: &[Case] = &[
    ("up", &["null", "null", "null", "null", "null", "null", "null", "null", "null", "1", "51"]),
    ("down", &["null", "null", "null", "null", "null", "null", "null", "null", "null", "-1", "51"]),
    ("high band", &["null", "null", "0.25", "null", "null", "null", "null", "null", "null", "-1", "51"]),
    (
        "best Sharpe ratio",
        &["null", "null", "null", "null", SHARPE, "null", "null", "null", "null", "-1", "51"],
    ),
    (
        "of an investor",
        &[INVESTOR, "null", "null", "null", "null", "null", "null", "null", "null", "1", "51"],
    ),
    ("the rest", &["null", "null", "null", "null", "null", "null", "null", "null", "null", "0", "51"]),
];

impl Statement {
    /// Whether a person means it: by its name, or by its read model's.
    pub(super) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.name.split_once('/').is_some_and(|(read_model, _)| read_model == name)
    }

    /// The schema that the statement means where it names none. Those of every read model are tried in one.
    pub(super) fn read_model(&self) -> &'static str {
        self.name.split_once('/').map_or("holdings", |(read_model, _)| read_model)
    }

    /// Whether it may be run to be explained.
    pub(super) fn only_reads(&self) -> bool {
        let words = self.sql.lines().map(|line| line.split("--").next().unwrap_or_default());
        let words: Vec<&str> = words.flat_map(str::split_whitespace).collect();
        !words.iter().any(|word| ["insert", "update", "delete"].contains(word))
    }

    /// The kinds of parameters that it is tried with.
    pub(super) fn cases(&self) -> &'static [Case] {
        match self.name {
            name if name.starts_with("directory/list_portfolios_by_") => LISTS,
            "activity/list_activities" => {
                &[("", &[PORTFOLIO, "null", "null", "null", "null", "null", "null", "51"])]
            }
            "directory/find_asset" => &[("by id", &[ASSET, "null"]), ("by symbol", &["null", SYMBOL])],
            "directory/find_investor" => &[("", &[INVESTOR])],
            "directory/find_investors_by_email" => &[("", &[EMAILS])],
            "directory/find_portfolios_by_name" => &[("", &[INVESTORS, NAMES])],
            "directory/list_assets" => &[("", &["null", "null", "null", "null", "51"])],
            "directory/list_earnings" => &[("", &[ASSET, "null", "null", "null", "51"])],
            "directory/list_investors" => &[("", &["null", "51"]), ("the next page", &[INVESTOR, "51"])],
            "directory/update_assets" => &[("", &[ASSETS])],
            "jobs/find_run" => &[("", &[JOB, RUN])],
            "jobs/list_failed_runs" => &[("", &["null", "51"])],
            "jobs/list_idle_leases" | "jobs/list_places" => &[("", &["array[33, 34]"])],
            "jobs/list_jobs" => &[("all", &["null", "null", "51"]), ("one", &[JOB, "null", "1"])],
            "jobs/list_runs" | "jobs/list_running_runs" => &[("", &[JOB, "null", "51"])],
            "jobs/list_runs_in_state" => &[
                ("those that failed", &[JOB, "'failed'", "null", "51"]),
                ("those that finished", &[JOB, "'finished'", "null", "51"]),
            ],
            "jobs/list_waiting_runs" => &[("", &["5", "16"])],
            "jobs/load_jobs" => &[("", &["select array_agg(job_id) from jobs.jobs"])],
            "jobs/load_runs" => &[("", &[RUNS])],
            "prices/find_named_assets" => &[("", &["array['A1', 'A2']"])],
            "prices/list_series_places" => &[("", &[ASSETS])],
            "prices/list_held_of_assets" => &[("", &[FEW_ASSETS])],
            "prices/list_held_prices" => &[("", &["'waiting'", "0", "51"])],
            "prices/list_series_closes" => &[("", &[ASSET, "'exchange'", "'2024-02-01'", "'2024-05-01'"])],
            "prices/delete_asset" | "prices/list_sources" => &[("", &[ASSET])],
            "prices/delete_closes" => &[("", &[ASSETS])],
            "prices/list_closes" => &[("", &[ASSET, "null", "null", "null", "51"])],
            "prices/list_model_closes" => &[("", &["860"])],
            "valuations/load_book" => &[("by id", &["", "'{}'"]), ("by shard", &["'{}'", "array[3]"])],
            "prices/list_recent_closes" => &[("", &["251"])],
            _ => &[("", &[])],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    #[test]
    fn every_statement_is_in_the_list() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("projections");
        let mut found = BTreeSet::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|it| it == "sql")
                    && !matches!(path.file_stem().unwrap().to_str(), Some("schema" | "checkpoints"))
                {
                    let name = path.strip_prefix(&root).unwrap().with_extension("");
                    found.insert(name.to_str().unwrap().replace('\\', "/"));
                }
            }
        }
        let listed: BTreeSet<_> = STATEMENTS.iter().map(|statement| statement.name.to_owned()).collect();
        assert_eq!(
            found, listed,
            "the list of src/roles/explain/statements.rs is not the folder projections"
        );
    }

    #[test]
    fn leave_is_given_to_statements_and_kinds_that_there_are() {
        for leave in LEAVE {
            let statement = STATEMENTS.iter().find(|statement| statement.name == leave.statement);
            let cases = statement.map(Statement::cases).unwrap_or_default();
            assert!(cases.iter().any(|(case, _)| *case == leave.case), "{} {}", leave.statement, leave.case);
        }
    }

    #[test]
    fn what_writes_is_told_from_what_reads() {
        let only_reads =
            |name: &str| STATEMENTS.iter().find(|statement| statement.name == name).unwrap().only_reads();
        assert!(only_reads("directory/find_asset") && only_reads("holdings/load_lots"));
        for writes in ["prices/delete_asset", "advance_checkpoints", "lock_checkpoint", "risk/upsert_risks"] {
            assert!(!only_reads(writes), "{writes}");
        }
    }
}
