//! A believable history from real prices.
