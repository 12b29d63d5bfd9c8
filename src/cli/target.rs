//! What a command works on: a running server, or the store itself when no server has it open.

use std::{future::Future, path::PathBuf, sync::Arc};

use clap::Args;

use super::{Context, http::Server, trouble::Trouble};
use crate::{
    app::{Presence, inspect, open},
    backend::Backend,
    config::{Config, Kind},
    error::{Error, Result},
};

/// Where the thing asked about is.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Place {
    /// Data directory; its running server is found by itself
    #[arg(long, global = true, value_name = "DIR", help_heading = "Where")]
    pub(crate) data: Option<PathBuf>,
    /// URL of a running server, such as http://127.0.0.1:8080
    #[arg(long, global = true, value_name = "URL", env = "GREENROOM_SERVER", help_heading = "Where")]
    pub(crate) server: Option<String>,
}

/// A server or a store.
pub(crate) enum Target {
    /// A server that answers.
    Server(Server),
    /// No server runs: the store can be opened.
    Store(Box<Offline>),
}

/// A data directory that no server serves.
pub(crate) struct Offline {
    config: Config,
}

impl Place {
    /// Overrides `[store] data`, as a flag.
    pub(crate) fn flags(&self) -> Vec<(&'static str, &'static str, &'static str, String)> {
        let data = self.data.as_ref().map(|data| ("--data", "store", "data", data.display().to_string()));
        data.into_iter().collect()
    }

    /// What a command that needs no more than that works on.
    pub(super) fn target(&self, cx: &Context) -> Result<Target, Trouble> {
        let (config, _) = cx.load(self.flags())?;
        self.resolve(config)
    }

    /// The server that was named, else the one that serves the data directory, else the store.
    pub(crate) fn resolve(&self, config: Config) -> Result<Target, Trouble> {
        let token = config.admin.token.as_ref().map(|token| token.reveal().to_owned());
        if let Some(url) = &self.server {
            let url = if url.contains("://") { url.clone() } else { format!("http://{url}") };
            return Ok(Target::Server(Server::new(&url, token)));
        }
        let data = &config.store.data;
        if config.store.kind == Kind::Embedded
            && let Some(Presence { pid, listen }) = Presence::find(data)
        {
            match listen.map(|url| Server::new(&url, token)) {
                Some(server) if server.answers() => return Ok(Target::Server(server)),
                // Left behind by a process that was killed, most likely. Opening the store says.
                Some(_) => {}
                None if pid == std::process::id() => {}
                None => {
                    return Err(Trouble::new(format!(
                        "{} is in use by process {pid}, which serves no HTTP",
                        data.display()
                    ))
                    .help("wait until it is done, or stop it"));
                }
            }
        }
        Ok(Target::Store(Box::new(Offline { config })))
    }
}

impl Offline {
    pub(crate) fn config(self) -> Config {
        self.config
    }

    fn check(&self) -> Result<(), Trouble> {
        let data = &self.config.store.data;
        if data.is_dir() || self.config.store.kind == Kind::Cluster {
            return Ok(());
        }
        Err(Trouble::new(format!("no server is named, and there is no data directory {}", data.display()))
            .help("name one with --data DIR, or a running server with --server URL"))
    }

    /// Works on the store without changing it.
    pub(crate) fn read<T, F: Future<Output = Result<T>>>(
        &self,
        work: impl FnOnce(Arc<dyn Backend>) -> F,
    ) -> Result<T, Trouble> {
        self.check()?;
        let backend = inspect(&self.config)?;
        wait(work(backend))
    }

    /// Works on the store as its only owner.
    pub(crate) fn write<T, F: Future<Output = Result<T>>>(
        &self,
        work: impl FnOnce(Arc<dyn Backend>) -> F,
    ) -> Result<T, Trouble> {
        self.check()?;
        let store = open(&self.config)?;
        wait(work(store.backend()))
    }
}

/// Waits for work on a store, outside of any system.
pub(crate) fn wait<T>(work: impl Future<Output = Result<T>>) -> Result<T, Trouble> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::from(e).context("starting a runtime"))?;
    Ok(runtime.block_on(work)?)
}
