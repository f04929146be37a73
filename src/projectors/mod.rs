//! Feed to read models.
