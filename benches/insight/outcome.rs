//! What a row came to, and how it is shown.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::load::Load;
use crate::machine::Cpu;
use crate::rows::Row;

/// A row and its figures, or why there are none.
pub struct Outcome {
    /// The row.
    pub row: &'static Row,
    /// Its figures.
    pub measured: Result<Measured, String>,
}

/// What was measured, under which conditions.
#[derive(Default)]
pub struct Measured {
    figures: Vec<(&'static str, f64, &'static str)>,
    conditions: Vec<(&'static str, Value)>,
}

impl Measured {
    /// Adds a figure with its unit.
    pub fn figure(mut self, name: &'static str, value: f64, unit: &'static str) -> Self {
        self.figures.push((name, value, unit));
        self
    }

    /// Adds something that the figures depend on.
    pub fn condition(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.conditions.push((name, value.into()));
        self
    }

    /// Adds rate and latencies of a load.
    pub fn load(self, load: &Load) -> Self {
        let mut measured = self.figure("rate", load.per_second(), "/s");
        for (name, share) in [("p50", 0.50), ("p99", 0.99)] {
            measured = measured.figure(name, load.latency_ms(share), "ms");
        }
        if load.refused > 0 {
            measured = measured.figure("refused", load.refused as f64, "");
        }
        measured
    }

    /// Adds the CPU that each of `count` events took, and by whom.
    pub fn cpu(self, cpu: Cpu, count: usize) -> Self {
        let each = |us: u64| us as f64 / count.max(1) as f64;
        let all = cpu.client_us + cpu.insight_us + cpu.postgres_us;
        let client_share = 100.0 * cpu.client_us as f64 / all.max(1) as f64;
        self.figure("CPU an event, insight", each(cpu.insight_us), "µs")
            .figure("CPU an event, PostgreSQL", each(cpu.postgres_us), "µs")
            .figure("client's share of CPU", client_share, "%")
    }
}

/// For people.
pub fn table(conditions: &Value, outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "\n{} cores, fsync {} µs, client {}\n\n",
        conditions["cores"],
        conditions["fsync_median_us"],
        conditions["client"].as_str().unwrap_or_default()
    );
    for Outcome { row, measured } in outcomes {
        let _ = writeln!(text, "{} · {}", row.name, row.what);
        let _ = writeln!(text, "    {:<28} {}", "goal: first", row.first);
        let _ = writeln!(text, "    {:<28} {}", "goal: final", row.last);
        match measured {
            Ok(measured) => {
                for (name, value, unit) in &measured.figures {
                    let _ = writeln!(text, "    {name:<28} {:>14} {unit}", readable(*value));
                }
                let conditions = measured.conditions.iter();
                let conditions: Vec<String> =
                    conditions.map(|(name, value)| format!("{name} {value}")).collect();
                let _ = writeln!(text, "    {}\n", conditions.join(" · "));
            }
            Err(error) => {
                let _ = writeln!(text, "    not measured: {error}\n");
            }
        }
    }
    text
}

/// For programs.
pub fn json(conditions: &Value, outcomes: &[Outcome]) -> Value {
    let rows = outcomes.iter().map(|Outcome { row, measured }| {
        let mut document =
            json!({ "row": row.name, "what": row.what, "first": row.first, "final": row.last });
        match measured {
            Ok(measured) => {
                let figures = measured.figures.iter();
                document["figures"] = figures
                    .map(|(name, value, unit)| json!({ "name": name, "value": value, "unit": unit }))
                    .collect();
                let conditions = measured.conditions.iter();
                document["conditions"] = Value::Object(
                    conditions.map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
                );
            }
            Err(error) => document["error"] = error.as_str().into(),
        }
        document
    });
    json!({ "conditions": conditions, "rows": rows.collect::<Vec<_>>() })
}

/// Three digits that matter, thousands apart.
fn readable(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) && digit.is_ascii_digit() {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if fraction.is_empty() { grouped } else { format!("{grouped}.{fraction}") }
}
