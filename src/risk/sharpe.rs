//! Sharpe ratio of today's holdings over the model window.
//!
//! (mean daily return × d − risk-free rate a year) / annualised volatility. Sharpe, *The Sharpe ratio*, Journal of
//! Portfolio Management 21 (1994), with arithmetic means.

use super::volatility;

/// The ratio; `None` where there is no volatility to divide by.
pub fn ratio(returns: &[f64], risk_free_annual: f64, days_per_year: f64) -> Option<f64> {
    let sigma = volatility::annualized(returns, days_per_year).filter(|sigma| *sigma > 0.0)?;
    let mean = volatility::mean(returns)? * days_per_year;
    Some((mean - risk_free_annual) / sigma).filter(|ratio| ratio.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean 2.5 % a day, s² = 5/3 %²: 0.025·252 / √0.042 = 30.7409; a risk-free 63 % takes a tenth of it.
    #[test]
    fn four_returns_by_hand() {
        let returns = [0.01, 0.02, 0.03, 0.04];
        let exact = 6.3 / 0.042f64.sqrt();
        assert!((ratio(&returns, 0.0, 252.0).unwrap() - exact).abs() < 1e-12);
        assert!((ratio(&returns, 0.63, 252.0).unwrap() - 0.9 * exact).abs() < 1e-12);
    }

    #[test]
    fn without_volatility_there_is_no_ratio() {
        assert_eq!(ratio(&[0.0, 0.0], 0.0, 252.0), None);
        assert_eq!(ratio(&[0.01], 0.0, 252.0), None);
    }
}
