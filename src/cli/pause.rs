//! `pause`, `resume`, `paused` and `cancel`: holding back a kind of actors or one of them, and ending all that
//! waits there.

use clap::Args;
use serde_json::{Value, json};

use super::{
    Context, Verdict,
    nodes::{cell, items},
    output::{Tone, moment, table},
    parsed,
    sure::sure,
    target::{Place, Target},
    trouble::Trouble,
};
use crate::{backend::Scope, clock::Clock};

/// Pause a kind of actors, or one of them
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom pause mail                 nothing of kind mail is handled until it is resumed
  greenroom pause order/42
  greenroom paused

What is told to it is accepted and waits. What runs goes on until it ends, or waits for something.
It stays paused over restarts, on every node.")]
pub(super) struct Pause {
    /// KIND or KIND/KEY
    #[arg(value_name = "KIND[/KEY]", value_parser = parsed::<Scope>)]
    scope: Scope,
    #[command(flatten)]
    place: Place,
}

/// Resume what was paused
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom resume mail
  greenroom resume order/42

A key that was paused by itself stays so when its kind is resumed.")]
pub(super) struct Resume {
    /// KIND or KIND/KEY
    #[arg(value_name = "KIND[/KEY]", value_parser = parsed::<Scope>)]
    scope: Scope,
    #[command(flatten)]
    place: Place,
}

/// List what is paused
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom paused
  greenroom paused --json | jq -r '.items[].kind'")]
pub(super) struct Paused {
    #[command(flatten)]
    place: Place,
}

/// Cancel everything of a kind, or of one key, that waits
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom pause mail                 first, so that no more of it begins meanwhile
  greenroom cancel mail
  greenroom cancel order/42 --yes

What has not begun is cancelled; what has begun and waits for something is told to end, and undoes what it
did. Needs a running server.")]
pub(super) struct Cancel {
    /// KIND or KIND/KEY
    #[arg(value_name = "KIND[/KEY]", value_parser = parsed::<Scope>)]
    scope: Scope,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    place: Place,
}

impl Pause {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        let scope = self.scope.clone();
        let changed = match self.place.target(cx)? {
            Target::Server(server) => changed(&server.post("/admin/pause", &json!(self.scope))?),
            Target::Store(store) => store.write(|backend| async move {
                // Nobody serves it, so nobody says which kinds there are.
                backend.pause(self.scope, Clock::System.now()).await
            })?,
        };
        say(cx, &scope, changed, "paused", "was paused already")?;
        cx.out.next(format!("greenroom resume {scope}"));
        Ok(Verdict::Fine)
    }
}

impl Resume {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        let scope = self.scope.clone();
        let changed = match self.place.target(cx)? {
            Target::Server(server) => changed(&server.post("/admin/resume", &json!(self.scope))?),
            Target::Store(store) => store.write(|backend| async move { backend.resume(self.scope).await })?,
        };
        say(cx, &scope, changed, "resumed", "was not paused")?;
        // Resuming by name what is not paused is a mistake worth an exit code.
        Ok(if changed { Verdict::Fine } else { Verdict::Wrong })
    }
}

impl Paused {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        let paused = match self.place.target(cx)? {
            Target::Server(server) => server.get("/admin/paused")?,
            Target::Store(store) => {
                store.read(|backend| async move { Ok(json!({ "items": backend.paused().await? })) })?
            }
        };
        let out = &cx.out;
        if out.json {
            out.value(&paused)?;
            return Ok(Verdict::Fine);
        }
        let items = items(&paused);
        if items.is_empty() {
            out.line("Nothing is paused.");
            return Ok(Verdict::Fine);
        }
        let head = ["KIND", "KEY", "SINCE"].map(str::to_owned).to_vec();
        let row = |item: &Value| {
            let since = item.get("since").and_then(Value::as_i64).map_or_else(|| "-".to_owned(), moment);
            vec![cell(item, "kind"), cell(item, "key"), since]
        };
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(items.iter().map(row)).collect();
        for (i, line) in table(&rows).iter().enumerate() {
            out.line(if i == 0 { out.tone(Tone::Dim, line) } else { line.clone() });
        }
        out.next("greenroom resume KIND or KIND/KEY");
        Ok(Verdict::Fine)
    }
}

impl Cancel {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        if !self.yes {
            let what = format!("all that waits of {}", self.scope);
            sure(&format!("cancelling {what} cannot be undone"), &format!("Cancel {what}?"))?;
        }
        let Target::Server(server) = self.place.target(cx)? else {
            return Err(Trouble::new("no server runs, and only one can tell what has begun")
                .help("start it: greenroom serve; pause the kind first if nothing of it may run"));
        };
        let (mut cancelled, mut asked) = (0, 0);
        // A server does so many at once and says when more are left.
        for _ in 0..1000 {
            let answer = server.post("/admin/cancel", &json!(self.scope))?;
            let number = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
            cancelled += number("cancelled");
            asked += number("asked");
            if answer.get("more") != Some(&Value::Bool(true)) {
                break;
            }
        }
        if cx.out.json {
            cx.out.value(&json!({ "cancelled": cancelled, "asked": asked }))?;
        } else {
            let told = if asked > 0 { format!(", {asked} told to end") } else { String::new() };
            cx.out.line(format!("{cancelled} cancelled{told}."));
        }
        Ok(Verdict::Fine)
    }
}

fn changed(answer: &Value) -> bool {
    answer.get("changed") == Some(&Value::Bool(true))
}

fn say(cx: &Context, scope: &Scope, changed: bool, done: &str, nothing: &str) -> Result<(), Trouble> {
    if cx.out.json {
        return cx.out.value(&json!({ "changed": changed }));
    }
    cx.out.line(format!("{scope} {}.", if changed { done } else { nothing }));
    Ok(())
}
