//! Each promise ended, once, in the way it had to, and as its client was told (G1).

use std::collections::BTreeMap;

use super::{Case, Told, Wrong};
use crate::{
    history::Event,
    script::{End, end},
};

pub(super) fn check(case: &mut Case<'_>) {
    let mut found: Vec<(Wrong, String, String)> = Vec::new();
    let mut ids: BTreeMap<&str, &str> = BTreeMap::new();
    for (mark, told) in &case.told {
        let mut say = |wrong, what: String| found.push((wrong, (*mark).to_owned(), what));
        for event in &told.events {
            match event {
                Event::Promised { request, of, .. } => {
                    if of.as_deref().is_some_and(|of| of != *mark) {
                        say(Wrong::OthersResult, format!("was answered with the result of {of:?}"));
                    }
                    // That it was promised before may be what was forgotten.
                    if told.request != Some(request) && !case.exposed(told) {
                        say(Wrong::PromisedTwice, format!("was promised as {:?} and as {request}", told.request));
                    }
                    if let Some(other) = ids.insert(request, mark).filter(|other| other != mark) {
                        say(Wrong::PromisedTwice, format!("has the id {request}, and so has {other}"));
                    }
                }
                Event::Refused { status, .. } => say(Wrong::NotPromised, format!("was answered {status}")),
                Event::Signalled { status: status @ (0 | 404), .. } if !case.exposed(told) => {
                    say(Wrong::NotPromised, format!("its signal was answered {status}"));
                }
                Event::GivenUp { tries, .. } => say(Wrong::NotPromised, format!("was tried {tries} times in vain")),
                _ => {}
            }
        }
        if told.request.is_some() {
            let exposed = case.exposed(told);
            match ended(told, case.may_be_lost(told)) {
                Ok(()) if exposed => {}
                Ok(()) => was_told(told, &mut say),
                Err((wrong, what)) => say(wrong, what),
            }
            if let Some(of) = others_result(mark, told) {
                say(Wrong::OthersResult, of);
            }
        } else if !told.events.iter().any(|event| matches!(event, Event::Refused { .. } | Event::GivenUp { .. })) {
            say(Wrong::NotPromised, "its client went away: no promise, no refusal".to_owned());
        }
    }
    for (wrong, mark, what) in found {
        case.wrong(wrong, &mark, what);
    }
}

/// Whether what it is answered with belongs to another command: each result and each error names its own.
fn others_result(mark: &str, told: &Told<'_>) -> Option<String> {
    let view = told.view?;
    match told.status() {
        "completed" => {
            let of = view["result"]["mark"].as_str().filter(|of| *of != mark)?;
            Some(format!("has the result of {of}"))
        }
        "failed" | "dead-lettered" => {
            // Other errors are not the command's own.
            view["error"]["code"].as_str().filter(|code| ["refused", "doomed", "declined"].contains(code))?;
            let message = view["error"]["message"].as_str()?;
            (!message.contains(&format!("{mark}: "))).then(|| format!("has the error of another: {message}"))
        }
        _ => None,
    }
}

/// Whether it ended, in a way it could.
fn ended(told: &Told<'_>, may_be_lost: bool) -> Result<(), (Wrong, String)> {
    let status = told.status();
    let code = told.view.and_then(|view| view["error"]["code"].as_str()).unwrap_or_default();
    let may_be_cancelled = told.events.iter().any(|event| matches!(event, Event::Cancelling { .. }));
    let right = match (status, end(told.command)) {
        ("cancelled", _) => may_be_cancelled,
        ("lost", _) if may_be_lost => true,
        ("lost", _) => return Err((Wrong::Lost, "is lost, and was promised when nothing was".to_owned())),
        ("completed", End::Completed) => true,
        ("failed", End::Failed(expected)) => code == expected,
        ("dead-lettered", End::DeadLettered(expected)) => code == expected,
        ("completed" | "failed" | "dead-lettered", _) => false,
        _ => return Err((Wrong::NotEnded, format!("stands as {:?}", told.view))),
    };
    let wrong = || (Wrong::OtherEnd, format!("ended as {status} {code:?}, not as {:?}", end(told.command)));
    right.then_some(()).ok_or_else(wrong)
}

/// Whether it stands as its client was told before: an end is final.
fn was_told(told: &Told<'_>, say: &mut impl FnMut(Wrong, String)) {
    let status = told.status();
    for event in &told.events {
        let (heard, where_from) = match event {
            Event::Promised { ended: Some(ended), .. } => (ended.as_str(), "by the answer"),
            Event::Cancelled { done: true, .. } => ("cancelled", "when cancelling it"),
            Event::Cancelled { state, .. } if !matches!(state.as_str(), "accepted" | "processing") => {
                (state.as_str(), "when cancelling it")
            }
            _ => continue,
        };
        if heard != status {
            say(Wrong::ChangedEnd, format!("was said to be {heard} {where_from}, and is {status}"));
        }
    }
}
