//! Numerics of risk. Pure.
