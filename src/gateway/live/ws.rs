//! A channel as a WebSocket (RFC 6455). Invariant: a connection whose client is silent, too slow, or breaks
//! the protocol is closed with a code and a reason, and what it was not sent is there when it resumes.

use std::{
    pin::Pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{HttpResponse, rt, web};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, ProtocolError, Session};
use bytestring::ByteString;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval_at, timeout};

use super::{
    Live,
    inbound::{Meaning, Told, accept},
    origin,
};
use crate::{
    coordination::live::{
        follow::{Follow, Next},
        line::{Transport, Why, said},
    },
    error::Result,
    gateway::{problem::Problem, problems::NOT_READY, shared::Shared},
};

/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// A WebSocket about to be opened.
#[must_use = "nothing is opened before `open` is awaited"]
pub struct Socket<'a> {
    live: &'a Live,
    channel: Rc<str>,
    payload: web::Payload,
    meaning: Option<Meaning>,
}

impl<'a> Socket<'a> {
    pub(super) fn new(live: &'a Live, channel: &str, payload: web::Payload) -> Self {
        Self { live, channel: channel.into(), payload, meaning: None }
    }

    /// Takes messages of the client too, each a JSON text `{"ref": …, "data": …}`: `meaning` is given the
    /// data, as JSON, and says which actor is told what. The client is answered `accepted` with the id of
    /// the request once that is durable, or `refused` with a problem; each names the `ref`, 1 to 64
    /// visible characters that the client chose. The same `ref` on the same channel is accepted once.
    ///
    /// Without this a client that says something is closed with 1008.
    pub fn on_message(self, meaning: impl Fn(&str) -> Result<Told> + 'static) -> Self {
        Self { meaning: Some(Rc::new(meaning)), ..self }
    }

    /// Opens it. Problem when the client asks for no WebSocket or comes from a page that may not, when the
    /// channel's name is no key, the place to go on after is none of this channel, there are too many
    /// connections, or this node is going.
    pub async fn open(self) -> Result<HttpResponse, Problem> {
        let Self { live, channel, payload, meaning } = self;
        let shared = live.shared.clone();
        origin::check(&live.req, &shared.settings.cors_origins)?;
        if shared.is_retiring() {
            let problem = Problem::of(&NOT_READY).detail("This node is draining.");
            return Err(problem.retry_after(Duration::from_secs(1)));
        }
        let handshake = actix_ws::handle(&live.req, payload);
        let (answer, session, messages) = handshake.map_err(|error| Problem::new(400).detail(error.to_string()))?;
        let follow = live.join(&channel, Transport::Websocket)?;
        let most = shared.node.shared().settings.live.message_bytes;
        let messages = messages.max_frame_size(most).aggregate_continuations().max_continuation_size(most);
        let (wait, heard) = (live.wait(), Instant::now());
        rt::spawn(Serving { shared, channel, follow, session, meaning, wait, heard, accepting: None }.serve(messages));
        Ok(answer)
    }
}

/// Why a connection ends.
enum Ending {
    /// The node drains.
    Moving,
    /// More waited for it than may, or what it was sent did not get out.
    Slow,
    /// Its client says nothing, not even that it is there.
    Silent,
    /// Somebody here wanted it.
    Disconnected,
    /// Its client did what it may not.
    Refused(CloseCode, String),
    /// Its client closed it, or has gone.
    Gone,
}

/// An open WebSocket.
struct Serving {
    shared: Arc<Shared>,
    channel: Rc<str>,
    follow: Follow,
    session: Session,
    meaning: Option<Meaning>,
    /// How long its client is to wait if the node drains, in milliseconds.
    wait: u64,
    /// When its client last said anything.
    heard: Instant,
    /// The answer to a message. Until it is there no other is read: they are accepted in order.
    accepting: Option<Pin<Box<dyn Future<Output = String>>>>,
}

impl Serving {
    async fn serve(mut self, mut messages: AggregatedMessageStream) {
        let retiring = self.shared.clone();
        let mut retired = Box::pin(retiring.retired());
        let heartbeat = self.shared.settings.heartbeat;
        let mut beat = interval_at(tokio::time::Instant::now() + heartbeat, heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ending = loop {
            let reads = self.accepting.is_none();
            let accepting = async {
                match &mut self.accepting {
                    Some(accepting) => accepting.await,
                    None => std::future::pending().await,
                }
            };
            let went = tokio::select! {
                () = &mut retired => Err(Ending::Moving),
                next = self.follow.next() => self.give(next).await,
                answer = accepting => {
                    self.accepting = None;
                    self.write(answer.into()).await
                }
                message = messages.recv(), if reads => self.take(message).await,
                _ = beat.tick() => self.beat(heartbeat).await,
            };
            if let Err(ending) = went {
                break ending;
            }
        };
        self.end(ending).await;
    }

    async fn give(&mut self, next: Next) -> Result<(), Ending> {
        let said = |event, mark| said(event, Some(&self.follow.token(mark)), "{}").into();
        let text = match next {
            Next::Event(frame) => frame.ws(),
            Next::Ready(mark) => said("ready", mark),
            Next::Gap(mark) => said("gap", mark),
            Next::Over(why) => return Err(why.into()),
        };
        self.write(text).await
    }

    /// Hands a text over. It waits when the client reads slowly, and not for ever.
    async fn write(&mut self, text: ByteString) -> Result<(), Ending> {
        let limit = self.shared.settings.heartbeat * 2;
        tokio::select! {
            sent = timeout(limit, self.session.text(text)) => match sent {
                Ok(sent) => sent.map_err(|_| Ending::Gone),
                Err(_) => Err(Ending::Slow),
            },
            why = self.follow.line().over() => Err(why.into()),
        }
    }

    async fn take(&mut self, message: Option<Result<AggregatedMessage, ProtocolError>>) -> Result<(), Ending> {
        self.heard = Instant::now();
        let refuse = |code, why: &str| Err(Ending::Refused(code, why.to_owned()));
        let Some(message) = message else { return Err(Ending::Gone) };
        match message {
            Ok(AggregatedMessage::Text(text)) => match &self.meaning {
                Some(meaning) => {
                    let (shared, channel) = (self.shared.clone(), self.channel.clone());
                    self.accepting = Some(Box::pin(accept(shared, channel, meaning.clone(), text)));
                    Ok(())
                }
                None => refuse(CloseCode::Policy, "this connection takes no messages"),
            },
            Ok(AggregatedMessage::Binary(_)) => refuse(CloseCode::Unsupported, "expected text"),
            Ok(AggregatedMessage::Ping(bytes)) => self.session.pong(&bytes).await.map_err(|_| Ending::Gone),
            Ok(AggregatedMessage::Pong(_)) => Ok(()),
            Ok(AggregatedMessage::Close(_)) => Err(Ending::Gone),
            Err(ProtocolError::Overflow) => refuse(CloseCode::Size, "the message is too large"),
            // So the stream says that the parts of a message are too large together.
            Err(ProtocolError::Io(error)) if error.kind() == std::io::ErrorKind::Other => {
                refuse(CloseCode::Size, "the message is too large, or the connection broke")
            }
            Err(error) => Err(Ending::Refused(CloseCode::Protocol, error.to_string())),
        }
    }

    /// Asks whether the client is there.
    async fn beat(&mut self, heartbeat: Duration) -> Result<(), Ending> {
        if self.heard.elapsed() > heartbeat * 5 / 2 {
            return Err(Ending::Silent);
        }
        match timeout(heartbeat, self.session.ping(b"")).await {
            Ok(sent) => sent.map_err(|_| Ending::Gone),
            Err(_) => Err(Ending::Slow),
        }
    }

    async fn end(mut self, ending: Ending) {
        let code = |code: CloseCode, why: &str| Some(CloseReason { code, description: Some(why.to_owned()) });
        let (label, reason) = match ending {
            Ending::Moving => {
                let wait = self.wait;
                let moving = said("moving", None, &json!({ "wait_ms": wait }).to_string());
                // What cannot be said is in the reason too.
                let _ = timeout(FAREWELL, self.session.text(moving)).await;
                ("moving", code(CloseCode::Restart, &format!("this node restarts: come back in {wait} ms")))
            }
            Ending::Slow => ("slow", code(CloseCode::Again, "too slow: come back and resume")),
            Ending::Silent => ("silent", code(CloseCode::Policy, "no sign of life")),
            Ending::Disconnected => ("disconnected", code(CloseCode::Other(4001), "disconnected: do not come back")),
            Ending::Refused(code, why) => ("refused", Some(CloseReason { code, description: Some(why) })),
            Ending::Gone => ("", None),
        };
        if !label.is_empty() {
            self.shared.node.metrics().live().ended(label);
        }
        // Nobody may be there to read it.
        let _ = timeout(FAREWELL, self.session.close(reason)).await;
    }
}

impl From<Why> for Ending {
    fn from(why: Why) -> Self {
        match why {
            Why::Slow => Self::Slow,
            Why::Disconnected => Self::Disconnected,
        }
    }
}
