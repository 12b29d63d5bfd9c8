//! `dead`: messages that were given up. List, look, put back, or give up for good.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    Context, Verdict,
    http::encode,
    letter,
    output::{Tone, table},
    page::Page,
    parsed,
    sure::sure,
    target::{Offline, Place, Target},
    trouble::Trouble,
};
use crate::{
    backend::{Backend, Dead as Letter, DeadFilter},
    clock::Clock,
    envelope::Position,
    error::{Error, Result as Done},
    request::RequestId,
};

/// Look at dead letters, put them back, or discard them
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom dead
  greenroom dead show 018f2c9e-…
  greenroom dead redrive 018f2c9e-…         after the cause is mended
  greenroom dead redrive --kind order
  greenroom dead discard --kind order --key 42

A redriven message starts over with all its attempts. A discarded one ends as cancelled.")]
pub(super) struct Dead {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    place: Place,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// List dead letters, oldest first
    List {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        page: Page,
    },
    /// Show one with every attempt and its cause
    Show {
        /// Its request id
        #[arg(value_parser = parsed::<RequestId>)]
        id: RequestId,
    },
    /// Put dead letters back to be tried anew
    Redrive {
        #[command(flatten)]
        which: Which,
    },
    /// Give dead letters up for good
    Discard {
        #[command(flatten)]
        which: Which,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Args, Clone, Debug, Default)]
struct Of {
    /// Only of this kind
    #[arg(long)]
    kind: Option<String>,
    /// Only of this key
    #[arg(long)]
    key: Option<String>,
}

#[derive(Args, Clone, Debug)]
struct Which {
    /// Request ids
    #[arg(conflicts_with_all = ["kind", "key", "all"], value_parser = parsed::<RequestId>)]
    ids: Vec<RequestId>,
    #[command(flatten)]
    of: Of,
    /// All of them
    #[arg(long, conflicts_with_all = ["kind", "key"])]
    all: bool,
}

impl Which {
    fn body(&self) -> Value {
        match &self.of {
            _ if !self.ids.is_empty() => json!({ "ids": self.ids }),
            Of { kind: Some(kind), key: Some(key) } => json!({ "kind": kind, "key": key }),
            Of { kind: Some(kind), .. } => json!({ "kind": kind }),
            Of { key: Some(key), .. } => json!({ "key": key }),
            _ => json!({ "all": true }),
        }
    }

    fn words(&self) -> String {
        match &self.of {
            Of { kind: Some(kind), key: Some(key) } => format!("every dead letter of {kind}/{key}"),
            Of { kind: Some(kind), .. } => format!("every dead letter of kind {kind}"),
            Of { key: Some(key), .. } => format!("every dead letter of key {key}"),
            _ if self.all => "every dead letter".into(),
            _ => format!("{} dead letter{}", self.ids.len(), if self.ids.len() == 1 { "" } else { "s" }),
        }
    }

    /// Nothing named is no wish for everything.
    fn check(&self) -> Result<(), Trouble> {
        if self.ids.is_empty() && self.of.kind.is_none() && self.of.key.is_none() && !self.all {
            return Err(
                Trouble::usage("which dead letters?").help("name request ids, --kind KIND, --key KEY, or --all")
            );
        }
        Ok(())
    }
}

impl Dead {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        let verb = self.verb.unwrap_or(Verb::List { of: Of::default(), page: Page::default() });
        if let Verb::Redrive { which, .. } | Verb::Discard { which, .. } = &verb {
            which.check()?;
        }
        match verb {
            Verb::List { of, page } => list(cx, self.place.target(cx)?, &of, &page),
            Verb::Show { id } => show(cx, self.place.target(cx)?, id),
            Verb::Redrive { which } => change(cx, self.place.target(cx)?, &which, Change::Redrive),
            Verb::Discard { which, yes } => {
                if !yes {
                    let what = which.words();
                    sure(&format!("discarding {what} cannot be undone"), &format!("Discard {what} for good?"))?;
                }
                change(cx, self.place.target(cx)?, &which, Change::Discard)
            }
        }
    }
}

fn list(cx: &Context, target: Target, of: &Of, page: &Page) -> Result<Verdict, Trouble> {
    let page = match target {
        Target::Server(server) => {
            let mut path = format!("/admin/dead-letters?limit={}", page.limit);
            for (name, value) in
                [("kind", of.kind.as_deref()), ("key", of.key.as_deref()), ("cursor", page.cursor.as_deref())]
            {
                path += &value.map(|value| format!("&{name}={}", encode(value))).unwrap_or_default();
            }
            server.get(&path)?
        }
        Target::Store(store) => {
            let (filter, limit) = (filter(of), usize::from(page.limit));
            let after = page.cursor.as_deref().map(str::parse::<RequestId>).transpose()?;
            store.read(|backend| async move {
                let secret = backend.secret();
                let after = match after {
                    Some(id) => Some(position(&*backend, id).await?),
                    None => None,
                };
                let letters = backend.dead(filter, after, limit).await?;
                let cursor = letters.last().filter(|_| letters.len() == limit);
                Ok(json!({
                    "items": letters.iter().map(|dead| letter::of(dead, &secret)).collect::<Vec<_>>(),
                    "cursor": cursor.map(|dead| RequestId::seal(dead.position, &secret)),
                }))
            })?
        }
    };
    let out = &cx.out;
    if out.json {
        out.value(&page)?;
        return Ok(Verdict::Fine);
    }
    let letters = page.get("items").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if letters.is_empty() {
        out.line(format!("{} No dead letters.", out.tone(Tone::Good, "Good.")));
        return Ok(Verdict::Fine);
    }
    let head = ["REQUEST", "TO", "GIVEN UP", "ATTEMPTS", "LAST FAILURE"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(letters.iter().map(letter::row)).collect();
    for (i, line) in table(&rows).iter().enumerate() {
        out.line(if i == 0 { out.tone(Tone::Dim, line) } else { line.clone() });
    }
    if let Some(cursor) = page.get("cursor").and_then(Value::as_str) {
        out.line(format!("… more: --cursor {cursor}"));
    }
    out.next("greenroom dead show ID, and greenroom dead redrive ID when the cause is mended");
    Ok(Verdict::Fine)
}

fn show(cx: &Context, target: Target, id: RequestId) -> Result<Verdict, Trouble> {
    let found = match target {
        Target::Server(server) => server.get(&format!("/admin/dead-letters/{id}"))?,
        Target::Store(store) => store.read(|backend| async move {
            let position = Some(position(&*backend, id).await?);
            let filter = DeadFilter { position, ..DeadFilter::default() };
            let letters = backend.dead(filter, None, 1).await?;
            let none = || Error::terminal(format!("{id} is not among the dead letters"));
            Ok(letter::of(letters.first().ok_or_else(none)?, &backend.secret()))
        })?,
    };
    if cx.out.json {
        cx.out.value(&found)?;
    } else {
        letter::show(&found, &cx.out);
        cx.out.next(format!("greenroom dead redrive {id}, or greenroom dead discard {id}"));
    }
    Ok(Verdict::Fine)
}

#[derive(Clone, Copy)]
enum Change {
    Redrive,
    Discard,
}

fn change(cx: &Context, target: Target, which: &Which, change: Change) -> Result<Verdict, Trouble> {
    let (verb, done) = match change {
        Change::Redrive => ("redrive", "redriven"),
        Change::Discard => ("discard", "discarded"),
    };
    let running = matches!(target, Target::Server(_));
    let count = match target {
        Target::Server(server) => {
            let mut total = 0;
            // A server touches so many at once and says when more are left. One that was redriven
            // and died again is left for the next time, or this would never end.
            for _ in 0..1000 {
                let answer = server.post(&format!("/admin/dead-letters/{verb}"), &which.body())?;
                total += answer.get("count").and_then(Value::as_u64).unwrap_or(0);
                if answer.get("more") != Some(&Value::Bool(true)) {
                    break;
                }
            }
            total
        }
        Target::Store(store) => offline(&store, which, change)?,
    };
    // Asking for letters by name and finding fewer is a mistake worth an exit code.
    let missing = (which.ids.len() as u64).saturating_sub(count);
    if cx.out.json {
        cx.out.value(&json!({ "count": count, "missing": missing }))?;
    } else {
        cx.out
            .line(format!("{count} {done}{}", if missing > 0 { format!(", {missing} not found") } else { ".".into() }));
        if count > 0 && matches!(change, Change::Redrive) {
            cx.out.next(if running { "greenroom dead, in a moment" } else { "greenroom serve, which runs them" });
        }
    }
    Ok(if missing > 0 { Verdict::Wrong } else { Verdict::Fine })
}

fn offline(store: &Offline, which: &Which, change: Change) -> Result<u64, Trouble> {
    const AT_ONCE: usize = 1000;
    let (ids, filter, now) = (which.ids.clone(), filter(&which.of), Clock::System.now());
    store.write(|backend| async move {
        let apply = |positions: Vec<Position>| match change {
            Change::Redrive => backend.redrive(positions, now),
            Change::Discard => backend.discard(positions, now),
        };
        if !ids.is_empty() {
            let mut positions: Vec<Position> = Vec::with_capacity(ids.len());
            for id in &ids {
                positions.push(position(&*backend, *id).await?);
            }
            return Ok(apply(positions).await? as u64);
        }
        let (mut total, mut after) = (0, None);
        loop {
            let letters = backend.dead(filter.clone(), after, AT_ONCE).await?;
            let positions: Vec<Position> = letters.iter().map(|Letter { position, .. }| *position).collect();
            let Some(last) = positions.last().copied() else { return Ok(total) };
            total += apply(positions).await? as u64;
            after = Some(last);
        }
    })
}

fn filter(of: &Of) -> DeadFilter {
    DeadFilter { kind: of.kind.clone(), key: of.key.clone(), position: None }
}

async fn position(backend: &dyn Backend, id: RequestId) -> Done<Position> {
    let none = || Error::terminal(format!("{id} is no request of this store"));
    backend.locate(id.open(&backend.secret()).ok_or_else(none)?).await
}
