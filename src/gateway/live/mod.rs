//! Opening live connections: what a controller says to let its client follow a channel, by WebSocket or by
//! server-sent events.
//!
//! Invariant: who may follow which channel is decided before anything here is called, by the feature; and a
//! client is sent what comes after what it names, or is told that something is missing.

mod inbound;
mod origin;
mod sse;
mod ws;

use std::{
    future::{Ready, ready},
    sync::Arc,
    time::Duration,
};

use actix_web::{FromRequest, HttpRequest, HttpResponse, dev::Payload, http::header, web};

pub use self::{inbound::Told, ws::Socket};
use super::{
    problem::{Place, Problem},
    problems::{MALFORMED_HEADER, MALFORMED_PATH, MALFORMED_QUERY, TOO_MANY_CONNECTIONS},
    shared::Shared,
};
use crate::{
    actor::Actor,
    coordination::live::{
        channel::Channel,
        follow::Follow,
        hub::{Full, join},
        line::{Transport, wait},
        mark::{Bad, Mark},
    },
};

/// The shortest time before a client comes back: long enough for a load balancer to have seen that its
/// node is going.
const LEAST: Duration = Duration::from_millis(250);

/// Lets the client of this request follow a channel: everything that is [pushed](crate::Context::push)
/// to it from now on, and what was missed since the place that the client names, by `Last-Event-ID` or
/// `?after=`.
///
/// ```
/// use actix_web::{HttpResponse, get, web};
/// use greenroom::{gateway::{Live, Problem}, prelude::*};
///
/// /// Follows what happens to a user.
/// #[utoipa::path(responses((status = 200, description = "Events"), (status = 101, description = "A WebSocket")))]
/// #[get("/users/{user}/live")]
/// async fn follow(live: Live, user: web::Path<String>, payload: web::Payload) -> Result<HttpResponse, Problem> {
///     // Here it is decided whether this client may.
///     live.open(&format!("user-{user}"), payload).await
/// }
///
/// let feature = Feature::default().routes(|routes| {
///     routes.service(follow);
/// });
/// ```
pub struct Live {
    req: HttpRequest,
    shared: Arc<Shared>,
}

impl Live {
    /// A WebSocket if the client asks for one, else server-sent events.
    pub async fn open(&self, channel: &str, payload: web::Payload) -> Result<HttpResponse, Problem> {
        if self.req.headers().contains_key(header::UPGRADE) {
            self.ws(channel, payload).open().await
        } else {
            self.sse(channel).await
        }
    }

    /// Server-sent events: `event`, `id` and `data` of each, a `ready` when the client is up to date, and
    /// a `gap` where something is missing. Problem when the channel's name is no key, the place to go on
    /// after is none of this channel, or there are too many connections.
    pub async fn sse(&self, channel: &str) -> Result<HttpResponse, Problem> {
        sse::open(self, channel)
    }

    /// A WebSocket, opened by [`Socket::open`]. It carries the same as an event stream, each as a JSON
    /// text `{"event": …, "id": …, "data": …}`.
    pub fn ws(&self, channel: &str, payload: web::Payload) -> Socket<'_> {
        Socket::new(self, channel, payload)
    }

    /// Joins the channel where the client left it.
    fn join(&self, channel: &str, transport: Transport) -> Result<Follow, Problem> {
        Channel::at(channel).address().map_err(|error| {
            Problem::of(&MALFORMED_PATH).fault(Place::Parameter("channel".to_owned()), error.to_string())
        })?;
        let node = self.shared.node.shared();
        let after = self.after(channel)?;
        join(node, channel, transport, after).map_err(|full| {
            let (what, most) = match full {
                Full::Node => ("This node", node.settings.live.connections),
                Full::Channel => ("The channel", node.settings.live.per_channel),
            };
            Problem::of(&TOO_MANY_CONNECTIONS)
                .detail(format!("{what} has its {most} connections."))
                .retry_after(Duration::from_secs(5))
        })
    }

    /// After what the client wants to go on. An `EventSource` that reconnects by itself says that in a
    /// header, and still has the query it began with.
    fn after(&self, channel: &str) -> Result<Option<Mark>, Problem> {
        let bad = |class, place, why: Bad| {
            let reason = match why {
                Bad::Malformed => "expected the id of an event, 48 hexadecimal digits",
                Bad::Foreign => "this is no id of an event of this channel",
            };
            Problem::of(class).fault(place, reason)
        };
        let secret = self.shared.node.shared().backend.secret();
        if let Some(id) = self.req.headers().get("last-event-id").filter(|id| !id.is_empty()) {
            let mark = Mark::read(id.to_str().unwrap_or_default(), channel, &secret);
            return mark.map(Some).map_err(|why| bad(&MALFORMED_HEADER, Place::Header("Last-Event-ID".into()), why));
        }
        let query = form_urlencoded::parse(self.req.query_string().as_bytes());
        let Some((_, id)) = query.into_iter().find(|(name, id)| name == "after" && !id.is_empty()) else {
            return Ok(None);
        };
        let mark = Mark::read(&id, channel, &secret);
        mark.map(Some).map_err(|why| bad(&MALFORMED_QUERY, Place::Parameter("after".to_owned()), why))
    }

    /// How long this client waits before it comes back, in milliseconds.
    fn wait(&self) -> u64 {
        let node = self.shared.node.shared();
        wait(node.random(), LEAST, node.settings.live.spread)
    }
}

impl FromRequest for Live {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Shared::of(req).map(|shared| Self { req: req.clone(), shared: shared.clone() }))
    }
}
