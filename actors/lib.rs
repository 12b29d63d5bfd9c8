//! The Greenroom product: one module a feature.

pub mod orders;
