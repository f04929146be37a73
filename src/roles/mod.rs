//! What `insight <role>` starts.
