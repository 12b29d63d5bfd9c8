//! What a command prints: results on standard output, for people or as JSON; advice and errors
//! on standard error, so that a pipe only ever carries results.

use std::io::{IsTerminal, Write};

use serde::Serialize;

use super::trouble::Trouble;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// JSON instead of text.
    pub(crate) json: bool,
    /// Whether standard output is a terminal that may be coloured.
    colour: bool,
    /// Whether somebody reads standard error.
    advice: bool,
}

/// How a piece of text is emphasised on a terminal.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tone {
    Bold,
    Dim,
    Good,
    Warn,
    Bad,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            json,
            colour: !plain && std::io::stdout().is_terminal(),
            advice: !json && std::io::stderr().is_terminal(),
        }
    }

    /// Prints a line. A reader that closed the pipe has seen enough: that is no error.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        let mut out = std::io::stdout();
        let _ = writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush());
    }

    /// Prints a value as JSON: indented for a terminal, one line for a program.
    pub(crate) fn value(&self, value: &impl Serialize) -> Result<(), Trouble> {
        let text = match std::io::stdout().is_terminal() {
            true => serde_json::to_string_pretty(value),
            false => serde_json::to_string(value),
        };
        self.line(text.map_err(|e| Trouble::new(format!("the answer cannot be written as JSON: {e}")))?);
        Ok(())
    }

    /// Suggests the next command, to a person only.
    pub(crate) fn next(&self, text: impl AsRef<str>) {
        if self.advice {
            let _ = writeln!(std::io::stderr(), "\n{}", self.tone(Tone::Dim, &format!("Next: {}", text.as_ref())));
        }
    }

    /// Prints why the command did not succeed.
    pub(crate) fn trouble(&self, trouble: &Trouble) {
        let mut err = std::io::stderr();
        let _ = if self.json {
            writeln!(err, "{}", serde_json::json!({ "error": trouble.what, "help": trouble.help }))
        } else {
            let mut text = format!("error: {}\n", trouble.what.trim_end().replace('\n', "\n       "));
            if let Some(help) = &trouble.help {
                text += &format!("  help: {}\n", help.replace('\n', "\n        "));
            }
            err.write_all(text.as_bytes())
        };
    }

    /// Emphasises text where that can be seen.
    pub(crate) fn tone(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Bold => "1",
            Tone::Dim => "2",
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Lines up rows of cells in columns, two spaces apart; the last column is as wide as it is.
pub(crate) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

/// A moment, given in milliseconds since the Unix epoch, as people read it: UTC, to the second.
pub(crate) fn moment(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| ms.to_string(), |t| t.strftime("%Y-%m-%d %H:%M:%SZ").to_string())
}
