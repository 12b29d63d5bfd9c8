//! From features to a running product: the entry point of every program built on Greenroom.
//! Whatever way it stops, what was accepted stays accepted; stopping in order only makes it quick.

mod banner;
mod limits;
mod presence;
mod stop;
#[cfg(test)]
mod tests;
mod wiring;

use std::{path::PathBuf, sync::Arc, time::Instant};

use crate::{
    backend::Backend,
    clock::Clock,
    config::{Config, Sources},
    error::{Error, Result},
    feature::Feature,
    gateway::limits::{Identify, Identity},
    logging,
    runtime::node::{Node, Start},
};

pub(crate) use {
    presence::Presence,
    wiring::{STORE_FILE, inspect, open},
};

/// A product: features on a store.
pub struct App {
    config: Result<Config>,
    features: Vec<Feature>,
    first_request: Option<String>,
    version: Option<Arc<str>>,
    identify: Option<Identify>,
}

impl App {
    /// On one local directory, no servers: `App::embedded("hello.db")` keeps everything in
    /// `hello.db/greenroom.db`. Environment variables override the defaults of `config.toml`.
    pub fn embedded(data: impl Into<PathBuf>) -> Self {
        let data = data.into().display().to_string();
        let flags = vec![("App::embedded", "store", "data", data)];
        // A bad variable is reported by whoever runs the app: this cannot fail, so chains read well.
        let config = Config::from_sources(Sources { flags, ..Sources::process() });
        Self { config, features: Vec::new(), first_request: None, version: None, identify: None }
    }

    /// As configured.
    pub fn new(config: Config) -> Self {
        Self { config: Ok(config), features: Vec::new(), first_request: None, version: None, identify: None }
    }

    /// Adds a feature.
    pub fn feature(mut self, feature: Feature) -> Self {
        self.features.push(feature);
        self
    }

    /// Which build of the product this is: journals of running commands name the one that began them.
    pub fn version(mut self, version: impl Into<Arc<str>>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// How the product tells whom a request is from, for limits of users and tenants; it must not wait. Where
    /// it says nothing, the configured headers of a trusted proxy count.
    pub fn identify(
        mut self,
        identify: impl Fn(&actix_web::HttpRequest) -> Option<Identity> + Send + Sync + 'static,
    ) -> Self {
        self.identify = Some(Identify::by(identify));
        self
    }

    /// A command to try, shown when the app has started on a terminal; `{url}` in it becomes the
    /// address of the gateway.
    pub fn first_request(mut self, command: impl Into<String>) -> Self {
        self.first_request = Some(command.into());
        self
    }

    /// Serves until SIGTERM or SIGINT, then drains: readiness fails, intake stops, running work
    /// finishes, all within `drain.deadline`. A second signal exits at once.
    pub fn run(self) -> Result<()> {
        let config = self.config?;
        logging::start(&config.log);
        limits::raise();
        let features = self.features;
        let (first, version, identify) = (self.first_request, self.version, self.identify);
        let store = open(&config)?;
        let backend = store.backend();
        let served = in_system(async {
            let began = Instant::now();
            let signals = stop::Signals::listen()?;
            let node = start(&config, backend, features.clone(), version).await?;
            let (gateway, url) = wiring::gateway(&node, &features, &config, identify).await?;
            banner::show(&config, &node, &url, first.as_deref(), began);
            stop::serve(signals, node, gateway, &config.drain).await;
            Ok(())
        });
        store.close();
        served
    }

    /// Starts a node without HTTP, runs `play` on it, drains, and returns what `play` returned.
    ///
    /// Only warnings are logged, unless `GREENROOM_LOG` or the configuration says otherwise.
    pub fn run_until<T, F: Future<Output = Result<T>>>(self, play: impl FnOnce(Node) -> F) -> Result<T> {
        let config = self.config?;
        if config.is_default("log.filter") {
            logging::start_quiet(&config.log);
        } else {
            logging::start(&config.log);
        }
        let store = open(&config)?;
        let backend = store.backend();
        let played = in_system(async {
            let node = start(&config, backend, self.features, self.version).await?;
            let played = play(node.clone()).await;
            node.drain(config.drain.deadline).await;
            played
        });
        store.close();
        played
    }
}

/// Actors live on actix arbiters, so everything runs inside an actix system.
fn in_system<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    actix::System::new().block_on(work)
}

async fn start(
    config: &Config,
    backend: Arc<dyn Backend>,
    features: Vec<Feature>,
    version: Option<Arc<str>>,
) -> Result<Node> {
    let mut settings = config.runtime.settings();
    settings.live = config.live.settings();
    settings.live.check()?;
    settings.build = version.unwrap_or(settings.build);
    settings.session = config.session.settings();
    settings.limits = config.limits.declarations();
    let node = Node::start(Start { backend, features, settings, clock: Clock::System }).await;
    node.map_err(|e: Error| e.context("starting the node"))
}
