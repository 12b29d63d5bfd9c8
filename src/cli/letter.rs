//! A dead letter as JSON, the same from a server and from the store, and as text.

use serde_json::{Value, json};

use super::output::{Output, Tone, moment};
use crate::{backend::Dead, request::RequestId};

/// The JSON that a server answers for a dead letter.
pub(super) fn of(dead: &Dead, secret: &[u8; 32]) -> Value {
    json!({
        "id": RequestId::seal(dead.position, secret),
        "to": dead.envelope.as_ref().map(|envelope| envelope.to.to_string()),
        "command": dead.envelope.as_ref().map(|envelope| &envelope.command),
        "raw": dead.raw,
        "attempts": dead.attempts,
        "failures": dead.failures,
        "accepted_at": dead.envelope.as_ref().map(|envelope| envelope.accepted),
        "died_at": dead.died,
    })
}

fn text<'a>(letter: &'a Value, name: &str) -> &'a str {
    letter.get(name).and_then(Value::as_str).unwrap_or("?")
}

fn number(letter: &Value, name: &str) -> i64 {
    letter.get(name).and_then(Value::as_i64).unwrap_or(0)
}

fn failures(letter: &Value) -> &[Value] {
    letter.get("failures").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Its line in a list: id, address, when, attempts, last failure.
pub(super) fn row(letter: &Value) -> Vec<String> {
    let last = failures(letter).last();
    vec![
        text(letter, "id").to_owned(),
        letter.get("to").and_then(Value::as_str).unwrap_or("(unreadable)").to_owned(),
        moment(number(letter, "died_at")),
        number(letter, "attempts").to_string(),
        last.map_or_else(String::new, |failure| {
            let message: String = text(failure, "message").chars().take(80).collect();
            format!("{}: {}", text(failure, "code"), message.replace('\n', " "))
        }),
    ]
}

/// All of it.
pub(super) fn show(letter: &Value, out: &Output) {
    out.line(out.tone(Tone::Bold, text(letter, "id")));
    let to = letter.get("to").and_then(Value::as_str).unwrap_or("(its bytes cannot be read)");
    out.line(format!("  to        {to}"));
    match (letter.get("command").filter(|c| !c.is_null()), letter.get("raw").and_then(Value::as_str)) {
        (Some(command), _) => out.line(format!("  command   {command}")),
        (_, Some(raw)) => out.line(format!("  bytes     {raw}")),
        _ => {}
    }
    if let Some(accepted) = letter.get("accepted_at").and_then(Value::as_i64) {
        out.line(format!("  accepted  {}", moment(accepted)));
    }
    out.line(format!(
        "  given up  {}, after {} attempts",
        moment(number(letter, "died_at")),
        number(letter, "attempts")
    ));
    for failure in failures(letter) {
        let attempt = number(failure, "attempt");
        let at = moment(number(failure, "at"));
        out.line(format!(
            "  attempt {attempt}  {at}  {}  {}",
            out.tone(Tone::Bad, text(failure, "code")),
            text(failure, "message")
        ));
        for cause in failure.get("causes").and_then(Value::as_array).into_iter().flatten() {
            out.line(format!("    because {}", cause.as_str().unwrap_or("?")));
        }
    }
}
