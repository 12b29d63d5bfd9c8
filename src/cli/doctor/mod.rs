//! `doctor`: what is unsafe or wrong on this machine, and how to mend it. Looks and measures,
//! changes nothing that is there.

mod disk;
mod machine;
mod network;
mod store;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Context, Verdict, output::Tone, trouble::Trouble};
use crate::config::Config;

/// Say what is unsafe or wrong on this machine, and how to mend it
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom doctor
  greenroom doctor --data /var/lib/shop --listen 0.0.0.0:8080

Run it where the product will run, as the user it will run as. Exits 1 when something must be
mended before serving; warnings alone exit 0.")]
pub(super) struct Doctor {
    /// Data directory [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address and port to listen on [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// Not looked at, and why.
    Skipped,
    /// Serves, but something promised may not hold or be slow.
    Warning,
    /// Must be mended before serving.
    Failure,
}

/// What one look found.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    check: &'static str,
    level: Level,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

/// All of it as JSON.
#[derive(Serialize)]
struct Report<'a> {
    healthy: bool,
    failures: usize,
    warnings: usize,
    findings: &'a [Finding],
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), mend: None }
    }

    fn skipped(check: &'static str, why: impl Into<String>) -> Self {
        Self { level: Level::Skipped, ..Self::ok(check, why) }
    }

    fn warning(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Warning, mend: Some(mend.into()), ..Self::ok(check, found) }
    }

    fn failure(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { level: Level::Failure, ..Self::warning(check, found, mend) }
    }
}

impl Doctor {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        let data = self.data.map(|data| ("--data", "store", "data", data.display().to_string()));
        let listen = self.listen.map(|listen| ("--listen", "gateway", "listen", listen));
        let findings = match cx.load(data.into_iter().chain(listen).collect()) {
            Ok((config, _)) => examine(&config),
            Err(trouble) => {
                vec![Finding::failure("configuration", trouble.what, "`greenroom config check` shows the rest")]
            }
        };
        print(cx, &findings)?;
        let failed = findings.iter().any(|finding| finding.level == Level::Failure);
        Ok(if failed { Verdict::Wrong } else { Verdict::Fine })
    }
}

fn examine(config: &Config) -> Vec<Finding> {
    let data = std::path::absolute(&config.store.data).unwrap_or_else(|_| config.store.data.clone());
    let mut findings = vec![Finding::ok("configuration", "valid")];
    findings.extend(disk::examine(&data));
    findings.extend(store::examine(config, &data));
    findings.extend(network::examine(config, &data));
    findings.extend(machine::examine(config, &data));
    findings
}

fn print(cx: &Context, findings: &[Finding]) -> Result<(), Trouble> {
    let out = &cx.out;
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (failures, warnings) = (count(Level::Failure), count(Level::Warning));
    if out.json {
        return out.value(&Report { healthy: failures == 0, failures, warnings, findings });
    }
    let width = findings.iter().map(|finding| finding.check.len()).max().unwrap_or(0);
    for finding in findings {
        let (tone, mark) = match finding.level {
            Level::Ok => (Tone::Good, "ok  "),
            Level::Skipped => (Tone::Dim, "-   "),
            Level::Warning => (Tone::Warn, "warn"),
            Level::Failure => (Tone::Bad, "FAIL"),
        };
        let indent = " ".repeat(width + 8);
        let found = finding.found.replace('\n', &format!("\n{indent}"));
        out.line(format!("{}  {:<width$}  {found}", out.tone(tone, mark), finding.check));
        if let Some(mend) = &finding.mend {
            out.line(format!(
                "{indent}{} {}",
                out.tone(Tone::Bold, "mend:"),
                mend.replace('\n', &format!("\n{indent}      "))
            ));
        }
    }
    let plural = |n, what| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let verdict = match (failures, warnings) {
        (0, 0) => out.tone(Tone::Good, "Fit to serve."),
        (0, n) => out.tone(Tone::Warn, &format!("Fit to serve, with {}.", plural(n, "warning"))),
        (n, m) => {
            out.tone(Tone::Bad, &format!("Not fit to serve: {}, {}.", plural(n, "failure"), plural(m, "warning")))
        }
    };
    out.line(format!("\n{verdict}"));
    if failures == 0 {
        out.next("greenroom serve");
    }
    Ok(())
}
