//! The Greenroom product: one folder a feature.

pub mod orders;

use greenroom::{Feature, Result, config::Config};

/// The configuration sections of all features, with their defaults.
pub const DEFAULTS: &str = orders::DEFAULTS;

/// All features.
pub fn features(config: &Config) -> Result<Vec<Feature>> {
    Ok(vec![orders::feature(config)?])
}
