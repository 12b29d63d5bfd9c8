//! A channel as a stream of server-sent events. Invariant: the stream ends between two events, never
//! within one, and with a hint when to come back.

use std::{convert::Infallible, pin::Pin, sync::Arc};

use actix_web::{HttpResponse, http::header, web::Bytes};
use futures_util::{Stream, stream::unfold};
use tokio::time::{Instant, sleep_until};

use super::{super::shared::Shared, Live};
use crate::{
    coordination::live::{
        follow::{Follow, Next},
        line::{Transport, Why},
    },
    gateway::problem::Problem,
};

/// Opens the stream, or says why not.
pub(super) fn open(live: &Live, channel: &str) -> Result<HttpResponse, Problem> {
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((header::CONTENT_TYPE, "text/event-stream"))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Proxies of the nginx family hold events back otherwise.
        .insert_header(("x-accel-buffering", "no"));
    let retry = live.wait();
    if live.shared.is_retiring() {
        // An event source does not come back after an error.
        return Ok(answer.body(format!("retry: {retry}\n\n")));
    }
    let follow = live.join(channel, Transport::Events)?;
    let shared = live.shared.clone();
    let retired = Box::pin({
        let shared = shared.clone();
        async move { shared.retired().await }
    });
    let beat = Instant::now() + shared.settings.heartbeat;
    Ok(answer.streaming(stream(Streaming { shared, follow, retry, retired, beat, over: false })))
}

struct Streaming {
    shared: Arc<Shared>,
    follow: Follow,
    /// In milliseconds.
    retry: u64,
    retired: Pin<Box<dyn Future<Output = ()>>>,
    beat: Instant,
    over: bool,
}

fn stream(state: Streaming) -> impl Stream<Item = Result<Bytes, Infallible>> {
    unfold(state, |mut state| async move { state.next().await.map(|bytes| (Ok(bytes), state)) })
}

impl Streaming {
    /// The next bytes to send; `None` when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let metrics = self.shared.node.metrics().live();
        let next = tokio::select! {
            biased;
            () = &mut self.retired => {
                metrics.ended("moving");
                self.over = true;
                return Some(format!("retry: {}\n\n", self.retry).into());
            }
            next = self.follow.next() => next,
            () = sleep_until(self.beat) => {
                self.beat = Instant::now() + self.shared.settings.heartbeat;
                return Some(Bytes::from_static(b": still here\n\n"));
            }
        };
        self.beat = Instant::now() + self.shared.settings.heartbeat;
        let said = |event: &str, mark| format!("event: {event}\nid: {}\ndata: {{}}\n\n", self.follow.token(mark));
        Some(match next {
            Next::Event(frame) => frame.sse(),
            Next::Gap(mark) => said("gap", mark).into(),
            Next::Ready(mark) => format!("retry: {}\n{}", self.retry, said("ready", mark)).into(),
            Next::Over(why) => {
                metrics.ended(match why {
                    Why::Slow => "slow",
                    Why::Disconnected => "disconnected",
                });
                return None;
            }
        })
    }
}
