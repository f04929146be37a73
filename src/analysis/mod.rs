//! Market model from closes, a portfolio's figures from a model.
