//! The actor that is a batch: takes its members in, deals them out to pages, and knows when all have ended.
//!
//! Invariant: the callback leaves once, with the commit in which the last page is whole and no more members
//! can come.

use super::{BatchDone, Ends, Failed, Member, NAMED, PAGE, page};
use crate::{
    actor::Actor,
    context::Context,
    envelope::Then,
    error::{Error, Result},
};
use serde::{Deserialize, Serialize};

/// A batch; its key is its id.
pub(crate) struct Whole;

/// What a batch is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// More members, and what else whoever made them says of it.
    Add {
        #[serde(default, skip_serializing_if = "String::is_empty")]
        name: String,
        members: Vec<Member>,
        /// These are the last.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        seal: bool,
        /// Who is told when all have ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        then: Option<Box<Then>>,
    },
    /// What changed in a page.
    Report {
        ends: Ends,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        failures: Vec<Failed>,
        /// Members that are not among the failures any more.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        mended: Vec<crate::RequestId>,
        /// All members of the page have ended now.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        whole: bool,
    },
    /// What has not begun is not to begin.
    Cancel,
    /// It ended longer ago than results are kept.
    Forget,
}

/// What is known of a batch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    #[serde(default)]
    pub(crate) name: String,
    /// When it was made, in milliseconds since the Unix epoch; 0 when there is none.
    #[serde(default)]
    pub(crate) made: i64,
    #[serde(default)]
    pub(crate) total: i64,
    #[serde(default)]
    pub(crate) pages: u32,
    /// Pages of which all members have ended.
    #[serde(default)]
    pub(crate) whole: u32,
    #[serde(default)]
    pub(crate) sealed: bool,
    #[serde(default)]
    pub(crate) cancelled: bool,
    /// When all had ended.
    #[serde(default)]
    pub(crate) done: Option<i64>,
    /// Of whole pages only.
    #[serde(default)]
    pub(crate) ends: Ends,
    #[serde(default)]
    pub(crate) failures: Vec<Failed>,
    #[serde(default)]
    then: Option<Then>,
}

/// What is said to all nodes when a batch is done.
pub(crate) fn channel(id: &str) -> String {
    format!("{}:{id}", Whole::KIND)
}

/// The key of a page.
pub(crate) fn page_key(id: &str, number: u32) -> String {
    format!("{id}/{number}")
}

impl Actor for Whole {
    const KIND: &'static str = "greenroom_batch";
    type State = State;
    type Command = Command;
    type Reply = ();

    async fn handle(&self, state: &mut State, command: Command, cx: &Context<Self>) -> Result<()> {
        let now = cx.journal().shared.clock.now();
        match command {
            Command::Add { name, members, seal, then } => add(state, cx, now, (name, members, seal, then))?,
            // Of a batch that is forgotten nothing is known, and nothing is to be.
            _ if state.made == 0 => cx.forget(),
            Command::Report { ends, failures, mended, whole } => {
                state.ends.add(ends);
                state.failures.retain(|failed| !mended.contains(&failed.request));
                let room = NAMED.saturating_sub(state.failures.len());
                state.failures.extend(failures.into_iter().take(room));
                state.whole += u32::from(whole);
            }
            Command::Cancel if state.done.is_none() => {
                (state.sealed, state.cancelled) = (true, true);
                tell_pages(state, cx, &page::Command::Withdraw);
            }
            Command::Cancel => {}
            Command::Forget => {
                tell_pages(state, cx, &page::Command::Forget);
                cx.forget();
            }
        }
        if state.made > 0 && state.sealed && state.done.is_none() && state.whole == state.pages {
            finish(state, cx, now)?;
        }
        Ok(())
    }
}

type Added = (String, Vec<Member>, bool, Option<Box<Then>>);

fn add(state: &mut State, cx: &Context<Whole>, now: i64, (name, members, seal, then): Added) -> Result<()> {
    if state.sealed && !(state.cancelled && state.done.is_none()) {
        let why = format!("the batch {} takes no more members: it was sealed", cx.key());
        return Err(Error::terminal(why).code("batch_sealed"));
    }
    if state.made == 0 {
        state.made = now;
    }
    if !name.is_empty() {
        state.name = name;
    }
    if let Some(then) = then {
        state.then = Some(*then);
    }
    state.sealed |= seal;
    state.total += members.len() as i64;
    let mut members = members.into_iter().peekable();
    while members.peek().is_some() {
        let some = members.by_ref().take(PAGE).collect();
        let key = page_key(cx.key(), state.pages);
        cx.tell(page::Page::at(key), page::Command::Add { members: some, withdrawn: state.cancelled });
        state.pages += 1;
    }
    Ok(())
}

fn tell_pages(state: &State, cx: &Context<Whole>, command: &page::Command) {
    for number in 0..state.pages {
        cx.tell(page::Page::at(page_key(cx.key(), number)), command.clone());
    }
}

fn finish(state: &mut State, cx: &Context<Whole>, now: i64) -> Result<()> {
    state.done = Some(now);
    if let Some(then) = state.then.take() {
        let done = BatchDone {
            batch: cx.key().to_owned(),
            name: state.name.clone(),
            total: state.total,
            ends: state.ends,
            failures: state.failures.clone(),
        };
        cx.send(then.to.clone(), then.fill(&done)?);
    }
    cx.broadcast(&channel(cx.key()), &());
    cx.tell(cx.me(), Command::Forget).after(cx.journal().shared.settings.retention);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::{ended::End, envelope::Position, request::RequestId};

    #[test]
    fn stored_names_never_change() {
        let text = |command: &Command| serde_json::to_string(command).unwrap();
        let member = Member("mail/7".parse().unwrap(), RawValue::from_string("{\"a\":1}".into()).unwrap());
        let add = Command::Add { name: "mails".into(), members: vec![member], seal: true, then: None };
        assert_eq!(
            text(&add),
            r#"{"Add":{"name":"mails","members":[[{"kind":"mail","key":"7"},{"a":1}]],"seal":true}}"#
        );
        let failed = Failed {
            to: "mail/7".into(),
            request: RequestId::seal(Position::new(0, 1), &[0; 32]),
            status: End::DeadLettered,
            code: "error".into(),
            message: "no".into(),
        };
        let ends = Ends { completed: 1, ..Ends::default() };
        let report = Command::Report { ends, failures: vec![failed.clone()], mended: Vec::new(), whole: true };
        assert_eq!(
            text(&report),
            format!(
                r#"{{"Report":{{"ends":{{"completed":1,"failed":0,"dead_lettered":0,"cancelled":0}},"failures":[{{"to":"mail/7","request":"{}","status":"dead_lettered","code":"error","message":"no"}}],"whole":true}}}}"#,
                failed.request
            )
        );
        assert_eq!([text(&Command::Cancel), text(&Command::Forget)], [r#""Cancel""#, r#""Forget""#]);
    }
}
