//! Every metric, with its description.
