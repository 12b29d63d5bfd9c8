//! What clients say over a WebSocket: a command for an actor, accepted durably and acknowledged under the
//! reference that the client gave it.
//!
//! Invariant: an `accepted` is sent only for what is durable (G1); the same reference on the same channel is
//! accepted once, so whoever lost its connection before it read that may say it again.

use std::{rc::Rc, sync::Arc};

use serde::Deserialize;
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    actor::Actor,
    address::{Address, At},
    backend::Idempotency,
    coordination::live::line::said,
    error::Result,
    gateway::{
        intake::refused,
        problem::Problem,
        problems::{INVALID, MALFORMED_BODY},
        shared::Shared,
    },
    runtime::node::Accept,
    trace::Trace,
};

/// The longest reference, in bytes.
const MAX_REFERENCE: usize = 64;

/// A command for an actor, which a client's message means.
pub struct Told {
    to: Address,
    command: Box<RawValue>,
}

impl Told {
    /// For this actor. Terminal error when it has no possible key, or the command cannot be stored.
    pub fn new<A: Actor>(to: At<A>, command: &A::Command) -> Result<Self> {
        Ok(Self { to: to.address()?, command: to_raw_value(command)? })
    }
}

/// What a message means, by its author.
pub(super) type Meaning = Rc<dyn Fn(&str) -> Result<Told>>;

/// `{"ref": …, "data": …}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Message<'a> {
    #[serde(rename = "ref")]
    reference: String,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Accepts a message; what to answer.
pub(super) async fn accept(shared: Arc<Shared>, channel: Rc<str>, meaning: Meaning, text: impl AsRef<str>) -> String {
    let message: Message<'_> = match serde_json::from_str(text.as_ref()) {
        Ok(message) => message,
        Err(error) => {
            let detail = format!("expected {{\"ref\": …, \"data\": …}}: {error}");
            return answer(None, Err(Problem::of(&MALFORMED_BODY).detail(detail)));
        }
    };
    let fine = message.reference.bytes().all(|byte| byte.is_ascii_graphic());
    if message.reference.is_empty() || message.reference.len() > MAX_REFERENCE || !fine {
        return answer(None, Err(Problem::invalid("/ref", "expected 1 to 64 visible ASCII characters")));
    }
    let accepted = tell(&shared, &channel, &meaning, &message).await;
    answer(Some(&message.reference), accepted)
}

async fn tell(shared: &Shared, channel: &str, meaning: &Meaning, message: &Message<'_>) -> Result<String, Problem> {
    let data = message.data.get();
    let told = meaning(data).map_err(|error| match error.is_terminal() {
        true => Problem::from(error),
        false => Problem::of(&INVALID).detail(error.to_string()),
    })?;
    let retention = shared.settings.idempotency_retention.as_millis().min(i64::MAX as u128) as i64;
    let accept = Accept {
        to: told.to,
        command: told.command,
        due: None,
        trace: Some(Trace::start()),
        idempotency: Some(Idempotency {
            key: format!("live {} {channel}", message.reference),
            fingerprint: xxh3_64(data.as_bytes()),
            answer: "null".to_owned(),
            expires: shared.node.clock().now().saturating_add(retention),
        }),
        fence: None,
        wait: false,
    };
    let accepted = shared.node.accept(accept).await.map_err(refused)?;
    shared.node.metrics().live().message();
    Ok(accepted.request.to_string())
}

fn answer(reference: Option<&str>, accepted: Result<String, Problem>) -> String {
    match accepted {
        Ok(request) => said("accepted", None, &json!({ "ref": reference, "request": request }).to_string()),
        Err(problem) => {
            let problem = problem.text(None);
            let reference = json!(reference);
            said("refused", None, &format!(r#"{{"ref":{reference},"problem":{problem}}}"#))
        }
    }
}
