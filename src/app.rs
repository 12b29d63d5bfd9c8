//! From features to a running product: the entry point of every program built on Greenroom.

use std::path::PathBuf;

use crate::{error::Result, feature::Feature, runtime::node::Node};

/// A product: features on a store.
pub struct App {
    data: PathBuf,
    features: Vec<Feature>,
}

impl App {
    /// On one local file, no servers.
    pub fn embedded(data: impl Into<PathBuf>) -> Self {
        Self { data: data.into(), features: Vec::new() }
    }

    /// Adds a feature.
    pub fn feature(mut self, feature: Feature) -> Self {
        self.features.push(feature);
        self
    }

    /// Serves until SIGTERM or SIGINT, then drains.
    pub fn run(self) -> Result<()> {
        let _ = (self.data, self.features);
        Ok(())
    }

    /// Runs `play` on a started node without HTTP, drains, and returns what `play` returned.
    pub fn run_until<T, F: Future<Output = Result<T>>>(self, play: impl FnOnce(Node) -> F) -> Result<T> {
        let _ = play;
        Err(crate::Error::new("not built yet"))
    }
}
