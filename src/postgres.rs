//! Connections to PostgreSQL, and the private server of the embedded form.
