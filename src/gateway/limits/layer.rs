//! The middleware that limits requests: inside of what answers pages of other origins, so that they can
//! read why they are refused, and outside of everything that costs something.

use std::{
    future::{Future, Ready, ready},
    pin::Pin,
    rc::Rc,
    sync::Arc,
};

use actix_web::{
    Error,
    body::{EitherBody, MessageBody},
    dev::{Service, ServiceRequest, ServiceResponse, Transform, forward_ready},
    http::header,
};

use super::fields::{self, Item};
use crate::gateway::{
    problem::Problem,
    problems::{QUOTA_EXCEEDED, UNAVAILABLE},
    shared::Shared,
};

/// The middleware, made once per worker where there are rules.
pub(crate) struct Layer(pub(crate) Arc<Shared>);

impl<S, B> Transform<S, ServiceRequest> for Layer
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type InitError = ();
    type Transform = LayerService<S>;
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(LayerService { service: Rc::new(service), shared: self.0.clone() }))
    }
}

pub(crate) struct LayerService<S> {
    service: Rc<S>,
    shared: Arc<Shared>,
}

impl<S, B> Service<ServiceRequest> for LayerService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>>>>;

    forward_ready!(service);

    fn call(&self, req: ServiceRequest) -> Self::Future {
        let (service, shared) = (self.service.clone(), self.shared.clone());
        Box::pin(async move {
            let rules = shared.limits.applying(req.request());
            if rules.is_empty() {
                return Ok(service.call(req).await?.map_into_left_body());
            }
            let applied = shared.limits.draw(rules, shared.node.limits(), req.request()).await;
            let items = fields::items(&applied);
            let error = applied.iter().find_map(|applied| applied.drawn.as_ref().err());
            let refused = match error {
                Some(error) => Some(unavailable(error)),
                None => refused(&items),
            };
            let mut response = match refused {
                Some(problem) => req.error_response(problem).map_into_right_body(),
                None => service.call(req).await?.map_into_left_body(),
            };
            fields::write(&items, response.headers_mut());
            Ok(response)
        })
    }
}

/// The problem, if some bucket is empty.
fn refused(items: &[Item]) -> Option<Problem> {
    let violated: Vec<&Item> = items.iter().filter(|item| item.refused).collect();
    let wait = violated.iter().map(|item| item.time()).max()?;
    let names: Vec<&str> = violated.iter().map(|item| item.name()).collect();
    let problem = Problem::of(&QUOTA_EXCEEDED)
        .detail(format!("Nothing is left of {} for {wait} s.", names.join(" and of ")))
        .with("violated-policies", names);
    Some(problem.header(header::RETRY_AFTER, header::HeaderValue::from(wait)))
}

/// A rule that refuses while its store is out.
fn unavailable(error: &crate::Error) -> Problem {
    tracing::warn!(reason = %error, "a request is refused because its limit cannot be asked");
    Problem::of(&UNAVAILABLE).retry_after(error.wait().unwrap_or(std::time::Duration::from_secs(1)))
}
