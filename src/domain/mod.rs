//! What is true about portfolios. Pure.
