//! The story of a request as people read it: a line for each thing it did, calls as a tree below who
//! asked, and last what it waits for.

use serde_json::Value;

use super::{
    output::{Output, Tone, moment},
    request,
    trouble::Trouble,
};
use crate::clock::Clock;

/// How much of a value or a message is shown; `--json` has all of it.
const WIDTH: usize = 100;

fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(of: &Value, name: &str) -> Option<i64> {
    of.get(name).and_then(Value::as_i64)
}

fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// One line, in columns.
struct Row {
    at: String,
    mark: (Tone, &'static str),
    what: String,
    took: String,
    detail: String,
    tone: Option<Tone>,
}

/// Prints a story.
pub(super) fn show(story: &Value, out: &Output) -> Result<(), Trouble> {
    request::show(story, out)?;
    if let Some(to) = story.get("to").and_then(Value::as_str) {
        out.line(format!("  to        {to}"));
    }
    if let Some(command) = story.get("command") {
        out.line(format!("  command   {}", short(&command.to_string())));
    }
    let (accepted, began) = (number(story, "accepted_at"), number(story, "began_at"));
    if let Some(accepted) = accepted {
        out.line(format!("  accepted  {}", moment(accepted)));
    }
    if let Some(began) = began {
        out.line(format!("  began     {} by build {}", moment(began), text(story, "build")));
    }
    let mut rows = Vec::new();
    gather(story, accepted.or(began), "", &mut rows);
    if !rows.is_empty() {
        out.line("");
        lines(&rows, out).into_iter().for_each(|line| out.line(line));
    }
    if story.get("truncated") == Some(&Value::Bool(true)) {
        out.line(out.tone(Tone::Dim, "  More calls are left out: look at them by `from` in --json."));
    }
    waits(story, out);
    Ok(())
}

/// What it waits for now, with what would let it go on.
fn waits(story: &Value, out: &Output) {
    let waits = list(story, "waits_for");
    let now = Clock::System.now();
    if !waits.is_empty() {
        out.line("");
        out.line(out.tone(Tone::Bold, "Waits for"));
    }
    for wait in waits {
        let (what, name) = match text(wait, "kind") {
            "ask" => ("the answer of", text(wait, "name")),
            "sleep" => ("a time", ""),
            "step" => ("the next attempt of", text(wait, "name")),
            _ => ("the signal", text(wait, "name")),
        };
        let mut line = format!("  {what}{}{}", if name.is_empty() { "" } else { " " }, out.tone(Tone::Warn, name));
        if let Some(since) = number(wait, "since") {
            line += &format!(", for {}", span(now - since));
        }
        if let Some(until) = number(wait, "until") {
            let left = if until > now { format!("in {}", span(until - now)) } else { "due".to_owned() };
            line += &format!(", until {} ({left})", moment(until));
        }
        out.line(line);
        if let Some(signal) = wait.get("signal").and_then(Value::as_str) {
            out.line(out.tone(Tone::Dim, &format!("    POST /signals/{}", super::http::encode(signal))));
        }
    }
}

/// The lines of a story, and below each call those of whoever answered.
fn gather(story: &Value, from: Option<i64>, indent: &str, rows: &mut Vec<Row>) {
    let entries = list(story, "entries");
    for (index, entry) in entries.iter().enumerate() {
        let last = index + 1 == entries.len();
        let (branch, below) = match (indent.is_empty(), last) {
            (true, _) => (String::new(), "  ".to_owned()),
            (false, false) => (format!("{indent}├ "), format!("{indent}│ ")),
            (false, true) => (format!("{indent}└ "), format!("{indent}  ")),
        };
        rows.push(row(entry, from, &branch));
        if let Some(calls) = entry.get("calls") {
            gather(calls, from, &below, rows);
        }
    }
}

fn row(entry: &Value, from: Option<i64>, branch: &str) -> Row {
    let (kind, status) = (text(entry, "kind"), text(entry, "status"));
    let mark = match (kind, status) {
        ("value" | "version", _) => (Tone::Dim, "·"),
        ("cancel" | "undo", _) => (Tone::Warn, "!"),
        (_, "done") if entry.get("undoes").is_some() => (Tone::Good, "↩"),
        (_, "done") => (Tone::Good, "✓"),
        (_, "failed") => (Tone::Bad, "✗"),
        (_, "dropped") => (Tone::Dim, "-"),
        (_, "retrying") => (Tone::Warn, "↻"),
        _ => (Tone::Warn, "…"),
    };
    let began = number(entry, "began_at").zip(from);
    let mut detail = Vec::new();
    if let Some(attempts) = number(entry, "attempts").filter(|attempts| *attempts > 1 && status != "retrying") {
        detail.push(format!("{attempts} attempts"));
    }
    if let Some(failure) = entry.get("failure") {
        let said = format!("{}: {}", text(failure, "code"), text(failure, "message"));
        detail.push(match status {
            "retrying" => format!("attempt {} failed, {said}", number(failure, "attempt").unwrap_or(0)),
            _ => said,
        });
    }
    detail.extend(entry.get("result").filter(|result| !result.is_null()).map(Value::to_string));
    match (status, number(entry, "until")) {
        ("waiting", Some(until)) => detail.push(format!("until {}", moment(until))),
        ("retrying", Some(until)) => detail.push(format!("again at {}", moment(until))),
        ("waiting", None) => detail.push("not answered yet".to_owned()),
        ("dropped", _) => detail.push("not waited for any more".to_owned()),
        _ => {}
    }
    let what = match kind {
        "undo" => "undoes what it did".to_owned(),
        "cancel" => "told to end".to_owned(),
        kind => format!("{kind:<7} {}", text(entry, "name")),
    };
    Row {
        at: began.map_or_else(String::new, |(began, from)| format!("+{}", span(began - from))),
        mark,
        what: format!("{branch}{what}"),
        took: number(entry, "ms").filter(|_| kind != "value").map(span).unwrap_or_default(),
        detail: short(&detail.join("  ")),
        tone: matches!(status, "failed").then_some(Tone::Bad),
    }
}

/// Rows as lines: numbers to the right, the rest to the left.
fn lines(rows: &[Row], out: &Output) -> Vec<String> {
    let widest = |of: &dyn Fn(&Row) -> &str| rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0);
    let (at, what, took) = (widest(&|row| &row.at), widest(&|row| row.what.trim_end()), widest(&|row| &row.took));
    rows.iter()
        .map(|row| {
            let detail = row.tone.map_or_else(|| row.detail.clone(), |tone| out.tone(tone, &row.detail));
            let mark = out.tone(row.mark.0, row.mark.1);
            let when = out.tone(Tone::Dim, &format!("{:>at$}", row.at));
            let line = format!("  {when}  {mark} {:<what$}  {:>took$}  {detail}", row.what.trim_end(), row.took);
            line.trim_end().to_owned()
        })
        .collect()
}

fn short(text: &str) -> String {
    let line = text.replace('\n', " ");
    match line.char_indices().nth(WIDTH) {
        Some((at, _)) => format!("{}…", line[..at].trim_end()),
        None => line,
    }
}

/// A time span as people say it: two units at most.
fn span(ms: i64) -> String {
    let ms = ms.max(0);
    let (seconds, minutes, hours) = (ms / 1000, ms / 60_000, ms / 3_600_000);
    match ms {
        ..1_000 => format!("{ms}ms"),
        1_000..10_000 => format!("{}.{}s", seconds, ms % 1000 / 100),
        10_000..60_000 => format!("{seconds}s"),
        60_000..3_600_000 => format!("{minutes}m {}s", seconds % 60),
        3_600_000..86_400_000 => format!("{hours}h {}m", minutes % 60),
        _ => format!("{}d {}h", hours / 24, hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn spans_have_two_units_at_most() {
        let spans = [0, 999, 1_250, 59_999, 61_000, 7_500_000, 90_000_000_000].map(span);
        assert_eq!(spans, ["0ms", "999ms", "1.2s", "59s", "1m 1s", "2h 5m", "1041d 16h"]);
    }

    #[test]
    fn calls_are_a_tree_and_columns_line_up() {
        let step = |name: &str, ms| json!({ "kind": "step", "name": name, "status": "done", "began_at": 1_000, "ms": ms, "result": 1 });
        let calls = json!({ "entries": [step("inner", 5), step("last", 1_500)] });
        let story = json!({ "entries": [
            { "kind": "ask", "name": "risk/7", "status": "done", "began_at": 1_000, "ms": 20, "calls": calls },
            { "kind": "sleep", "status": "waiting", "began_at": 61_500, "until": 0 },
        ]});
        let mut rows = Vec::new();
        gather(&story, Some(1_000), "", &mut rows);
        let lines = lines(&rows, &Output::new(true));
        assert_eq!(
            lines,
            [
                "    +0ms  ✓ ask     risk/7     20ms",
                "    +0ms  ✓   ├ step    inner   5ms  1",
                "    +0ms  ✓   └ step    last   1.5s  1",
                "  +1m 0s  … sleep                    until 1970-01-01 00:00:00Z",
            ]
            .map(str::to_owned)
        );
    }
}
