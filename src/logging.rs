//! Structured logs: pretty on a terminal, JSON otherwise.
