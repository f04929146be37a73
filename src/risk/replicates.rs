//! The interval of a Monte Carlo figure, from the figures of its 16 independent batches.
//!
//! Pooled figure ± t₁₅(97.5 %) · s / √16, s their sample standard deviation: the error of the simulation, whatever
//! the figure is. It says nothing about the error of the model.

/// Independent batches of a simulation.
pub const BATCHES: usize = 16;

/// 97.5 % point of Student's t with 15 degrees of freedom.
const T15: f64 = 2.131_449_545_559_323;

/// (low, high) about `pooled`; none if the batches have no figures of their own.
pub fn interval(pooled: f64, figures: Option<impl Iterator<Item = f64>>) -> (Option<f64>, Option<f64>) {
    let Some(figures) = figures else { return (None, None) };
    let figures: Vec<f64> = figures.collect();
    assert_eq!(figures.len(), BATCHES, "the t quantile is that of 16 batches");
    let n = BATCHES as f64;
    let mean = figures.iter().sum::<f64>() / n;
    let squares: f64 = figures.iter().map(|figure| (figure - mean) * (figure - mean)).sum();
    let half = T15 * (squares / (n - 1.0)).sqrt() / n.sqrt();
    (Some(pooled - half), Some(pooled + half))
}

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::distribution::{ContinuousCDF, StudentsT};

    #[test]
    fn the_quantile_is_that_of_student_with_fifteen_degrees_of_freedom() {
        let t = StudentsT::new(0.0, 1.0, (BATCHES - 1) as f64).unwrap();
        assert!((t.cdf(T15) - 0.975).abs() < 1e-12);
    }

    #[test]
    fn equal_figures_leave_no_error() {
        assert_eq!(interval(3.0, Some([3.0; 16].into_iter())), (Some(3.0), Some(3.0)));
        assert_eq!(interval(3.0, None::<std::iter::Empty<f64>>), (None, None));
    }
}
