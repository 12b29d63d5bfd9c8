//! How a feature's controller accepts a command: the [`Intake`] extractor.
//! Invariant: a `202` is made only from an id that the node's durable append answered (G1).

use std::{
    borrow::Cow,
    future::{Ready, ready},
    sync::Arc,
    time::Duration,
};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest, HttpResponse,
    dev::Payload,
    http::header::{HeaderMap, HeaderValue},
};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use uuid::Uuid;

use super::{
    accepted::Answer,
    exchange::Exchange,
    fencing,
    follow::settle,
    idempotency::{IDEMPOTENCY_REPLAYED, Key},
    prefer,
    problem::{Place, Problem},
    problems::{FENCED, KEY_REUSED, MAILBOX_FULL, MALFORMED_PATH},
    shared::Shared,
};
use crate::{
    actor::Actor,
    address::{Address, At},
    backend::{Fence, Idempotency, NotAppended},
    runtime::node::{Accept, Node},
    trace::Trace,
};

/// Accepts commands for the client of this request.
///
/// ```
/// use actix_web::{HttpResponse, post};
/// use greenroom::{gateway::{Intake, Problem, Valid}, prelude::*};
/// use serde_json::json;
///
/// # struct Counter;
/// # impl Actor for Counter {
/// #     const KIND: &'static str = "counter";
/// #     type State = u64;
/// #     type Command = u64;
/// #     type Reply = u64;
/// #     async fn handle(&self, total: &mut u64, add: u64, _: &Context<Self>) -> Result<u64> {
/// #         *total += add;
/// #         Ok(*total)
/// #     }
/// # }
/// #[derive(serde::Deserialize, garde::Validate, utoipa::ToSchema)]
/// #[serde(deny_unknown_fields)]
/// struct Open {
///     #[garde(range(max = 100))]
///     #[schema(maximum = 100)]
///     start: u64,
/// }
///
/// /// Opens a counter.
/// #[utoipa::path(request_body = Open, responses((status = 202, description = "Accepted")))]
/// #[post("/counters")]
/// async fn open_counter(intake: Intake, open: Valid<Open>) -> Result<HttpResponse, Problem> {
///     let id = intake.id();
///     let href = format!("/counters/{id}");
///     let accept = intake.accept(Counter::at(id.as_str()), open.start);
///     accept.link("counter", href).answer(json!({ "counter": id })).await
/// }
///
/// let feature = Feature::new(Counter).routes(|routes| {
///     routes.service(open_counter);
/// });
/// ```
pub struct Intake {
    req: HttpRequest,
    shared: Arc<Shared>,
    trace: Trace,
    key: Option<Key>,
    wait: Option<Duration>,
    fence: Option<Fence>,
}

impl Intake {
    /// A new id for what this request creates. Repeats under the same `Idempotency-Key` get the
    /// same ids in the same order, and so reach the same actors.
    pub fn id(&self) -> String {
        self.key.as_ref().map_or_else(Uuid::now_v7, Key::id).to_string()
    }

    /// Keeps idempotency keys of different tenants (users, accounts) apart. Say it wherever
    /// there are tenants, or one could be given another's answer by choosing its key.
    pub fn within(mut self, tenant: &str) -> Self {
        if let Some(key) = &mut self.key {
            key.within(tenant);
        }
        self
    }

    /// The node, to look at state before accepting.
    pub fn node(&self) -> &Node {
        &self.shared.node
    }

    /// The trace of this request.
    pub fn trace(&self) -> Trace {
        self.trace
    }

    /// A command for an actor; nothing happens before [`Acceptance::answer`].
    pub fn accept<A: Actor>(&self, to: At<A>, command: A::Command) -> Acceptance<'_> {
        let command = to_raw_value(&command).map_err(|error| Problem::internal("encoding a command", &error));
        // A key comes from the path in all but strange routes.
        let to = to
            .address()
            .map_err(|error| Problem::of(&MALFORMED_PATH).fault(Place::Parameter("key".to_owned()), error.to_string()));
        self.acceptance(to.and_then(|to| Ok((to, command?))))
    }

    /// How long a repeat under the same `Idempotency-Key` is known for one, in milliseconds.
    pub(crate) fn retention(&self) -> i64 {
        millis(self.shared.settings.idempotency_retention)
    }

    /// A command as JSON for any actor, already [checked](Node::check).
    pub(crate) fn deliver(&self, to: Address, command: Box<RawValue>) -> Acceptance<'_> {
        self.acceptance(Ok((to, command)))
    }

    fn acceptance(&self, message: Result<(Address, Box<RawValue>), Problem>) -> Acceptance<'_> {
        Acceptance { intake: self, message, due: None, links: Vec::new() }
    }

    fn now(&self) -> i64 {
        self.shared.node.clock().now()
    }

    fn idempotency(&self, answer: &Answer) -> Option<Idempotency> {
        self.key.as_ref().map(|key| key.stored(&self.req, answer.store(), &self.shared))
    }
}

impl FromRequest for Intake {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Shared::of(req).and_then(|shared| {
            Ok(Self {
                req: req.clone(),
                shared: shared.clone(),
                trace: req.extensions().get::<Exchange>().map_or_else(Trace::start, |exchange| exchange.trace),
                key: Key::of(req)?,
                wait: prefer::wait(req.headers(), shared.settings.max_wait),
                fence: fencing::read(req.headers())?,
            })
        }))
    }
}

/// A command about to be accepted.
#[must_use = "nothing is accepted before `answer` is awaited"]
pub struct Acceptance<'a> {
    intake: &'a Intake,
    message: Result<(Address, Box<RawValue>), Problem>,
    due: Option<i64>,
    links: Vec<(Cow<'static, str>, String)>,
}

impl Acceptance<'_> {
    /// Adds a link to the answer's `links`.
    pub fn link(mut self, name: impl Into<Cow<'static, str>>, href: impl Into<String>) -> Self {
        self.links.push((name.into(), href.into()));
        self
    }

    /// Not before `wait` from now.
    pub fn after(self, wait: Duration) -> Self {
        let due = self.intake.now().saturating_add(millis(wait));
        self.at(due)
    }

    /// Not before `time`, in milliseconds since the Unix epoch.
    pub fn at(mut self, time: i64) -> Self {
        self.due = Some(time);
        self
    }

    /// Accepts it durably and answers: `202` with `fields` (an object, or `null` for none) and
    /// where to look; how it ended if the client prefers to wait and it ends in time. A repeat
    /// under the same `Idempotency-Key` gets the first answer.
    pub async fn answer(self, fields: Value) -> Result<HttpResponse, Problem> {
        let Intake { shared, trace, wait, .. } = self.intake;
        let (to, command) = self.message?;
        let answer = Answer::new(fields, self.links)?;
        let accept = Accept {
            to,
            command,
            due: self.due,
            trace: Some(*trace),
            idempotency: self.intake.idempotency(&answer),
            fence: self.intake.fence.clone(),
            wait: wait.is_some(),
        };
        let accepted = shared.node.accept(accept).await.map_err(refused)?;
        let request = accepted.request;
        let (answer, replayed) = match &accepted.replayed {
            Some(first) => (Answer::restore(first)?, true),
            None => (answer, false),
        };
        let mut headers = HeaderMap::new();
        if replayed {
            headers.insert(IDEMPOTENCY_REPLAYED.clone(), HeaderValue::from_static("true"));
        }
        if let Some(wait) = *wait {
            let (name, value) = prefer::applied(wait);
            headers.insert(name, value);
            if let Some(view) = settle(shared, request, accepted.ended, wait).await {
                return match answer.settled(&view) {
                    Ok((mut response, body)) => Ok(with(response.json(body), headers)),
                    Err(problem) => Err(headers.into_iter().fold(problem, |p, (name, value)| p.header(name, value))),
                };
            }
        }
        Ok(with(answer.promise(request).json(answer.promised(request)), headers))
    }
}

fn with(mut response: HttpResponse, headers: HeaderMap) -> HttpResponse {
    for (name, value) in headers {
        response.headers_mut().insert(name, value);
    }
    response
}

/// Why it was not accepted. Nothing of it is stored.
pub(super) fn refused(why: NotAppended) -> Problem {
    match why {
        NotAppended::Full { bytes, budget } => Problem::of(&MAILBOX_FULL)
            .detail(format!("{bytes} of {budget} bytes wait."))
            .retry_after(Duration::from_secs(2)),
        NotAppended::Mismatch => Problem::of(&KEY_REUSED),
        NotAppended::Fenced { newest } => Problem::of(&FENCED).with("newest_token", newest),
        NotAppended::Unavailable(why) => Problem::unavailable("accepting", &why),
    }
}

fn millis(time: Duration) -> i64 {
    time.as_millis().min(i64::MAX as u128) as i64
}
