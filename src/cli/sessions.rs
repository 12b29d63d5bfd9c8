//! `sessions`: where a user is logged in, and ending that.

use clap::Args;
use serde_json::{Value, json};

use super::{
    Context, Verdict,
    http::encode,
    nodes::{cell, items},
    output::{Tone, moment, table},
    target::{Place, Target},
    trouble::Trouble,
};
use crate::{
    backend::sessions::SessionName,
    clock::Clock,
    coordination::session::{SessionInfo, Sessions},
    metrics::Metrics,
};

/// List where a user is logged in, or revoke it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom sessions ann
  greenroom sessions ann --revoke                      everywhere, at once
  greenroom sessions ann --revoke --id w5hKmR0dXq3uVbZ1
  greenroom sessions ann --json | jq '.items[].agent'

A session that is revoked is refused from the next request on. Exits 1 when the one named is not there.")]
pub(super) struct SessionsCommand {
    /// The user, as the product calls it when it logs in
    user: String,
    /// End them instead of listing them
    #[arg(long)]
    revoke: bool,
    /// Only this one, as the list names it
    #[arg(long, value_name = "ID", requires = "revoke", value_parser = super::parsed::<SessionName>)]
    id: Option<SessionName>,
    #[command(flatten)]
    place: Place,
}

impl SessionsCommand {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        let (config, _) = cx.load(self.place.flags())?;
        let settings = config.session.settings();
        let path = format!("/admin/sessions/{}", encode(&self.user));
        let one = self.id.map(|id| format!("/{id}")).unwrap_or_default();
        let answer = match (self.place.resolve(config)?, self.revoke) {
            (Target::Server(server), false) => server.get(&path)?,
            (Target::Server(server), true) => server.delete(&format!("{path}{one}"))?,
            (Target::Store(store), revoke) => {
                let Self { user, id, .. } = self;
                let work = async move |backend| {
                    let sessions = Sessions::new(backend, Clock::System, Metrics::default(), settings);
                    act(&sessions, &user, revoke, id).await
                };
                match revoke {
                    false => store.read(work)?,
                    true => store.write(work)?,
                }
            }
        };
        show(cx, &answer)
    }
}

async fn act(sessions: &Sessions, user: &str, revoke: bool, id: Option<SessionName>) -> crate::Result<Value> {
    Ok(match (revoke, id) {
        (false, _) => json!({ "items": sessions.list(user).await? as Vec<SessionInfo> }),
        (true, None) => json!({ "count": sessions.revoke_all(user).await? }),
        (true, Some(id)) => match sessions.revoke(user, id).await? {
            true => json!({ "count": 1 }),
            false => return Err(crate::Error::terminal("The user has no such session.")),
        },
    })
}

fn show(cx: &Context, answer: &Value) -> Result<Verdict, Trouble> {
    let out = &cx.out;
    if out.json {
        out.value(answer)?;
        return Ok(Verdict::Fine);
    }
    if let Some(count) = answer.get("count").and_then(Value::as_u64) {
        out.line(format!("{count} session{} revoked.", if count == 1 { "" } else { "s" }));
        return Ok(Verdict::Fine);
    }
    let items = items(answer);
    if items.is_empty() {
        out.line("Not logged in anywhere.");
        return Ok(Verdict::Fine);
    }
    let head = ["ID", "SINCE", "SEEN", "UNTIL", "CLIENT"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(items.iter().map(row)).collect();
    for (i, line) in table(&rows).iter().enumerate() {
        out.line(if i == 0 { out.tone(Tone::Dim, line) } else { line.clone() });
    }
    out.next("--revoke ends them, with --id only one");
    Ok(Verdict::Fine)
}

fn row(session: &Value) -> Vec<String> {
    let time = |name: &str| session.get(name).and_then(Value::as_i64).map_or_else(|| "-".to_owned(), moment);
    vec![cell(session, "id"), time("created"), time("seen"), time("until"), cell(session, "agent")]
}
