//! The way in for people: the index, the OpenAPI document and the page that shows it.
//! Invariant: nothing is loaded from elsewhere.

use actix_web::{HttpRequest, HttpResponse, get, http::header};
use serde_json::json;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{problem::Problem, shared::Shared};

/// Paths served without being in the document.
pub(crate) const UNDOCUMENTED: [&str; 2] = ["/docs", UI];

const UI: &str = "/docs/{_:.*}";

/// What there is.
#[utoipa::path(tag = "about", responses((status = 200, description = "Links", body = Object)))]
#[get("/")]
pub(crate) async fn index() -> HttpResponse {
    HttpResponse::Ok().json(json!({
        "name": "greenroom",
        "version": env!("CARGO_PKG_VERSION"),
        "links": {
            "docs": "/docs/",
            "openapi": "/openapi.json",
            "alive": "/livez",
            "ready": "/readyz",
            "metrics": "/metrics",
            "dead_letters": "/admin/dead-letters",
            "ledger": "/admin/ledger",
        },
    }))
}

/// The OpenAPI document of everything that is served.
#[utoipa::path(tag = "about", responses((status = 200, description = "The document", body = Object)))]
#[get("/openapi.json")]
pub(crate) async fn document(req: HttpRequest) -> Result<HttpResponse, Problem> {
    let document = Shared::of(&req)?.openapi.clone();
    Ok(HttpResponse::Ok().content_type("application/json").body(document))
}

#[get("/docs")]
pub(crate) async fn docs() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "/docs/")).finish()
}

/// The page that shows the document.
pub(crate) fn ui() -> SwaggerUi {
    SwaggerUi::new(UI).config(Config::from("/openapi.json"))
}
