//! The report as tables that a person likes to read: what is held, what it is worth, what it may lose, and where to look.
//!
//! Reads the answers of the API as a client would: by the fields it needs. What is missing shows as `–`.

use std::fmt::Write;

use rust_decimal::Decimal;
use serde_json::Value;

use super::report::{PortfolioReport, Report};
use super::table::{Side, Table, number, signed};
use crate::domain::portfolio::event::{CashMode, CostBasis};

const ABSENT: &str = "–";
/// Decimals of money and of prices.
const CENTS: u32 = 2;
const PRICE_DECIMALS: u32 = 3;

/// The whole report, ready to print.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    for portfolio in &report.portfolios {
        let _ = writeln!(text, "\n{}\n{}", heading(portfolio), holdings(portfolio));
        let _ = write!(text, "{}", risk(portfolio));
    }
    let _ = writeln!(text, "\n{}\n  {}\n\n{}", steps(report), report.prices.credit, where_to_look(report));
    text
}

fn heading(portfolio: &PortfolioReport) -> String {
    let settings = &portfolio.settings;
    let cost_basis = match settings.cost_basis {
        CostBasis::Fifo => "first in, first out",
        CostBasis::Lifo => "last in, first out",
        CostBasis::Hifo => "highest cost first",
        CostBasis::Average => "average cost",
    };
    let fees = if settings.fees_in_cost { "fees in cost" } else { "fees apart" };
    let cash = if settings.cash == CashMode::Tracked { "cash tracked" } else { "cash not tracked" };
    let facts = number(portfolio.facts.into(), 0);
    let title = format!("{} · {}", portfolio.investor, portfolio.name);
    format!(
        "━━ {title} {}\n   {cost_basis}, {fees}, {cash}; {facts} facts; {}\n",
        "━".repeat(100_usize.saturating_sub(title.chars().count() + 4)),
        portfolio.portfolio_id
    )
}

/// What is held and what it is worth, dearest first; then cash and totals.
fn holdings(portfolio: &PortfolioReport) -> String {
    let mut table = Table::new(&[
        ("asset", Side::Left),
        ("lots", Side::Right),
        ("quantity", Side::Right),
        ("average cost", Side::Right),
        ("price", Side::Right),
        ("market value", Side::Right),
        ("unrealized gain", Side::Right),
        ("realized gain", Side::Right),
        ("weight", Side::Right),
    ]);
    let valuation = &portfolio.valuation;
    let held = list(&portfolio.holdings["holdings"]);
    let (open, closed): (Vec<&Value>, Vec<&Value>) =
        held.iter().partition(|holding| decimal(&holding["quantity"]).is_some_and(|units| !units.is_zero()));
    let values = list(&valuation["holdings"]);
    let value_of = |holding: &Value| values.iter().find(|value| value["symbol"] == holding["symbol"]);
    let mut rows: Vec<(&Value, &Value)> =
        open.into_iter().map(|holding| (holding, value_of(holding).unwrap_or(&Value::Null))).collect();
    rows.sort_by_key(|(_, value)| std::cmp::Reverse(decimal(&value["market_value"])));

    for (holding, value) in rows {
        table.row([
            text(&holding["symbol"]),
            number(list(&holding["lots"]).len().into(), 0),
            amount(&holding["quantity"], 0),
            amount(&holding["average_cost"], PRICE_DECIMALS),
            amount(&value["price"], PRICE_DECIMALS),
            amount(&value["market_value"], CENTS),
            gain(&value["unrealized_gain"]),
            gain(&holding["realized_gain"]),
            percent(decimal(&value["weight"])),
        ]);
    }
    if !closed.is_empty() {
        let realized: Decimal = closed.iter().filter_map(|holding| decimal(&holding["realized_gain"])).sum();
        let mut row = vec![String::new(); 9];
        row[0] = format!("{} sold out", closed.len());
        row[7] = signed(realized, CENTS);
        table.row(row);
    }
    table.rule();
    let totals = &valuation["totals"];
    let total_row = |name: &str, value: String, gain: String| {
        [name.into(), String::new(), String::new(), String::new(), String::new(), value, gain]
    };
    let realized: Decimal = held.iter().filter_map(|holding| decimal(&holding["realized_gain"])).sum();
    let mut all = total_row(
        "holdings",
        amount(&totals["market_value_base"], CENTS),
        gain(&totals["unrealized_gain_base"]),
    )
    .to_vec();
    all.push(signed(realized, CENTS));
    table.row(all);
    for cash in list(&portfolio.holdings["cash"]) {
        table.row(total_row(
            &format!("cash {}", text(&cash["currency"])),
            amount(&cash["balance"], CENTS),
            String::new(),
        ));
    }
    table.row(total_row("total", amount(&totals["total_value_base"], CENTS), String::new()));
    let mut shown = table.to_string();
    for unpriced in list(&valuation["unpriced"]) {
        let _ = writeln!(shown, "  without a price: {unpriced}");
    }
    shown
}

/// What may be lost in a day, by three methods, each with its interval.
fn risk(portfolio: &PortfolioReport) -> String {
    let risk = &portfolio.risk;
    let methods = list(&risk["figures"]["methods"]);
    if methods.is_empty() {
        return format!("  no risk yet: {risk}\n");
    }
    let count = |value: &Value| value.as_u64().map_or(ABSENT.into(), |n| number(n.into(), 0));
    let mut table = Table::new(&[
        ("what a day may lose", Side::Left),
        ("scenarios", Side::Right),
        ("VaR 95 %", Side::Right),
        ("VaR 99 %", Side::Right),
        ("ES 97.5 %", Side::Right),
    ]);
    let columns = ["var_95", "var_99", "es_975"].map(|field| with_intervals(methods, field));
    for (row, method) in methods.iter().enumerate() {
        let figures = columns.iter().map(|column| column[row].clone());
        table.row([method_name(method), count(&method["scenarios"])].into_iter().chain(figures));
    }
    let seed = methods.iter().find_map(|method| method["seed"].as_u64());
    let statistic = |field: &str| risk["figures"][field].as_f64().and_then(exact);
    format!(
        "{table}  in {}, with 95 % intervals; of today's holdings over {} trading days, up to market position {}; seed {}\n  \
         volatility {} a year, Sharpe ratio {} (risk-free {}); covers {} of the holdings\n",
        text(&risk["base_currency"]),
        count(&methods[0]["window"]),
        count(&risk["model_cut"]),
        seed.map_or(ABSENT.into(), |seed| seed.to_string()),
        percent(statistic("volatility_annualized")),
        statistic("sharpe").map_or(ABSENT.into(), |ratio| number(ratio, 2)),
        percent(statistic("risk_free")),
        percent(statistic("coverage")),
    )
}

fn method_name(method: &Value) -> String {
    match (method["method"].as_str(), method["degrees_of_freedom"].as_f64()) {
        (Some("filtered_historical"), _) => "filtered historical".into(),
        (Some("monte_carlo"), Some(degrees)) => format!("Monte Carlo, t({degrees})"),
        (Some(other), _) => other.replace('_', " "),
        (None, _) => ABSENT.into(),
    }
}

fn steps(report: &Report) -> String {
    let mut table = Table::new(&[
        ("step", Side::Left),
        ("count", Side::Right),
        ("seconds", Side::Right),
        ("a second", Side::Right),
    ]);
    for step in &report.steps {
        let per_second = exact(step.per_second).map_or(ABSENT.into(), |rate| number(rate, 0));
        let seconds = exact(step.seconds).map_or(ABSENT.into(), |seconds| number(seconds, 2));
        table.row([step.what.into(), number(step.count.into(), 0), seconds, per_second]);
    }
    table.rule();
    let seconds = exact(report.seconds).map_or(ABSENT.into(), |seconds| number(seconds, 2));
    table.row(["all of it".into(), String::new(), seconds]);
    table.to_string()
}

/// Addresses that work as they stand.
fn where_to_look(report: &Report) -> String {
    let base = &report.base_url;
    let Some(portfolio) = report.portfolios.first() else {
        return format!("Where to look\n\n  {base}/docs\n");
    };
    let id = &portfolio.portfolio_id;
    format!(
        "Where to look\n\n  {base}/docs\n  curl {base}/v1/portfolios\n  curl {base}/v1/portfolios/{id}/valuation\n  \
         curl {base}/v1/portfolios/{id}/risk\n"
    )
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or(ABSENT).to_owned()
}

/// Amounts are strings in the API's answers.
fn decimal(value: &Value) -> Option<Decimal> {
    value.as_str()?.parse().ok()
}

/// A statistic, which is a number in the API's answers, good enough to be rounded for show.
fn exact(statistic: f64) -> Option<Decimal> {
    Decimal::try_from(statistic).ok()
}

fn amount(value: &Value, decimals: u32) -> String {
    decimal(value).map_or(ABSENT.into(), |value| number(value, decimals))
}

fn gain(value: &Value) -> String {
    decimal(value).map_or(ABSENT.into(), |value| signed(value, CENTS))
}

/// A figure of each method and its interval, `2,400 (2,160 … 2,655)`, so that the figures stand below each other.
fn with_intervals(methods: &[Value], field: &str) -> Vec<String> {
    let interval = |figure: &Value| format!("({} … {})", money(&figure["low"]), money(&figure["high"]));
    let cells = methods.iter().map(|method| (money(&method[field]["value"]), interval(&method[field])));
    let cells: Vec<(String, String)> = cells.collect();
    let width = cells.iter().map(|(_, interval)| interval.chars().count()).max().unwrap_or(0);
    cells.into_iter().map(|(figure, interval)| format!("{figure} {interval:>width$}")).collect()
}

/// A figure of risk, in whole units.
fn money(value: &Value) -> String {
    value.as_f64().and_then(exact).map_or(ABSENT.into(), |value| number(value, 0))
}

fn percent(share: Option<Decimal>) -> String {
    share.map_or(ABSENT.into(), |share| format!("{} %", number(share * Decimal::ONE_HUNDRED, 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::report::{Prices, Step};
    use crate::demo::styles::style;
    use serde_json::json;
    use std::time::Duration;

    fn report() -> Report {
        let method = |name: &str, scale: f64| {
            let figure = |value: f64| json!({ "value": value * scale, "low": value * scale * 0.9, "high": null, "k": 3 });
            json!({
                "method": name, "window": 1000, "scenarios": 750,
                "var_95": figure(2_400.0), "var_99": figure(4_100.5), "es_975": figure(4_400.0),
            })
        };
        let mut monte_carlo = method("monte_carlo", 0.95);
        monte_carlo["seed"] = 0.into();
        monte_carlo["degrees_of_freedom"] = 5.0.into();
        let portfolio = PortfolioReport {
            portfolio_id: "019c2d3a-5b7e-7cc1-a0d4-5f3b6c1e2a90".into(),
            name: "Retirement savings".into(),
            investor: "Demo Investor 1".into(),
            settings: style(0).settings,
            facts: 1_204,
            holdings: json!({
                "holdings": [
                    { "symbol": "KO", "quantity": "310", "average_cost": "40.25", "realized_gain": "-12.5", "lots": [{}] },
                    { "symbol": "AAPL", "quantity": "1204", "average_cost": "8.4125", "realized_gain": "1523.75", "lots": [{}, {}] },
                    { "symbol": "GE", "quantity": "0", "average_cost": null, "realized_gain": "88", "lots": [] },
                ],
                "cash": [{ "currency": "USD", "balance": "512.3" }],
            }),
            valuation: json!({
                "holdings": [
                    { "symbol": "KO", "price": "62.609", "market_value": "19408.79", "unrealized_gain": "6931.29", "weight": "0.1137" },
                    { "symbol": "AAPL", "price": "125.674", "market_value": "151311.496", "unrealized_gain": "141182.85", "weight": "0.8863" },
                ],
                "totals": { "market_value_base": "170720.286", "unrealized_gain_base": "148114.14", "total_value_base": "171232.586" },
                "unpriced": [],
            }),
            risk: json!({
                "base_currency": "USD", "model_cut": 166_223,
                "figures": {
                    "methods": [method("filtered_historical", 1.0), method("historical", 1.1), monte_carlo],
                    "volatility_annualized": 0.2712, "sharpe": 0.913, "risk_free": 0.0, "coverage": 1.0,
                },
            }),
        };
        Report {
            base_url: "http://127.0.0.1:8080".into(),
            run: "first".into(),
            seed: 1,
            seconds: 9.5,
            steps: vec![Step::new("closes", 166_200, Duration::from_millis(2_500))],
            portfolios: vec![portfolio],
            prices: Prices::SHIPPED,
        }
    }

    #[test]
    fn a_report_is_a_pleasure_to_read() {
        insta::assert_snapshot!(render(&report()));
    }

    #[test]
    fn what_is_missing_shows_as_missing() {
        let mut report = report();
        report.portfolios[0].valuation = Value::Null;
        report.portfolios[0].risk = Value::Null;
        let text = render(&report);
        assert!(text.contains("no risk yet") && text.contains(ABSENT), "{text}");
    }
}
