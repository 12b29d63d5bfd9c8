//! The one place that knows which store and which gateway there are.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    backend::{Backend, cluster::Cluster, embedded::Embedded},
    config::{Config, Kind},
    error::{Error, Result},
    feature::Feature,
    gateway::{
        Gateway,
        limits::{self, Identify},
        server,
    },
    runtime::node::Node,
};

/// The embedded store's file in its data directory.
pub(crate) const STORE_FILE: &str = "greenroom.db";

/// The store that the configuration names.
pub(crate) struct Store {
    backend: Arc<dyn Backend>,
}

impl Store {
    pub(crate) fn backend(&self) -> Arc<dyn Backend> {
        self.backend.clone()
    }

    /// Lets go of the store when the threads that used it have, so that whoever opens it next
    /// finds it free. After the system has ended: its threads end a moment later than they are told.
    pub(super) fn close(self) {
        let began = Instant::now();
        // A handler that never returns keeps its thread, and must not keep the process.
        while Arc::strong_count(&self.backend) > 1 && began.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Opens the store, creating it if there is none.
pub(crate) fn open(config: &Config) -> Result<Store> {
    let backend: Arc<dyn Backend> = match config.store.kind {
        Kind::Embedded => {
            let embedded = Embedded::open(&config.store.data, config.store.embedded());
            Arc::new(embedded.map_err(|e| named(e, &config.store.data))?)
        }
        Kind::Cluster => Arc::new(Cluster::open(config.store.cluster())?),
    };
    Ok(Store { backend })
}

/// Opens an existing store only to read it.
pub(crate) fn inspect(config: &Config) -> Result<Arc<dyn Backend>> {
    Ok(match config.store.kind {
        Kind::Embedded => {
            let data = &config.store.data;
            Arc::new(Embedded::inspect(data).map_err(|e| named(e, data))?)
        }
        Kind::Cluster => Arc::new(Cluster::inspect(config.store.cluster())?),
    })
}

/// Whatever is wrong with a store, the file that it is wrong with is named.
fn named(error: Error, data: &Path) -> Error {
    let file = data.join(STORE_FILE).display().to_string();
    if error.to_string().contains(&data.display().to_string()) {
        error
    } else {
        error.context(format!("opening {file}"))
    }
}

/// Starts the gateway in front of `node`, and tells its address as others on this machine reach it. The other nodes
/// are told before it serves: a client that finds it ready finds it among the nodes as well.
pub(super) async fn gateway(
    node: &Node,
    features: &[Feature],
    config: &Config,
    identify: Option<Identify>,
) -> Result<(Gateway, String)> {
    let admin_token = config.admin.token.as_ref().map(|token| token.reveal().to_owned());
    let mut settings = config.gateway.settings(admin_token, config.drain.deadline);
    settings.limits = limits::Settings { identify, ..config.limits.gateway() };
    settings.check()?;
    let listener = server::bind(settings.listen)?;
    let url = format!("http://{}", reachable(listener.local_addr()?));
    node.announce(&url).await?;
    Ok((Gateway::serve(listener, node.clone(), features, settings)?, url))
}

/// Every interface is no address to connect to; loopback is one of them.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
