//! The gateway in front of a real node on a store in memory.

mod accepting;
mod affinity;
mod batches;
mod describing;
mod durable;
mod limits;
mod live;
mod locking;
mod operating;
mod schedules;
mod server;
mod sessions;
mod topics;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{
    HttpResponse,
    body::{BoxBody, MessageBody},
    dev::{Service, ServiceResponse},
    get,
    http::{Method, StatusCode, header},
    post,
    test::{TestRequest, init_service, read_body},
};
use garde::Validate;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Intake, Problem, Settings, Valid, ValidQuery, routes};
use crate::{
    backend::embedded::{Embedded, Options},
    clock::Clock,
    feature::Routes,
    prelude::*,
    runtime::node::Start,
};

/// Adds, and has a number for every way to end.
struct Counter;

const SLOW: u64 = 7;
const FLAKY: u64 = 8;
const REFUSED: u64 = 9;

impl Actor for Counter {
    const KIND: &'static str = "counter";
    type State = u64;
    type Command = u64;
    type Reply = u64;

    async fn handle(&self, total: &mut u64, by: u64, _: &Context<Self>) -> Result<u64> {
        match by {
            SLOW => tokio::time::sleep(Duration::from_millis(400)).await,
            FLAKY => return Err(Error::new("the line is dead").context("adding")),
            REFUSED => return Err(Error::terminal("nine is refused").code("nine")),
            _ => {}
        }
        *total += by;
        Ok(*total)
    }

    fn retry(&self) -> Retry {
        Retry::times(1)
    }
}

#[derive(Debug, Deserialize, Validate, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Add {
    #[garde(range(min = 1, max = 10))]
    #[schema(minimum = 1, maximum = 10)]
    by: u64,
}

/// Adds to a counter.
#[utoipa::path(request_body = Add, responses((status = 202, description = "Accepted")))]
#[post("/counters/{key}")]
async fn add_to(
    intake: Intake,
    key: actix_web::web::Path<String>,
    add: Valid<Add>,
) -> std::result::Result<HttpResponse, Problem> {
    intake.accept(Counter::at(key.as_str()), add.by).answer(json!({ "counter": *key })).await
}

#[derive(Debug, Deserialize, Validate, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
struct Page {
    #[garde(range(min = 1, max = 100))]
    limit: Option<u32>,
}

/// Lists counters.
#[utoipa::path(params(Page), responses((status = 200, description = "A page", body = Vec<String>)))]
#[get("/counters")]
async fn list_counters(page: ValidQuery<Page>) -> HttpResponse {
    HttpResponse::Ok().json(vec!["x".repeat(80); page.limit.unwrap_or(1) as usize])
}

/// Somebody is held up for ever at `/broken/held`.
static HELD: tokio::sync::Notify = tokio::sync::Notify::const_new();

/// Has a function name that the gateway uses too.
#[utoipa::path(responses((status = 200, description = "Never")))]
#[get("/broken/{how}")]
async fn show(how: actix_web::web::Path<String>) -> actix_web::Result<HttpResponse> {
    match how.as_str() {
        "panic" => panic!("a secret of the handler"),
        "error" => Err(actix_web::error::ErrorInternalServerError("a secret of the handler")),
        "plain" => Ok(HttpResponse::NotFound().body("no such page")),
        "bad" => Err(actix_web::error::ErrorBadRequest("the reason")),
        how => {
            if how == "held" {
                HELD.notify_one();
            }
            std::future::pending().await
        }
    }
}

/// As whoever is on this machine asks, whom administration is open to.
fn here(request: TestRequest) -> TestRequest {
    request.insert_header((header::HOST, "localhost"))
}

fn routes() -> Vec<Routes> {
    vec![Arc::new(|config| {
        config.service(add_to).service(list_counters).service(show);
    })]
}

async fn app(
    change: impl FnOnce(&mut Settings),
) -> impl Service<actix_http::Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error> {
    on(node(64 << 20).await, change).await
}

async fn on(
    node: Node,
    change: impl FnOnce(&mut Settings),
) -> impl Service<actix_http::Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error> {
    let mut settings = Settings { max_wait: Duration::from_secs(5), ..Settings::default() };
    change(&mut settings);
    let shared = routes::share(node, &routes(), settings).unwrap();
    init_service(routes::app(&shared, &routes())).await
}

/// A node with a counter, and so many bytes of mailbox.
async fn node(mailbox_bytes: u64) -> Node {
    node_of(Embedded::in_memory(Options { mailbox_bytes, partitions: 1 }).unwrap()).await
}

async fn node_of(store: Embedded) -> Node {
    let backend = Arc::new(store);
    let settings = crate::runtime::settings::Settings { arbiters: 0, ..Default::default() };
    let start = Start { backend, features: vec![Feature::new(Counter)], settings, clock: Clock::System };
    Node::start(start).await.unwrap()
}

/// The status, headers and body of an answer, even where the middleware gave up.
async fn call(
    app: &impl Service<actix_http::Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error>,
    request: TestRequest,
) -> (StatusCode, header::HeaderMap, Vec<u8>) {
    let request = request.peer_addr(SocketAddr::from(([127, 0, 0, 1], 9))).to_request();
    match app.call(request).await {
        Ok(response) => {
            let (status, headers) = (response.status(), response.headers().clone());
            (status, headers, read_body(response).await.to_vec())
        }
        Err(error) => {
            let response = error.error_response();
            let (status, headers) = (response.status(), response.headers().clone());
            (status, headers, response.into_body().try_into_bytes().map(|b| b.to_vec()).unwrap_or_default())
        }
    }
}

/// The problem that answers a request.
async fn problem(
    app: &impl Service<actix_http::Request, Response = ServiceResponse<BoxBody>, Error = actix_web::Error>,
    request: TestRequest,
) -> (u16, header::HeaderMap, Value) {
    let (status, headers, body) = call(app, request).await;
    let text = String::from_utf8_lossy(&body).into_owned();
    assert_eq!(headers.get(header::CONTENT_TYPE).unwrap(), "application/problem+json", "{status} {text}");
    assert_eq!(headers.get(header::X_CONTENT_TYPE_OPTIONS).unwrap(), "nosniff");
    assert!(headers.contains_key("x-request-id") && headers.contains_key("traceparent"));
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["status"], status.as_u16());
    assert!(!text.contains("secret"), "{text}");
    (status.as_u16(), headers, body)
}

fn value(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(body)))
}

/// Holds an answer against the schema that describes it: no member is undescribed, none that is
/// required is missing.
fn assert_described<T: utoipa::ToSchema>(answer: &Value) {
    let schema = serde_json::to_value(T::schema()).unwrap();
    let properties = schema["properties"].as_object().unwrap();
    let members = answer.as_object().unwrap();
    for name in members.keys() {
        assert!(properties.contains_key(name), "{name} is in the answer, not in {schema}");
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        assert!(members.contains_key(name), "{name} is required, and missing in {answer}");
    }
}

fn json_post(uri: &str, body: &str) -> TestRequest {
    TestRequest::post().uri(uri).insert_header((header::CONTENT_TYPE, "application/json")).set_payload(body.to_owned())
}

#[actix_web::test]
async fn what_is_not_served_is_404_and_a_wrong_method_405_with_allow() {
    let app = app(|_| {}).await;
    let (status, _, body) = problem(&app, TestRequest::get().uri("/nowhere")).await;
    assert_eq!((status, &body["type"], &body["instance"]), (404, &json!("/problems/not-found"), &json!("/nowhere")));
    for (method, uri, allow) in [
        (Method::PUT, "/counters/a", "POST"),
        (Method::GET, "/counters/a", "POST"),
        (Method::POST, "/counters", "GET, HEAD"),
        (Method::POST, "/requests/x", "DELETE, GET, HEAD"),
        (Method::POST, "/requests/x/journal", "GET, HEAD"),
        (Method::GET, "/signals/x", "POST"),
        (Method::TRACE, "/livez", "GET, HEAD"),
        (Method::DELETE, "/docs/", "GET, HEAD"),
        (Method::GET, "/admin/dead-letters/redrive", "POST"),
        (Method::PUT, "/admin/dead-letters/x", "DELETE, GET, HEAD"),
        (Method::from_bytes(b"BREW").unwrap(), "/", "GET, HEAD"),
    ] {
        let (status, headers, _) = problem(&app, TestRequest::default().method(method.clone()).uri(uri)).await;
        assert_eq!((status, headers.get(header::ALLOW).unwrap().to_str().unwrap()), (405, allow), "{method} {uri}");
    }
}

#[actix_web::test]
async fn bad_input_is_told_by_field_and_reason() {
    let app = app(|settings| settings.body_bytes = 100).await;
    let uri = "/counters/a";
    let (status, _, body) = problem(&app, json_post(uri, r#"{"by":0}"#)).await;
    assert_eq!((status, &body["errors"][0]["pointer"]), (422, &json!("/by")));
    let (status, _, body) = problem(&app, json_post(uri, "{\"by\":")).await;
    assert_eq!((status, &body["type"]), (400, &json!("/problems/malformed-body")));
    assert!(body["detail"].as_str().unwrap().contains("line 1 column 6"), "{body}");
    let (status, ..) = problem(&app, TestRequest::post().uri(uri).set_payload("by=1")).await;
    assert_eq!(status, 415);
    let gzip = json_post(uri, "x").insert_header((header::CONTENT_ENCODING, "gzip"));
    assert_eq!(problem(&app, gzip).await.0, 415);
    let (status, _, body) = problem(&app, json_post(uri, &" ".repeat(101))).await;
    assert_eq!((status, &body["detail"]), (413, &json!("The limit is 100 bytes.")));
    let (status, _, body) = problem(&app, TestRequest::get().uri("/counters?limit=0")).await;
    assert_eq!((status, &body["errors"][0]["parameter"]), (400, &json!("limit")));
    let keyed = json_post(uri, r#"{"by":1}"#).insert_header(("idempotency-key", "a b"));
    let (status, _, body) = problem(&app, keyed).await;
    assert_eq!((status, &body["errors"][0]["header"]), (400, &json!("Idempotency-Key")));
    let (status, _, body) = problem(&app, json_post("/counters/a%0Ab", r#"{"by":1}"#)).await;
    assert_eq!((status, &body["errors"][0]["parameter"]), (400, &json!("key")));
    let long = TestRequest::get().uri("/livez").insert_header(("x-long", "x".repeat(40_000)));
    assert_eq!(problem(&app, long).await.0, 431);
}

#[actix_web::test]
async fn what_breaks_inside_is_told_to_the_log_only() {
    let app = app(|settings| {
        settings.request_timeout = Duration::from_millis(50);
    })
    .await;
    for (how, expected) in [("panic", 500), ("error", 500), ("plain", 404), ("bad", 400), ("hang", 503)] {
        let (status, headers, body) = problem(&app, TestRequest::get().uri(&format!("/broken/{how}"))).await;
        assert_eq!((status, &body["instance"]), (expected, &json!(format!("/broken/{how}"))), "{how}");
        assert_eq!(headers.contains_key(header::RETRY_AFTER), how == "hang");
        assert_eq!(body["detail"] == "the reason", how == "bad");
    }
    // The worker lives, and counted by route.
    let (status, _, body) = call(&app, TestRequest::get().uri("/metrics")).await;
    assert_eq!(status, 200);
    let text = String::from_utf8(body).unwrap();
    assert!(
        text.contains(r#"greenroom_http_requests_total{route="/broken/{how}",method="GET",status="500"} 2"#),
        "{text}"
    );
}

#[actix_web::test]
async fn what_was_never_accepted_is_unknown() {
    let app = app(|_| {}).await;
    let id = "00000000-0001-8000-8000-000000000000";
    for uri in [format!("/requests/{id}"), format!("/requests/{id}/events"), "/requests/nothing".to_owned()] {
        assert_eq!(problem(&app, TestRequest::get().uri(&uri)).await.0, 404, "{uri}");
    }
    assert_eq!(problem(&app, TestRequest::delete().uri(&format!("/requests/{id}"))).await.0, 404);
}

#[actix_web::test]
async fn large_answers_are_compressed_and_head_has_no_body() {
    let app = app(|_| {}).await;
    let listing = |limit| {
        TestRequest::get().uri(&format!("/counters?limit={limit}")).insert_header((header::ACCEPT_ENCODING, "gzip"))
    };
    let (_, headers, body) = call(&app, listing(100)).await;
    assert_eq!(headers.get(header::CONTENT_ENCODING).unwrap(), "gzip");
    assert!(body.len() < 1_000);
    assert!(!call(&app, listing(1)).await.1.contains_key(header::CONTENT_ENCODING));
    assert_eq!(call(&app, TestRequest::default().method(Method::HEAD).uri("/livez")).await.0, 200);
}

#[actix_web::test]
async fn only_configured_origins_may_call() {
    let app = app(|settings| settings.cors_origins = vec!["https://shop.example".into()]).await;
    let preflight = |origin: &str| {
        TestRequest::default()
            .method(Method::OPTIONS)
            .uri("/counters/a")
            .insert_header((header::ORIGIN, origin))
            .insert_header((header::ACCESS_CONTROL_REQUEST_METHOD, "POST"))
    };
    let (status, headers, _) = call(&app, preflight("https://shop.example")).await;
    assert_eq!(status, 200);
    assert_eq!(headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).unwrap(), "https://shop.example");
    assert_eq!(problem(&app, preflight("https://evil.example")).await.0, 400);
}

#[actix_web::test]
async fn ids_go_through() {
    let app = app(|_| {}).await;
    let traced = TestRequest::get()
        .uri("/livez")
        .insert_header(("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
        .insert_header(("x-request-id", "mine"));
    let (_, headers, _) = call(&app, traced).await;
    assert_eq!(headers.get("x-request-id").unwrap(), "mine");
    assert!(headers.get("traceparent").unwrap().to_str().unwrap().starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
}
