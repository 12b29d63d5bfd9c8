//! HTTP in, command or answer out.
