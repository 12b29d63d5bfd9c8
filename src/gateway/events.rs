//! Server-sent events of one request: its view at each change, until it ends.
//! Invariant: the number of open streams is bounded, and a silent one shows that it lives.

use std::{convert::Infallible, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderMap, HeaderName},
    web::Bytes,
};
use futures_util::{Stream, stream::unfold};
use tokio::time::{Instant, sleep_until};
use xxhash_rust::xxh3::xxh3_64;

use super::{
    follow::Follow,
    problem::Problem,
    problems::TOO_MANY_STREAMS,
    requests::here,
    shared::{Shared, StreamPlace},
};
use crate::{
    request::RequestId,
    runtime::view::{Found, View},
};

static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Whether the client asks for events rather than for one answer.
pub(crate) fn wanted(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).filter_map(|accept| accept.to_str().ok()).any(|accept| {
        accept.split(',').any(|kind| {
            kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
        })
    })
}

/// Opens the stream, or says why not.
pub(crate) async fn open(req: &HttpRequest, id: RequestId) -> Result<HttpResponse, Problem> {
    let shared = Shared::of(req)?;
    let place =
        shared.stream().ok_or_else(|| Problem::of(&TOO_MANY_STREAMS).retry_after(std::time::Duration::from_secs(5)))?;
    let mut follow = Follow::of(&shared.node, id).await;
    let found = follow.look().await.map_err(|error| Problem::unavailable("looking for a request", &error))?;
    let first = Event::of(&here(found)?);
    let seen = req.headers().get(&LAST_EVENT_ID).and_then(|id| id.to_str().ok());
    let seen = seen.filter(|seen| *seen == first.id).map(str::to_owned);
    if first.last && seen.is_some() {
        // An event source reconnects for ever, unless it is told that there is no more.
        return Ok(HttpResponse::NoContent().finish());
    }
    let state = Streaming {
        shared: shared.clone(),
        follow,
        ended: first.last,
        sent: seen.is_some().then(|| first.id.clone()),
        first: seen.is_none().then_some(first),
        _place: place,
    };
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Proxies of the nginx family hold events back otherwise.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(stream(state)))
}

/// One `status` event.
struct Event {
    id: String,
    text: Bytes,
    last: bool,
}

impl Event {
    fn of(view: &View) -> Self {
        // A view always encodes: it came from JSON and numbers.
        let data = serde_json::to_string(view).unwrap_or_default();
        // The same on every node, so a client that reconnects elsewhere misses and repeats nothing.
        let id = format!("{:016x}", xxh3_64(data.as_bytes()));
        let text = Bytes::from(format!("event: status\nid: {id}\nretry: 1000\ndata: {data}\n\n"));
        Self { id, text, last: view.status.ended() }
    }
}

struct Streaming {
    shared: Arc<Shared>,
    follow: Follow,
    first: Option<Event>,
    sent: Option<String>,
    ended: bool,
    _place: StreamPlace,
}

fn stream(state: Streaming) -> impl Stream<Item = Result<Bytes, Infallible>> {
    unfold(state, |mut state| async move { state.next().await.map(|bytes| (Ok(bytes), state)) })
}

impl Streaming {
    /// The next bytes to send; `None` when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            self.sent = Some(first.id);
            return Some(first.text);
        }
        if self.ended {
            return None;
        }
        let heartbeat = Instant::now() + self.shared.settings.heartbeat;
        loop {
            tokio::select! {
                () = self.follow.changed() => {}
                () = sleep_until(heartbeat) => return Some(Bytes::from_static(b": still here\n\n")),
                // The client connects again, to a node that stays.
                () = self.shared.retired() => return None,
            }
            let event = match self.follow.look().await {
                Ok(Found::Here(view)) => Event::of(&view),
                Ok(Found::Unknown | Found::Expired | Found::Lost) => return None,
                Err(error) => {
                    tracing::debug!(reason = %error, "looking for a request failed, will look again");
                    continue;
                }
            };
            if self.sent.as_ref() != Some(&event.id) {
                self.ended = event.last;
                self.sent = Some(event.id);
                return Some(event.text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    #[test]
    fn events_are_only_for_who_asks() {
        let asks = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            wanted(&headers)
        };
        assert!(asks("text/event-stream") && asks("application/json, Text/Event-Stream;q=0.9"));
        assert!(!asks("application/json") && !asks("*/*") && !asks("text/*"));
    }
}
