//! What one HTTP worker serves: the gateway's own routes first, then the features', then the
//! problems for everything else. Invariant: the document and the routes come from the same list.

use std::sync::Arc;

use actix_cors::Cors;
use actix_web::{
    App, Error, HttpRequest, HttpResponse,
    body::BoxBody,
    dev::{ServiceFactory, ServiceRequest, ServiceResponse},
    http::header::{self, HeaderValue},
    middleware::Condition,
    web,
};
use utoipa_actix_web::{AppExt, UtoipaApp, service_config::ServiceConfig};

use super::{
    batches, connections, dead_letters, docs,
    front::Front,
    health,
    limits::{self, layer::Layer},
    locks, nodes,
    openapi::{Table, complete},
    operations, pauses,
    problem::Problem,
    problems::{self, METHOD_NOT_ALLOWED, NOT_FOUND},
    requests, schedules, sessions,
    settings::Settings,
    shared::Shared,
    signals, topics,
};
use crate::{
    error::Result,
    feature::{Feature, Routes},
    runtime::node::Node,
};

/// The gateway's own routes.
fn own(config: &mut ServiceConfig<'_>) {
    config
        .service(docs::index)
        .service(docs::document)
        .service(problems::explain)
        .service(health::alive)
        .service(health::ready)
        .service(health::metrics)
        .service(requests::follow)
        .service(requests::journal)
        .service(requests::show)
        .service(requests::cancel)
        .service(signals::complete)
        .service(dead_letters::list)
        .service(dead_letters::redrive_many)
        .service(dead_letters::discard_many)
        // Other methods on these two must not be taken for the dead letter of that id.
        .map(|plain| {
            let many = ["/admin/dead-letters/redrive", "/admin/dead-letters/discard"];
            many.iter().fold(plain, |plain, path| plain.route(path, web::to(otherwise)))
        })
        .service(dead_letters::redrive)
        .service(dead_letters::show)
        .service(dead_letters::discard)
        .service(schedules::list)
        .service(schedules::show)
        .service(schedules::steer)
        .service(schedules::delete)
        .service(connections::list)
        .service(connections::close)
        .service(topics::list)
        .service(topics::show)
        .service(topics::read)
        .service(topics::pause)
        .service(topics::resume)
        .service(topics::skip)
        .service(topics::replay)
        .service(topics::forget)
        .service(locks::list)
        .service(locks::take)
        .service(locks::renew)
        .service(locks::release)
        .service(nodes::nodes)
        .service(nodes::partitions)
        .service(sessions::list)
        .service(sessions::revoke_all)
        .service(sessions::revoke)
        .service(limits::admin::list)
        .service(pauses::list)
        .service(pauses::pause)
        .service(pauses::resume)
        .service(pauses::cancel)
        .service(batches::send)
        .service(batches::show)
        .service(batches::cancel)
        .service(operations::ledger)
        .service(operations::audit)
        .service(operations::send)
        .map(|plain| plain.service(docs::docs).service(docs::ui()));
}

/// All routes, documented.
fn documented(
    routes: &[Routes],
) -> UtoipaApp<
    impl ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse, Error = Error, InitError = ()> + use<>,
> {
    let app = App::new().into_utoipa_app().configure(own);
    routes.iter().fold(app, |app, routes| app.configure(|config| routes(config)))
}

/// What the workers share, with the document made of the routes.
pub(crate) fn share(node: Node, routes: &[Routes], settings: Settings) -> Result<Arc<Shared>> {
    let api = complete(documented(routes).split_for_parts().1);
    let table = Table::of(&api, &docs::UNDOCUMENTED);
    // A document is made of strings and numbers, which always encode.
    let json = api.to_json().unwrap_or_default();
    Shared::new(node, settings, table, json.into())
}

/// One worker's application.
pub(crate) fn app(
    shared: &Arc<Shared>,
    routes: &[Routes],
) -> App<
    impl ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse<BoxBody>, Error = Error, InitError = ()>
    + use<>,
> {
    let settings = &shared.settings;
    documented(routes)
        .into_app()
        .app_data(shared.clone())
        .app_data(web::PayloadConfig::new(settings.body_bytes))
        .app_data(web::JsonConfig::default().limit(settings.body_bytes))
        .default_service(web::to(otherwise))
        .wrap(Condition::new(!shared.limits.is_empty(), Layer(shared.clone())))
        .wrap(Condition::new(!settings.cors_origins.is_empty(), cors(&settings.cors_origins)))
        .wrap(Front(shared.clone()))
}

/// The routes of features.
pub(crate) fn of(features: &[Feature]) -> Vec<Routes> {
    features.iter().flat_map(|feature| feature.routes.iter().cloned()).collect()
}

/// Nothing is served there, or not by that method.
async fn otherwise(req: HttpRequest) -> Result<HttpResponse, Problem> {
    let allow = Shared::of(&req)?.table.allow(req.path());
    Err(match allow.and_then(|allow| HeaderValue::try_from(allow).ok()) {
        Some(allow) => Problem::of(&METHOD_NOT_ALLOWED).header(header::ALLOW, allow),
        None => Problem::of(&NOT_FOUND),
    })
}

/// Which pages of other origins may call. Without credentials: tokens are sent by script, and
/// cookies mean nothing here.
fn cors(origins: &[String]) -> Cors {
    let cors = Cors::default()
        .allow_any_method()
        .allow_any_header()
        .expose_headers([
            "location",
            "retry-after",
            "preference-applied",
            "idempotency-replayed",
            "traceparent",
            "x-request-id",
        ])
        .expose_headers(limits::EXPOSED)
        .max_age(3600);
    match origins.iter().any(|origin| origin == "*") {
        true => cors.allow_any_origin().send_wildcard(),
        false => origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin)),
    }
}
