//! A product that knows who somebody is, served by several nodes behind a load balancer. It answers which
//! node it is, and what it was told of its client.

use std::process::ExitCode;

use actix_web::{
    HttpRequest, HttpResponse, get,
    http::StatusCode,
    post,
    web::{Bytes, Path, Payload},
};
use futures_util::{StreamExt, stream};
use greenroom::{
    cli::{self, Product},
    config::Config,
    coordination::session::{LoggedIn, Session},
    gateway::Problem,
    prelude::*,
};
use serde_json::{Value, json};

fn node() -> String {
    std::env::var("GREENROOM_GATEWAY__AFFINITY").unwrap_or_default()
}

/// Logs in.
#[utoipa::path(responses((status = 204, description = "Logged in")))]
#[post("/login/{user}")]
async fn login(session: Session, user: Path<String>) -> Result<HttpResponse, Problem> {
    session.login(&user).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Counts the requests of a session.
#[utoipa::path(responses((status = 200, description = "The node")))]
#[post("/count")]
async fn count(session: LoggedIn) -> Result<HttpResponse, Problem> {
    session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1)?;
    Ok(HttpResponse::Ok().json(json!({ "node": node(), "user": session.user() })))
}

/// Who asks, as this node was told.
#[utoipa::path(responses((status = 200, description = "The client")))]
#[get("/who")]
async fn who(req: HttpRequest, session: Session) -> Result<HttpResponse, Problem> {
    let said = |name: &str| -> Vec<Value> {
        req.headers().get_all(name).map(|value| json!(value.to_str().unwrap_or("?"))).collect()
    };
    Ok(HttpResponse::Ok().json(json!({
        "node": node(), "user": session.user(), "n": session.get::<u64>("n")?, "host": said("host"),
        "for": said("x-forwarded-for"), "proto": said("x-forwarded-proto"), "forwarded": said("forwarded"),
    })))
}

/// One event, and then none for as long as anybody listens.
#[utoipa::path(responses((status = 200, description = "Events")))]
#[get("/events")]
async fn events() -> HttpResponse {
    let first = stream::once(async { Ok::<_, actix_web::Error>(Bytes::from_static(b"data: first\n\n")) });
    HttpResponse::Ok().content_type("text/event-stream").streaming(first.chain(stream::pending()))
}

/// A socket that sends everything back.
#[utoipa::path(responses((status = 101, description = "A socket")))]
#[get("/socket")]
async fn socket(payload: Payload) -> HttpResponse {
    let echo = payload.map(|bytes| bytes.map_err(actix_web::Error::from));
    // What answers the key of RFC 6455, section 1.3; load balancers compare.
    let accept = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    HttpResponse::build(StatusCode::SWITCHING_PROTOCOLS).insert_header(accept).upgrade("websocket").streaming(echo)
}

fn features(_: &Config) -> Result<Vec<Feature>> {
    let routes = |routes: &mut utoipa_actix_web::service_config::ServiceConfig<'_>| {
        routes.service(login).service(count).service(who).service(events).service(socket);
    };
    Ok(vec![Feature::default().routes(routes)])
}

fn main() -> ExitCode {
    cli::main(Product::new("sticky", "1", features))
}
