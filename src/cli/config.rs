//! `config`: what is in force and where it comes from; the defaults to start a file from.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    Context, Verdict,
    output::{Tone, table},
    trouble::Trouble,
};
use crate::config::{REFERENCE, Shown};

/// Show and check the configuration
#[derive(Args, Debug)]
pub(super) struct ConfigCommand {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Check the configuration and show every value with its source
    #[command(after_help = "\
Examples:
  greenroom config check
  greenroom config check --config shop.toml
  GREENROOM_RUNTIME__IDLE=5m greenroom config check --json

Exits 1 when something is wrong. Secrets are never shown.")]
    Check,
    /// Print every key with its default and its reason
    #[command(after_help = "\
Example:
  greenroom config defaults > shop.toml      keep what you change, delete the rest")]
    Defaults,
}

impl ConfigCommand {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        match self.verb {
            Verb::Check => check(cx),
            Verb::Defaults => {
                for text in std::iter::once(&REFERENCE).chain(&cx.product.defaults) {
                    cx.out.line(text.trim_end());
                }
                Ok(Verdict::Fine)
            }
        }
    }
}

fn check(cx: &Context) -> Result<Verdict, Trouble> {
    let out = &cx.out;
    let config = match cx.load(Vec::new()) {
        Ok((config, _)) => config,
        Err(trouble) if out.json => {
            let problems: Vec<&str> = trouble.what.lines().collect();
            out.value(&json!({ "valid": false, "problems": problems }))?;
            return Ok(Verdict::Wrong);
        }
        Err(trouble) => return Err(trouble),
    };
    let shown = config.shown();
    if out.json {
        out.value(&json!({ "valid": true, "values": shown }))?;
        return Ok(Verdict::Fine);
    }
    let rows: Vec<Vec<String>> = shown.iter().map(row).collect();
    let mut section = "";
    for (value, line) in shown.iter().zip(table(&rows)) {
        let (own, _) = value.key.split_once('.').unwrap_or((&value.key, ""));
        if own != section {
            out.line(format!(
                "{}{}",
                if section.is_empty() { "" } else { "\n" },
                out.tone(Tone::Bold, &format!("[{own}]"))
            ));
            section = own;
        }
        out.line(if value.default { out.tone(Tone::Dim, &line) } else { line });
    }
    let changed = shown.iter().filter(|value| !value.default).count();
    out.line(format!("\nThe configuration is valid: {} keys, {changed} of them not the default.", shown.len()));
    out.next("greenroom doctor");
    Ok(Verdict::Fine)
}

fn row(shown: &Shown) -> Vec<String> {
    let key = shown.key.split_once('.').map_or(shown.key.as_str(), |(_, key)| key);
    vec![format!("  {key}"), shown.value.clone(), shown.source.clone()]
}
