//! What every HTTP worker needs, made once. Invariant: answering a request locks nothing of it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

use actix_web::{HttpRequest, web::Bytes};
use tokio::sync::watch;

use super::{limits::Rules, openapi::Table, problem::Problem, problems::INTERNAL, settings::Settings};
use crate::{error::Result, runtime::node::Node};

/// Shared by all workers of one gateway.
pub(crate) struct Shared {
    pub(crate) node: Node,
    pub(crate) settings: Settings,
    pub(crate) limits: Rules,
    /// Which methods each path takes.
    pub(crate) table: Table,
    /// The OpenAPI document, as JSON.
    pub(crate) openapi: Bytes,
    streams: AtomicUsize,
    /// Read by every answer; `retire_waits` says the same to whoever sleeps.
    retiring: AtomicBool,
    retire_waits: watch::Sender<bool>,
}

impl Shared {
    /// Terminal error when the limits cannot be kept.
    pub(crate) fn new(node: Node, settings: Settings, table: Table, openapi: Bytes) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            limits: Rules::new(&settings.limits, node.limits())?,
            node,
            settings,
            table,
            openapi,
            streams: AtomicUsize::new(0),
            retiring: AtomicBool::new(false),
            retire_waits: watch::Sender::new(false),
        }))
    }

    /// The one of the gateway that serves `req`.
    pub(crate) fn of(req: &HttpRequest) -> Result<&Arc<Self>, Problem> {
        req.app_data::<Arc<Self>>().ok_or_else(|| {
            tracing::error!("a handler of the gateway is served without it");
            Problem::of(&INTERNAL)
        })
    }

    /// From now on readiness fails, waits and streams end early, and connections close.
    pub(crate) fn retire(&self) {
        self.retiring.store(true, Relaxed);
        self.retire_waits.send_replace(true);
    }

    pub(crate) fn is_retiring(&self) -> bool {
        self.retiring.load(Relaxed)
    }

    /// Returns when the gateway retires.
    pub(crate) async fn retired(&self) {
        let mut retiring = self.retire_waits.subscribe();
        // The sender lives as long as `self`, so this ends by the value alone.
        let _ = retiring.wait_for(|retiring| *retiring).await;
    }

    /// A place for one more event stream; `None` when all are taken.
    pub(crate) fn stream(self: &Arc<Self>) -> Option<StreamPlace> {
        let most = self.settings.max_event_streams;
        self.streams.fetch_update(Relaxed, Relaxed, |open| (open < most).then_some(open + 1)).ok()?;
        self.node.metrics().event_streams(1);
        Some(StreamPlace(self.clone()))
    }
}

/// Held by an open event stream, given back when it is dropped.
pub(crate) struct StreamPlace(Arc<Shared>);

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
        self.0.node.metrics().event_streams(-1);
    }
}
