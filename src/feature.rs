//! A feature is one value: its actors and its routes.

use std::sync::Arc;

use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    actor::Actor,
    runtime::kind::{Kind, Typed},
};

/// Adds a feature's routes to the gateway. Called once per HTTP worker.
pub type Routes = Arc<dyn Fn(&mut ServiceConfig<'_>) + Send + Sync>;

/// A unit of the product: actors and the routes in front of them.
#[derive(Clone, Default)]
pub struct Feature {
    pub(crate) kinds: Vec<Arc<dyn Kind>>,
    pub(crate) routes: Vec<Routes>,
    pub(crate) topics: Vec<crate::coordination::topic::Declaration>,
}

impl Feature {
    /// A feature with one actor.
    pub fn new<A: Actor>(actor: A) -> Self {
        Self::default().actor(actor)
    }

    /// Adds another actor.
    pub fn actor<A: Actor>(mut self, actor: A) -> Self {
        self.kinds.push(Arc::new(Typed::new(actor)));
        self
    }

    /// Adds routes: actix-web handlers annotated with `#[utoipa::path]`, so that the OpenAPI
    /// document is made of the very routes that are served.
    pub fn routes(mut self, routes: impl Fn(&mut ServiceConfig<'_>) + Send + Sync + 'static) -> Self {
        self.routes.push(Arc::new(routes));
        self
    }
}
