//! Historical simulation: every past day of the window is a scenario, all equally likely.
//!
//! No distribution and no correlation is assumed: assets move together as they did. It forgets which days were
//! calm; see [`super::filtered_historical`].

use super::scenarios::Scenarios;

/// Scenarios are the window's returns as they were; `columns` are equally long, oldest return first.
pub fn scenarios(window: usize, columns: &[Vec<f64>]) -> Scenarios {
    Scenarios::from_columns(window, columns)
}

#[cfg(test)]
mod tests {
    use super::super::{
        Confidence, engine,
        exposure::{Column, ExposureVector},
    };
    use super::*;

    /// Two assets of 1,000 each that move by ±5 % on the same days: together the loss of the worst day is 100; if
    /// one is turned round they cancel and it is 0. Same volatilities, so only the correlation tells them apart.
    #[test]
    fn the_value_at_risk_of_two_assets_depends_on_their_correlation() {
        let swing: Vec<f64> = (0..100).map(|i| if i % 2 == 0 { 0.05 } else { -0.05 }).collect();
        let opposite: Vec<f64> = swing.iter().map(|r| -r).collect();
        let amounts = [(Column::Risky(0), 1_000.0), (Column::Risky(1), 1_000.0)];
        let exposures = ExposureVector::new(Column::Numeraire, &amounts).unwrap();
        let value_at_risk = |other: &Vec<f64>| {
            let r = scenarios(100, &[swing.clone(), other.clone()]);
            engine::value_at_risk(&r, &exposures, Confidence::P95).unwrap().value
        };
        assert_eq!(value_at_risk(&swing), 100.0);
        assert_eq!(value_at_risk(&opposite), 0.0);
        assert_eq!(value_at_risk(&vec![0.0; 100]), 50.0);
    }
}
