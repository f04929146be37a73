//! The standard normal quantile.
//!
//! Wichura, *Algorithm AS 241: the percentage points of the normal distribution*, Applied Statistics 37 (1988),
//! routine PPND16: relative accuracy about 10⁻¹⁶. Own polynomials and `libm`'s logarithm, because the platform's
//! mathematics library would give other bytes on another machine; `sqrt` is exact everywhere by IEEE 754.

/// z with Φ(z) = `p`, for 0 < `p` < 1.
pub fn quantile(p: f64) -> f64 {
    let q = p - 0.5;
    if q.abs() <= 0.425 {
        let r = 0.180625 - q * q;
        return q * polynomial(&CENTRE_ABOVE, r) / polynomial(&CENTRE_BELOW, r);
    }
    let r = (-libm::log(p.min(1.0 - p))).sqrt();
    let z = if r <= 5.0 {
        polynomial(&MIDDLE_ABOVE, r - 1.6) / polynomial(&MIDDLE_BELOW, r - 1.6)
    } else {
        polynomial(&FAR_ABOVE, r - 5.0) / polynomial(&FAR_BELOW, r - 5.0)
    };
    if q < 0.0 { -z } else { z }
}

/// Horner, constant term first. Never a fused multiply-add: its bytes would depend on the machine.
fn polynomial(coefficients: &[f64; 8], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

// As printed in the article; more digits than an f64 holds.
#[allow(clippy::excessive_precision)]
const CENTRE_ABOVE: [f64; 8] = [
    3.3871328727963666080e0,
    1.3314166789178437745e2,
    1.9715909503065514427e3,
    1.3731693765509461125e4,
    4.5921953931549871457e4,
    6.7265770927008700853e4,
    3.3430575583588128105e4,
    2.5090809287301226727e3,
];
#[allow(clippy::excessive_precision)]
const CENTRE_BELOW: [f64; 8] = [
    1.0,
    4.2313330701600911252e1,
    6.8718700749205790830e2,
    5.3941960214247511077e3,
    2.1213794301586595867e4,
    3.9307895800092710610e4,
    2.8729085735721942674e4,
    5.2264952788528545610e3,
];
#[allow(clippy::excessive_precision)]
const MIDDLE_ABOVE: [f64; 8] = [
    1.42343711074968357734e0,
    4.63033784615654529590e0,
    5.76949722146069140550e0,
    3.64784832476320460504e0,
    1.27045825245236838258e0,
    2.41780725177450611770e-1,
    2.27238449892691845833e-2,
    7.74545014278341407640e-4,
];
#[allow(clippy::excessive_precision)]
const MIDDLE_BELOW: [f64; 8] = [
    1.0,
    2.05319162663775882187e0,
    1.67638483018380384940e0,
    6.89767334985100004550e-1,
    1.48103976427480074590e-1,
    1.51986665636164571966e-2,
    5.47593808499534494600e-4,
    1.05075007164441684324e-9,
];
#[allow(clippy::excessive_precision)]
const FAR_ABOVE: [f64; 8] = [
    6.65790464350110377720e0,
    5.46378491116411436990e0,
    1.78482653991729133580e0,
    2.96560571828504891230e-1,
    2.65321895265761230930e-2,
    1.24266094738807843860e-3,
    2.71155556874348757815e-5,
    2.01033439929228813265e-7,
];
#[allow(clippy::excessive_precision)]
const FAR_BELOW: [f64; 8] = [
    1.0,
    5.99832206555887937690e-1,
    1.36929880922735805310e-1,
    1.48753612908506148525e-2,
    7.86869131145613259100e-4,
    1.84631831751005468180e-5,
    1.42151175831644588870e-7,
    2.04426310338993978564e-15,
];

#[cfg(test)]
mod tests {
    use super::*;
    use statrs::distribution::{ContinuousCDF, Normal};

    /// The checks printed with the algorithm.
    #[test]
    fn published_values() {
        for (p, z) in [
            (0.25, -0.6744897501960817),
            (0.001, -3.090232306167814),
            (1e-20, -9.262340089798408),
            (0.975, 1.959963984540054),
            (0.5, 0.0),
        ] {
            assert!((quantile(p) - z).abs() <= 2e-15 * (1.0 + z.abs()), "{p}: {}", quantile(p));
        }
    }

    #[test]
    fn inverts_the_distribution_function() {
        let normal = Normal::new(0.0, 1.0).unwrap();
        for i in 1..2_000 {
            let p = f64::from(i) / 2_000.0;
            let z = quantile(p);
            let back = 0.5 * libm::erfc(-z * std::f64::consts::FRAC_1_SQRT_2);
            assert!((back - p).abs() < 1e-15, "{p} became {back}");
            // statrs is good to some eleven digits only.
            assert!((normal.cdf(z) - p).abs() < 1e-10, "{p}");
        }
    }

    #[test]
    fn is_odd_about_one_half() {
        for i in 1..512 {
            let p = f64::from(i) / 1024.0;
            assert_eq!(quantile(p), -quantile(1.0 - p));
        }
    }
}
