//! A feature is one value: its actors, its routes, its schedules and its limits.

use std::sync::Arc;

use utoipa_actix_web::service_config::ServiceConfig;

use crate::{
    actor::Actor,
    address::At,
    coordination::{
        limit::Limit,
        schedule::{Declaration, Schedule},
    },
    runtime::kind::{Kind, Typed},
};

/// Adds a feature's routes to the gateway. Called once per HTTP worker.
pub type Routes = Arc<dyn Fn(&mut ServiceConfig<'_>) + Send + Sync>;

/// A unit of the product: actors, the routes in front of them, and what they are told by the clock.
#[derive(Clone, Default)]
pub struct Feature {
    pub(crate) kinds: Vec<Arc<dyn Kind>>,
    pub(crate) routes: Vec<Routes>,
    pub(crate) schedules: Vec<Arc<Declaration>>,
    pub(crate) limits: Vec<(String, Limit)>,
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

    /// Tells an actor something by the clock: a cron expression (in UTC), or any [`Schedule`]. The name is
    /// unique in the product; whoever runs it has this schedule, in whatever number, and each of its slots
    /// takes effect once. What is wrong with it is told when a node starts.
    ///
    /// ```
    /// # use greenroom::prelude::*;
    /// # struct Billing;
    /// # impl Actor for Billing {
    /// #     const KIND: &'static str = "billing"; type State = (); type Command = u8; type Reply = ();
    /// #     async fn handle(&self, _: &mut (), _: u8, _: &Context<Self>) -> Result<()> { Ok(()) }
    /// # }
    /// Feature::new(Billing)
    ///     .schedule("reconcile", "0 3 * * *", Billing::at("house"), 1)
    ///     .schedule("invoices", Schedule::cron("0 9 1 * *").zone("Europe/Berlin"), Billing::at("house"), 2);
    /// ```
    pub fn schedule<A: Actor>(
        mut self,
        name: impl Into<String>,
        when: impl Into<Schedule>,
        to: At<A>,
        command: A::Command,
    ) -> Self {
        self.schedules.push(Arc::new(Declaration::new(name.into(), when.into(), to, command)));
        self
    }

    /// Declares a limit over all nodes, for [`Context::limit`](crate::Context::limit) and
    /// [`Node::limits`](crate::Node::limits). `[[limits.named]]` of the configuration wins over it.
    pub fn limit(mut self, name: impl Into<String>, limit: Limit) -> Self {
        self.limits.push((name.into(), limit));
        self
    }
}
