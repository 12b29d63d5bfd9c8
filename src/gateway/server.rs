//! The gateway as a supervised actor that owns the HTTP server.
//! Invariant: between start and stop the address stays bound, so that clients who come while the
//! server is being restarted wait for it instead of being refused.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, ResponseFuture, Supervised,
    Supervisor, WrapFuture,
};
use actix_web::{HttpServer, dev::ServerHandle};
use tokio::net::TcpSocket;

use super::{routes, settings::Settings, shared::Shared};
use crate::{
    error::{Error, Result},
    feature::{Feature, Routes},
    retry::Retry,
    runtime::node::Node,
};

/// Connections that may wait to be taken.
const BACKLOG: u32 = 2_048;

/// A handle on the running gateway.
pub struct Gateway {
    address: SocketAddr,
    keeper: Addr<Keeper>,
    shared: Arc<Shared>,
}

impl Gateway {
    /// Serves the features' routes and its own in front of `node`; inside an actix system.
    /// Terminal error when the settings cannot be served or the address cannot be bound.
    pub fn start(node: Node, features: &[Feature], settings: Settings) -> Result<Self> {
        settings.check()?;
        let listener = bind(settings.listen)?;
        Self::serve(listener, node, features, settings)
    }

    /// The same on an address that is [bound](bind) already, so that others can be told of it first.
    pub(crate) fn serve(listener: TcpListener, node: Node, features: &[Feature], settings: Settings) -> Result<Self> {
        let address = listener.local_addr()?;
        if settings.admin_token.is_none() && !address.ip().is_loopback() {
            tracing::warn!(%address, "/admin is closed: not on loopback, and no admin_token is configured");
        }
        let routes = routes::of(features);
        let shared = routes::share(node, &routes, settings)?;
        let keeper = Keeper {
            shared: shared.clone(),
            routes,
            listener: Some(listener),
            handle: None,
            started: Instant::now(),
            failures: 0,
        };
        let keeper = Supervisor::start(move |_| keeper);
        Ok(Self { address, keeper, shared })
    }

    /// The address it listens on, with the port it really got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The first moment of a drain: readiness fails, whoever waits is answered now, and
    /// connections close after their next answer. New connections are still served.
    pub fn retire(&self) {
        self.shared.retire();
    }

    /// Stops taking connections, answers what was asked if `graceful`, and returns when the
    /// server has ended.
    pub async fn stop(&self, graceful: bool) {
        // An address without an actor means that it has ended already.
        let _ = self.keeper.send(Stop { graceful }).await;
    }
}

/// Takes an address: a client that connects waits until it is served.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener> {
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restart must not wait for the connections of the last run to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)?.into_std()
    };
    bound().map_err(|error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => ": another process listens there",
            std::io::ErrorKind::PermissionDenied => ": ports below 1024 need a privilege",
            _ => "",
        };
        Error::terminal(format!("{error}{hint}")).context(format!("cannot listen on {address}"))
    })
}

/// The actor: keeps a server running on the listener until it is told to stop.
struct Keeper {
    shared: Arc<Shared>,
    routes: Vec<Routes>,
    /// Taken by a stop; without it nothing is served again.
    listener: Option<TcpListener>,
    handle: Option<ServerHandle>,
    started: Instant,
    failures: u32,
}

impl Keeper {
    /// A server that ran this long is forgiven its earlier failures.
    const FORGIVEN: Duration = Duration::from_secs(60);

    fn serve(&mut self, cx: &mut Context<Self>) {
        let Some(listener) = &self.listener else { return };
        self.started = Instant::now();
        let (shared, routes, settings) = (self.shared.clone(), self.routes.clone(), &self.shared.settings);
        let server = HttpServer::new(move || routes::app(&shared, &routes))
            .disable_signals()
            .workers(settings.workers)
            .max_connections(settings.max_connections)
            .keep_alive(settings.keep_alive)
            .client_request_timeout(settings.head_timeout)
            .client_disconnect_timeout(settings.disconnect_timeout)
            .shutdown_timeout(settings.shutdown_timeout.as_secs().max(1));
        let server = match listener.try_clone().and_then(|listener| server.listen(listener)) {
            Ok(server) => server.run(),
            Err(error) => return self.failed(&error.to_string(), cx),
        };
        self.handle = Some(server.handle());
        cx.spawn(server.into_actor(self).map(|ended, keeper, cx| {
            keeper.handle = None;
            match (&keeper.listener, ended) {
                (None, _) => tracing::debug!("the HTTP server has stopped"),
                (Some(_), Ok(())) => keeper.failed("it ended without having been told to", cx),
                (Some(_), Err(error)) => keeper.failed(&error.to_string(), cx),
            }
        }));
    }

    /// Ends this run of the actor; its supervisor starts the next one.
    fn failed(&mut self, why: &str, cx: &mut Context<Self>) {
        if self.started.elapsed() >= Self::FORGIVEN {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        tracing::error!(failures = self.failures, why, "the HTTP server ended, will start it again");
        cx.stop();
    }
}

impl Actor for Keeper {
    type Context = Context<Self>;

    fn started(&mut self, cx: &mut Self::Context) {
        match self.failures {
            0 => self.serve(cx),
            failures => {
                let backoff = Retry::default().backoff(Duration::from_millis(100), Duration::from_secs(10));
                cx.run_later(backoff.wait(failures, 1.0), Self::serve);
            }
        }
    }
}

impl Supervised for Keeper {}

#[derive(Message)]
#[rtype(result = "()")]
struct Stop {
    graceful: bool,
}

impl Handler<Stop> for Keeper {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, stop: Stop, _: &mut Self::Context) -> Self::Result {
        self.shared.retire();
        // The port closes with the last listener: the server's own goes first thing in its stop.
        self.listener = None;
        let handle = self.handle.clone();
        Box::pin(async move {
            if let Some(handle) = handle {
                handle.stop(stop.graceful).await;
            }
        })
    }
}
