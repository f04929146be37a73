//! Volatility of today's holdings over the model window, annualised.
//!
//! σ = s·√d: s the sample standard deviation (n − 1) of the daily returns the holdings would have had, d trading
//! days a year. Bodie, Kane, Marcus, *Investments*, section 5.4.

/// Annualised volatility of daily `returns` as a fraction; `None` for fewer than two.
pub fn annualized(returns: &[f64], days_per_year: f64) -> Option<f64> {
    standard_deviation(returns).map(|s| s * days_per_year.sqrt())
}

/// Arithmetic mean; `None` of nothing.
pub fn mean(returns: &[f64]) -> Option<f64> {
    (!returns.is_empty()).then(|| returns.iter().fold(0.0, |sum, r| sum + r) / returns.len() as f64)
}

/// Sample standard deviation, in two passes because the one-pass formula cancels.
pub fn standard_deviation(returns: &[f64]) -> Option<f64> {
    let mean = mean(returns).filter(|_| returns.len() >= 2)?;
    let squares = returns.iter().fold(0.0, |sum, r| sum + (r - mean) * (r - mean));
    Some((squares / (returns.len() - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns of 1, 2, 3, 4 %: s² = 5/3 %², annualised by 252: √420 % = 20.4939…%.
    #[test]
    fn four_returns_by_hand() {
        let sigma = annualized(&[0.01, 0.02, 0.03, 0.04], 252.0).unwrap();
        assert!((sigma - 420f64.sqrt() / 100.0).abs() < 1e-15);
    }

    #[test]
    fn one_return_has_no_volatility() {
        assert_eq!(annualized(&[0.01], 252.0), None);
        assert_eq!(annualized(&[], 252.0), None);
        assert_eq!(annualized(&[0.0, 0.0], 252.0), Some(0.0));
    }
}
