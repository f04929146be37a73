//! Filtered historical simulation, the headline: past days as they would be at tonight's volatility.
//!
//! Scenario s of a column is r_s / σ_s × σ_tonight, with σ² the exponentially weighted forecast of the evening
//! before: σ²_t = λσ²_{t−1} + (1 − λ)r²_{t−1}, λ = 0.94 (J.P. Morgan, *RiskMetrics technical document*, 1996; Hull
//! and White, *Incorporating volatility updating into the historical simulation method*, Journal of Risk 1, 1998).
//! All columns of one date stay together, so the dependence between them is that of the day.
//!
//! σ²_0 is the mean square of the first min(250, n) returns. It has seen these returns, so no scenario is made of
//! them: a forecast must not know what it forecasts.

use super::scenarios::Scenarios;

/// λ: the weight of yesterday's variance.
const DECAY: f64 = 0.94;
/// Returns that only start the recursion.
const WARM_UP: usize = 250;

/// The scenarios, and the columns in which some day's forecast was 0 (their return is then 0).
#[derive(Debug, Clone, PartialEq)]
pub struct Filtered {
    /// n − min(250, n) scenarios.
    pub scenarios: Scenarios,
    /// Per column, whether a σ of 0 occurred.
    pub zero_volatility: Vec<bool>,
}

/// Of a window of returns; `columns` are equally long, oldest return first.
pub fn scenarios(window: usize, columns: &[Vec<f64>]) -> Filtered {
    let (filtered, zero_volatility): (Vec<_>, Vec<_>) = columns.iter().map(|column| filter(column)).unzip();
    let scenarios = Scenarios::from_columns(window - window.min(WARM_UP), &filtered);
    Filtered { scenarios, zero_volatility }
}

fn filter(returns: &[f64]) -> (Vec<f64>, bool) {
    let warm_up = returns.len().min(WARM_UP);
    let mut variance = returns[..warm_up].iter().map(|r| r * r).sum::<f64>() / warm_up.max(1) as f64;
    let mut forecasts = Vec::with_capacity(returns.len());
    for r in returns {
        forecasts.push(variance.sqrt());
        variance = DECAY * variance + (1.0 - DECAY) * r * r;
    }
    let tonight = variance.sqrt();
    let days = returns[warm_up..].iter().zip(&forecasts[warm_up..]);
    let scaled = days.map(|(r, sigma)| if *sigma == 0.0 { 0.0 } else { r / sigma * tonight }).collect();
    (scaled, tonight == 0.0 || forecasts[warm_up..].contains(&0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 250 returns of ±1 %, then +2 %, then +1 %. σ_250 = 1 %; σ²_251 = 0.94·1 + 0.06·4 = 1.18;
    /// tonight 0.94·1.18 + 0.06·1 = 1.1692 (all in %²).
    #[test]
    fn two_days_after_the_warm_up_by_hand() {
        let mut returns: Vec<f64> = (0..250).map(|i| if i % 2 == 0 { 0.01 } else { -0.01 }).collect();
        returns.extend([0.02, 0.01]);
        let filtered = scenarios(252, &[returns]);
        let tonight = 1.1692f64.sqrt() / 100.0;
        let expected = [2.0 * tonight, 1.0 / 1.18f64.sqrt() * tonight];
        let got = filtered.scenarios.returns(0, 0);
        assert_eq!(got.len(), 2);
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-15, "{got} {expected}");
        }
        assert_eq!(filtered.zero_volatility, [false]);
    }

    #[test]
    fn constant_volatility_changes_nothing() {
        let returns: Vec<f64> = (0..400).map(|i| if i % 3 == 0 { 0.01 } else { -0.01 }).collect();
        let filtered = scenarios(400, std::slice::from_ref(&returns));
        for (got, r) in filtered.scenarios.returns(0, 0).iter().zip(&returns[250..]) {
            assert!((got - r).abs() < 1e-15);
        }
    }

    #[test]
    fn a_forecast_of_zero_gives_zero_and_is_named() {
        let mut late = vec![0.0; 300];
        late[260] = 0.05;
        let filtered = scenarios(300, &[vec![0.0; 300], late]);
        assert_eq!(filtered.zero_volatility, [true, true]);
        assert!(filtered.scenarios.returns(0, 0).iter().all(|r| *r == 0.0));
        assert_eq!(filtered.scenarios.returns(0, 1)[10], 0.0, "0.05 / 0 is no return");
    }

    #[test]
    fn a_window_of_the_warm_up_has_no_scenario() {
        assert!(scenarios(250, &[vec![0.01; 250]]).scenarios.is_empty());
        assert!(scenarios(0, &[vec![]]).scenarios.is_empty());
    }
}
