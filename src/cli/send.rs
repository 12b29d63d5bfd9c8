//! `send`: tells an actor something, as if a client or another actor had.

use std::{
    io::Read,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::{Value, json, value::RawValue};

use super::{
    Context, Verdict,
    http::Server,
    parsed, request,
    target::{Place, Target},
    trouble::Trouble,
};
use crate::{
    Feature,
    address::Address,
    app::App,
    config::{Config, parse_duration},
    error::Error,
    runtime::{node::Accept, view::Found},
};

/// Send a command to an actor
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom send order/42 '\"cancel\"'
  greenroom send order/42 '\"ship\"' --after 5s
  greenroom send order/42 - --wait 10s < command.json

With no server running, one is started for the moment it takes to accept the command (and, with
--wait, to handle it). With --wait it exits 1 if the command ended in any way but completed.")]
pub(super) struct Send {
    /// Address of the actor
    #[arg(value_name = "KIND/KEY", value_parser = parsed::<Address>)]
    to: Address,
    /// The command as the actor's type reads it; - reads standard input
    #[arg(value_name = "JSON", allow_negative_numbers = true)]
    command: String,
    /// Not before this long from now
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    after: Option<Duration>,
    /// Wait this long for the result
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    wait: Option<Duration>,
    #[command(flatten)]
    place: Place,
}

impl Send {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        let command = self.command()?;
        let (config, features) = cx.load(self.place.flags())?;
        let view = match self.place.resolve(config)? {
            Target::Server(server) => self.online(&server, &command)?,
            Target::Store(store) => self.offline(cx, store.config(), features, command)?,
        };
        if cx.out.json {
            cx.out.value(&view)?;
        } else {
            cx.out.line(view.get("request").and_then(Value::as_str).unwrap_or("?"));
            request::show(&view, &cx.out)?;
            if !request::ended(&view) {
                let id = view.get("request").and_then(Value::as_str).unwrap_or("ID");
                cx.out.next(format!("greenroom request watch {id}"));
            }
        }
        Ok(if self.wait.is_some() { request::verdict(&view) } else { Verdict::Fine })
    }

    fn command(&self) -> Result<Box<RawValue>, Trouble> {
        let mut text = self.command.clone();
        if text == "-" {
            text.clear();
            let read = std::io::stdin().read_to_string(&mut text);
            read.map_err(|e| Trouble::new(format!("standard input cannot be read: {e}")))?;
        }
        RawValue::from_string(text.trim().to_owned()).map_err(|e| {
            Trouble::usage(format!("the command is no JSON: {e}"))
                .help("quote it for the shell: '{\"add\":1}', and a plain name as '\"ship\"'")
        })
    }

    fn online(&self, server: &Server, command: &RawValue) -> Result<Value, Trouble> {
        let mut body = json!({ "to": self.to.to_string(), "command": command });
        if let Some(after) = self.after {
            body["after_ms"] = json!(after.as_millis() as u64);
        }
        let mut view = server.post("/admin/send", &body)?;
        let began = Instant::now();
        let mut pause = Duration::from_millis(10);
        while let Some(wait) = self.wait.filter(|wait| began.elapsed() < *wait && !request::ended(&view)) {
            std::thread::sleep(pause.min(wait.saturating_sub(began.elapsed())));
            pause = (pause * 2).min(Duration::from_millis(500));
            let id = view.get("request").and_then(Value::as_str).unwrap_or_default().to_owned();
            view = server.get(&format!("/requests/{id}"))?;
        }
        Ok(view)
    }

    fn offline(
        &self,
        cx: &Context,
        config: Config,
        features: Vec<Feature>,
        command: Box<RawValue>,
    ) -> Result<Value, Trouble> {
        let app = features.into_iter().fold(App::new(config).version(cx.product.version), App::feature);
        let (to, after, wait) = (self.to.clone(), self.after, self.wait);
        let view = app.run_until(|node| async move {
            node.check(&to, command.get())?;
            let due = after.map(|after| node.clock().now().saturating_add(after.as_millis() as i64));
            let accept = Accept { to, command, due, trace: None, idempotency: None, fence: None, wait: wait.is_some() };
            let accepted = node.accept(accept).await.map_err(Error::from)?;
            if let (Some(wait), Some(ended)) = (wait, accepted.ended) {
                // Late or gone, how it stands is looked up below all the same.
                let _ = node.clock().limit(wait, ended).await;
            }
            Ok(match node.request(accepted.request).await? {
                Found::Here(view) => serde_json::to_value(view)?,
                Found::Unknown | Found::Expired | Found::Lost => request::accepted(accepted.request),
            })
        })?;
        Ok(view)
    }
}
