//! What surrounds every request: identity, time limit, panic safety, problems, metrics.
//! Invariant: whatever happens inside, the client gets an answer with an id, and every error
//! among the answers is a problem.

use std::{
    cell::RefCell,
    collections::HashMap,
    future::{Future, Ready, ready},
    panic::AssertUnwindSafe,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use actix_web::{
    Error, HttpMessage, HttpRequest, HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
    dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready},
    http::{
        ConnectionType, Method, StatusCode, Uri,
        header::{self, HeaderName, HeaderValue},
    },
};
use futures_util::FutureExt;
use tracing::{Instrument, debug_span};

use super::{
    affinity, compress,
    exchange::Exchange,
    problem::{MEDIA_TYPE, Problem},
    problems::{self, HEAD_TOO_LARGE, INTERNAL, TIMED_OUT},
    shared::Shared,
};
use crate::{coordination::session, metrics::HttpMetrics};

static NOSNIFF: (HeaderName, HeaderValue) = (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

/// The label of whatever matches no route.
const UNMATCHED: &str = "unmatched";

/// The middleware, made once per worker.
pub(crate) struct Front(pub(crate) Arc<Shared>);

impl<S, B> Transform<S, ServiceRequest> for Front
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type InitError = ();
    type Transform = FrontService<S>;
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        let worker = Worker { shared: self.0.clone(), series: RefCell::default() };
        ready(Ok(FrontService { service: Rc::new(service), worker: Rc::new(worker) }))
    }
}

pub(crate) struct FrontService<S> {
    service: Rc<S>,
    worker: Rc<Worker>,
}

impl<S, B> Service<ServiceRequest> for FrontService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>>>>;

    forward_ready!(service);

    fn call(&self, mut req: ServiceRequest) -> Self::Future {
        let asked = Asked {
            at: Instant::now(),
            exchange: Exchange::of(req.headers()),
            method: req.method().clone(),
            uri: req.uri().clone(),
        };
        // HEAD is GET without the body, which the encoder leaves out.
        if asked.method == Method::HEAD {
            let head = req.head_mut();
            head.method = Method::GET;
            head.headers_mut().remove(header::ACCEPT);
        }
        let worker = self.worker.clone();
        if head_size(&req) > worker.shared.settings.header_bytes {
            let limit = worker.shared.settings.header_bytes;
            let problem = Problem::of(&HEAD_TOO_LARGE).detail(format!("The limit is {limit} bytes."));
            let (req, _) = req.into_parts();
            return Box::pin(ready(Ok(worker.finish(asked, req, problem.respond(None)))));
        }
        req.extensions_mut().insert(asked.exchange.clone());
        let span =
            debug_span!("http", method = %asked.method, path = asked.uri.path(), trace = %asked.exchange.trace.id());
        let service = self.service.clone();
        let inner = async move { Ok(session::settled(service.call(req).await?.map_into_boxed_body()).await) };
        let inner = AssertUnwindSafe(inner).catch_unwind();
        let limited = tokio::time::timeout(worker.shared.settings.request_timeout, inner).instrument(span);
        Box::pin(async move {
            let problem = match limited.await {
                Ok(Ok(Ok(response))) => {
                    let (req, response) = response.into_parts();
                    return Ok(worker.finish(asked, req, response));
                }
                Ok(Ok(Err(error))) => problem_of(&error),
                Ok(Err(panic)) => Problem::internal("handling", &message(&*panic)),
                Err(_) => Problem::of(&TIMED_OUT).retry_after(std::time::Duration::from_secs(1)),
            };
            Err(worker.give_up(asked, problem))
        })
    }
}

/// What is needed of a request after it was handed over.
struct Asked {
    at: Instant,
    exchange: Exchange,
    method: Method,
    uri: Uri,
}

/// Series of one route, looked up once.
type Series = Vec<(Method, StatusCode, HttpMetrics)>;

struct Worker {
    shared: Arc<Shared>,
    series: RefCell<HashMap<String, Series>>,
}

impl Worker {
    /// Completes an answer.
    fn finish(&self, asked: Asked, req: HttpRequest, mut response: HttpResponse) -> ServiceResponse {
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            response = as_problem(asked.uri.path(), response);
        }
        if status == StatusCode::METHOD_NOT_ALLOWED && !response.headers().contains_key(header::ALLOW) {
            let allow = self.shared.table.allow(asked.uri.path()).unwrap_or_default();
            if let Ok(allow) = HeaderValue::try_from(allow) {
                response.headers_mut().insert(header::ALLOW, allow);
            }
        }
        if asked.method == Method::HEAD && matches!(response.body().size(), BodySize::Stream) {
            response = response.set_body(BoxBody::new(()));
        }
        response = compress::apply(req.headers(), response);
        if self.shared.is_retiring() {
            response.head_mut().set_connection_type(ConnectionType::Close);
        } else if let Some(node) = &self.shared.settings.affinity {
            affinity::stick(node, req.headers(), response.headers_mut());
        }
        let route = req.match_pattern();
        self.record(&asked, route.as_deref().unwrap_or(UNMATCHED), status);
        let headers = response.headers_mut();
        headers.insert(NOSNIFF.0.clone(), NOSNIFF.1.clone());
        for (name, value) in asked.exchange.headers() {
            headers.insert(name, value);
        }
        ServiceResponse::new(req, response)
    }

    /// The answer where the request itself was lost: to a panic, to time, to a middleware.
    fn give_up(&self, asked: Asked, problem: Problem) -> Error {
        let status = StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let route = self.shared.table.pattern(asked.uri.path()).unwrap_or(UNMATCHED);
        self.record(&asked, route, status);
        let problem = problem.at(asked.uri.path()).header(NOSNIFF.0.clone(), NOSNIFF.1.clone());
        asked.exchange.headers().into_iter().fold(problem, |p, (name, value)| p.header(name, value)).into()
    }

    fn record(&self, asked: &Asked, route: &str, status: StatusCode) {
        let took = asked.at.elapsed().as_secs_f64();
        let (method, id) = (&asked.method, asked.exchange.id());
        if status.is_server_error() {
            let trace = asked.exchange.trace.id();
            tracing::warn!(%method, route, status = status.as_u16(), request_id = id, trace, took, "answered with an error");
        } else {
            tracing::debug!(%method, route, status = status.as_u16(), request_id = id, took, "answered");
        }
        let mut series = self.series.borrow_mut();
        if let Some(known) = series.get(route)
            && let Some((.., one)) = known.iter().find(|(m, s, _)| m == method && *s == status)
        {
            return one.observe(took);
        }
        let one = self.shared.node.metrics().http_handle(route, method.as_str(), status.as_u16());
        one.observe(took);
        // Methods can be invented without end; only those of the standard are remembered.
        if KNOWN.contains(method) {
            series.entry(route.to_owned()).or_default().push((method.clone(), status, one));
        }
    }
}

const KNOWN: [Method; 8] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
    Method::TRACE,
];

/// The size of what came before the body.
fn head_size(req: &ServiceRequest) -> usize {
    let target = req.uri().path_and_query().map_or(0, |target| target.as_str().len());
    req.headers().iter().fold(target, |size, (name, value)| size + name.as_str().len() + value.len() + 4)
}

/// The error answer as a problem, whatever made it; its headers stay.
fn as_problem(path: &str, response: HttpResponse) -> HttpResponse {
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let text = match response.error() {
        Some(error) => match error.as_error::<Problem>() {
            Some(problem) => problem.text(Some(path)),
            None => problem_of(error).text(Some(path)),
        },
        None if kind.is_some_and(|kind| kind.starts_with(MEDIA_TYPE.as_bytes())) => return response,
        None => of_status(response.status()).text(Some(path)),
    };
    let mut response = response.set_body(BoxBody::new(text));
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_ENCODING);
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    response
}

/// A problem from an error of actix or of a feature. Only what a client did wrong is told.
fn problem_of(error: &Error) -> Problem {
    let status = error.as_response_error().status_code();
    match status.is_server_error() {
        true => Problem::internal("handling", error),
        false => of_status(status).detail(error.to_string()),
    }
}

fn of_status(status: StatusCode) -> Problem {
    match status.as_u16() {
        404 => Problem::of(&problems::NOT_FOUND),
        405 => Problem::of(&problems::METHOD_NOT_ALLOWED),
        408 => Problem::of(&problems::SLOW_CLIENT),
        413 => Problem::of(&problems::BODY_TOO_LARGE),
        415 => Problem::of(&problems::UNSUPPORTED_MEDIA_TYPE),
        500 => Problem::of(&INTERNAL),
        status => Problem::new(status),
    }
}

/// What a panic said.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("without a message"))
}
