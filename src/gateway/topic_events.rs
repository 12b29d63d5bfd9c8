//! Server-sent events of a topic, as they come. Invariant: a stream holds nothing but its cursor and one
//! page, and who reads too slowly is read for no further.

use std::{convert::Infallible, fmt::Write, sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, http::header, web::Bytes};
use futures_util::stream::unfold;
use tokio::time::{Instant, sleep};

use super::{
    problem::Problem,
    problems::TOO_MANY_STREAMS,
    shared::{Shared, StreamPlace},
    topics::unknown,
};
use crate::coordination::topic::read::{Cursor, Events};

/// How often it looks for more when there was none.
const POLL: Duration = Duration::from_millis(500);
/// Events read at once.
const PAGE: usize = 100;

/// Opens the stream, or says why not.
pub(crate) async fn open(req: &HttpRequest, topic: String, cursor: Cursor) -> Result<HttpResponse, Problem> {
    let shared = Shared::of(req)?;
    let place = shared.stream().ok_or_else(|| Problem::of(&TOO_MANY_STREAMS).retry_after(Duration::from_secs(5)))?;
    shared.node.topic(&topic).await?.ok_or_else(unknown)?;
    let state = Streaming { shared: shared.clone(), topic, cursor, _place: place };
    let stream = unfold(state, |mut state| async move {
        let bytes = state.next().await?;
        Some((Ok::<_, Infallible>(bytes), state))
    });
    Ok(HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Proxies of the nginx family hold events back otherwise.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(stream))
}

struct Streaming {
    shared: Arc<Shared>,
    topic: String,
    cursor: Cursor,
    _place: StreamPlace,
}

impl Streaming {
    /// The next bytes to send; `None` when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        let silent = Instant::now() + self.shared.settings.heartbeat;
        loop {
            match self.shared.node.events(&self.topic, &self.cursor, PAGE).await {
                Ok(Some(events)) => {
                    self.cursor = events.cursor.clone();
                    if !events.items.is_empty() || events.missed > 0 {
                        return Some(text(&events));
                    }
                }
                Ok(None) => return None,
                Err(error) => tracing::debug!(reason = %error, "reading a topic failed, will read again"),
            }
            if Instant::now() >= silent {
                return Some(Bytes::from_static(b": still here\n\n"));
            }
            tokio::select! {
                () = sleep(POLL) => {}
                // The client connects again, to a node that stays.
                () = self.shared.retired() => return None,
            }
        }
    }
}

/// A page as events: each with the cursor after it as its id. What is missing is said first.
fn text(events: &Events) -> Bytes {
    let mut text = String::new();
    // Writing into a string cannot fail.
    if events.missed > 0 {
        let _ = write!(text, "event: missed\ndata: {{\"missed\":{}}}\n\n", events.missed);
    }
    for event in &events.items {
        // It came from JSON, text and numbers: it always encodes.
        let data = serde_json::to_string(event).unwrap_or_default();
        let _ = write!(text, "event: event\nid: {}\nretry: 1000\ndata: {data}\n\n", event.cursor);
    }
    text.into()
}
