//! `request`: how something that was promised stands.

use std::{sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Context, Verdict,
    http::Server,
    output::{Output, Tone, moment},
    parsed, story,
    target::{Place, Target},
    trouble::Trouble,
};
use crate::{
    backend::{Acquired, Backend},
    clock::Clock,
    envelope::Position,
    error::Error,
    request::RequestId,
    runtime::{
        story::tell,
        view::{Found, View},
    },
};

/// See how a request stands and what it did, follow it, or cancel it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom request show 018f2c9e-…         what it did, and what it waits for
  greenroom request watch 018f2c9e-…        every change until it ends
  greenroom request cancel 018f2c9e-…       what has not begun, or waits

`watch` exits 0 when it completed, 1 when it ended in any other way.")]
pub(super) struct Request {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Show how it stands, what it did, and what it waits for
    Show(One),
    /// Follow it until it ends
    Watch(One),
    /// Cancel it if no attempt has begun; tell it to end if it waits
    Cancel(One),
}

#[derive(Args, Debug)]
struct One {
    /// The request's id, as in the Location header
    #[arg(value_parser = parsed::<RequestId>)]
    id: RequestId,
    #[command(flatten)]
    place: Place,
}

impl Request {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        let (Verb::Show(one) | Verb::Watch(one) | Verb::Cancel(one)) = &self.verb;
        let (id, target) = (one.id, one.place.target(cx)?);
        match (&self.verb, target) {
            (Verb::Show(_), Target::Server(server)) => match server.open(&format!("/requests/{id}/journal"))? {
                Some(story) => print(cx, &story),
                None => {
                    let shown = print(cx, &server.get(&format!("/requests/{id}"))?);
                    cx.out.next("set GREENROOM_ADMIN__TOKEN to see what it did");
                    shown
                }
            },
            (Verb::Show(_), Target::Store(store)) => print(cx, &store.read(|backend| story_of(backend, id))?),
            (Verb::Watch(_), Target::Server(server)) => watch(cx, &server, id),
            (Verb::Watch(_), Target::Store(_)) => {
                Err(Trouble::new("no server runs, so nothing will happen to it").help("start one: greenroom serve"))
            }
            (Verb::Cancel(_), Target::Server(server)) => print(cx, &server.delete(&format!("/requests/{id}"))?),
            (Verb::Cancel(_), Target::Store(store)) => print(
                cx,
                &store.write(|backend| async move {
                    let position = id.open(&backend.secret()).ok_or_else(|| unknown(id))?;
                    let lease = match backend.acquire(position.partition()).await? {
                        Acquired::Taken(lease) => lease,
                        Acquired::Held(node) => return Err(Error::new(format!("node {node} runs it: ask a server"))),
                    };
                    let cancelled = backend.cancel(lease, position, Clock::System.now()).await;
                    // What was suspect before is suspect still.
                    if lease.clean {
                        backend.release(lease).await?;
                    }
                    if !cancelled? {
                        return Err(Error::terminal(format!(
                            "{id} cannot be cancelled: it has begun, or ended; one that waits is told to end by a server"
                        )));
                    }
                    look(backend, id).await
                })?,
            ),
        }
    }
}

/// Follows it to its end, through restarts of the server.
fn watch(cx: &Context, server: &Server, id: RequestId) -> Result<Verdict, Trouble> {
    let mut last = Value::Null;
    let mut silent = 0;
    loop {
        let mut heard = false;
        let followed = server.events(&format!("/requests/{id}/events"), |event| {
            heard = true;
            // Connecting again begins with what was seen already.
            let shown = match () {
                () if event == last => Ok(()),
                () if cx.out.json => cx.out.value(&event),
                () => show(&news(&event, &last), &cx.out),
            };
            last = event;
            shown.is_ok() && !ended(&last)
        });
        if ended(&last) {
            return Ok(verdict(&last));
        }
        silent = if heard { 0 } else { silent + 1 };
        match followed {
            // Never reached, or gone for longer than a restart takes.
            Err(trouble) if last.is_null() || silent > 30 => return Err(trouble),
            _ => std::thread::sleep(Duration::from_secs(1)),
        }
    }
}

/// The event without the failure that was shown before: it is told once.
fn news(event: &Value, last: &Value) -> Value {
    let mut event = event.clone();
    if let Some(members) = event.as_object_mut().filter(|members| members.get("error") == last.get("error")) {
        members.remove("error");
    }
    event
}

fn unknown(id: RequestId) -> Error {
    Error::terminal(format!("{id} is no request of this store"))
}

async fn look(backend: Arc<dyn Backend>, id: RequestId) -> crate::Result<Value> {
    Ok(serde_json::to_value(find(&*backend, id).await?.1)?)
}

async fn story_of(backend: Arc<dyn Backend>, id: RequestId) -> crate::Result<Value> {
    let (position, view) = find(&*backend, id).await?;
    Ok(serde_json::to_value(tell(&*backend, position, view).await?)?)
}

async fn find(backend: &dyn Backend, id: RequestId) -> crate::Result<(Position, View)> {
    let position = id.open(&backend.secret()).ok_or_else(|| unknown(id))?;
    let position = backend.locate(position).await?;
    match Found::of(id, backend.lookup(position).await?, None) {
        Found::Here(view) => Ok((position, view)),
        Found::Unknown => Err(unknown(id)),
        Found::Expired => {
            Err(Error::terminal(format!("{id} ended longer ago than results are kept (runtime.retention)")))
        }
        Found::Lost => Err(Error::terminal(format!(
            "{id} was accepted and lost: Redis had not synced it to its disk when it, or its machine, died"
        ))),
    }
}

fn print(cx: &Context, view: &Value) -> Result<Verdict, Trouble> {
    if cx.out.json {
        cx.out.value(view)?;
        return Ok(Verdict::Fine);
    }
    match view.get("entries") {
        Some(_) => story::show(view, &cx.out)?,
        None => show(view, &cx.out)?,
    }
    let id = view.get("request").and_then(Value::as_str).unwrap_or("ID");
    match status(view) {
        "accepted" | "processing" => cx.out.next(format!("greenroom request watch {id}")),
        "dead-lettered" => cx.out.next(format!("greenroom dead show {id}")),
        _ => {}
    }
    Ok(Verdict::Fine)
}

/// One line for how it stands, and one each for what came of it.
pub(super) fn show(view: &Value, out: &Output) -> Result<(), Trouble> {
    let tone = match status(view) {
        "completed" => Tone::Good,
        "failed" | "dead-lettered" => Tone::Bad,
        "processing" => Tone::Warn,
        _ => Tone::Bold,
    };
    let number = |name: &str| view.get(name).and_then(Value::as_i64);
    let mut line = out.tone(tone, status(view));
    if let Some(attempts) = number("attempts").filter(|n| *n > 0) {
        line += &format!(", {attempts} attempt{}", if attempts == 1 { "" } else { "s" });
    }
    if let Some(next) = number("next_attempt_at") {
        line += &format!(", next at {}", moment(next));
    }
    if let Some(ended) = number("ended_at") {
        line += &format!(", {}", moment(ended));
    }
    out.line(line);
    if let Some(result) = view.get("result") {
        out.line(format!("  result    {result}"));
    }
    if let Some(error) = view.get("error").filter(|error| !error.is_null()) {
        let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        out.line(format!("  error     {}: {}", text("code"), text("message")));
        for cause in error.get("causes").and_then(Value::as_array).into_iter().flatten() {
            out.line(format!("            because {}", cause.as_str().unwrap_or("?")));
        }
    }
    Ok(())
}

pub(super) fn status(view: &Value) -> &str {
    view.get("status").and_then(Value::as_str).unwrap_or("unknown")
}

/// Whether nothing more will happen.
pub(super) fn ended(view: &Value) -> bool {
    matches!(status(view), "completed" | "failed" | "dead-lettered" | "cancelled")
}

/// Completed is fine; ended otherwise is not.
pub(super) fn verdict(view: &Value) -> Verdict {
    if ended(view) && status(view) != "completed" { Verdict::Wrong } else { Verdict::Fine }
}

/// A JSON answer for a request that is merely accepted.
pub(super) fn accepted(id: impl std::fmt::Display) -> Value {
    json!({ "request": id.to_string(), "status": "accepted" })
}
