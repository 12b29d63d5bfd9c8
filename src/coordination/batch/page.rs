//! A page of a batch: at most a hundred members, who is told how each ended.
//!
//! Invariant: a member has one mark, that of its last end; the sum of what was reported is what the marks say,
//! once the page is whole.

use serde::{Deserialize, Serialize};

use super::{Ends, Failed, Member, whole};
use crate::{
    actor::Actor,
    address::Address,
    context::Context,
    ended::{End, Ended},
    error::{Error, Result},
    request::RequestId,
};

/// The longest message of a failure that is kept, in characters.
const MESSAGE: usize = 200;

/// A page; its key is the batch's id, a slash, and its number.
pub(crate) struct Page;

/// What a page is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Command {
    /// Its members; they are not sent if the batch was cancelled before.
    Add {
        members: Vec<Member>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        withdrawn: bool,
    },
    /// A member ended.
    Ended(u32, Ended),
    /// Members that have not begun are not to begin.
    Withdraw,
    /// The batch is forgotten.
    Forget,
}

/// What is known of a page.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct State {
    /// Whom each member was sent to.
    #[serde(default)]
    members: Vec<Address>,
    /// How each ended, a character each.
    #[serde(default)]
    pub(crate) marks: String,
    /// Those that did not complete, until it is whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) failures: Vec<Failed>,
}

/// The mark of a member that has not ended.
const WAITS: u8 = b'.';

fn mark(end: End) -> u8 {
    match end {
        End::Completed => b'c',
        End::Failed => b'f',
        End::DeadLettered => b'd',
        End::Cancelled => b'x',
    }
}

fn end(mark: u8) -> Option<End> {
    [End::Completed, End::Failed, End::DeadLettered, End::Cancelled].into_iter().find(|end| self::mark(*end) == mark)
}

impl State {
    /// How its members ended so far.
    pub(crate) fn ends(&self) -> Ends {
        let mut ends = Ends::default();
        self.marks.bytes().filter_map(end).for_each(|end| *ends.of(end) += 1);
        ends
    }

    fn is_whole(&self) -> bool {
        !self.marks.bytes().any(|mark| mark == WAITS)
    }

    /// Marks a member; how it was marked before. `None` when that is no change.
    fn mark(&mut self, number: usize, end: End) -> Option<u8> {
        let before = self.marks.as_bytes().get(number).copied()?;
        if before == mark(end) {
            return None;
        }
        self.marks.replace_range(number..=number, char::from(mark(end)).encode_utf8(&mut [0; 4]));
        Some(before)
    }
}

impl Actor for Page {
    const KIND: &'static str = "greenroom_batch_page";
    type State = State;
    type Command = Command;
    type Reply = ();

    async fn handle(&self, state: &mut State, command: Command, cx: &Context<Self>) -> Result<()> {
        match command {
            Command::Add { members, withdrawn } => {
                let mark = if withdrawn { self::mark(End::Cancelled) } else { WAITS };
                state.marks = char::from(mark).to_string().repeat(members.len());
                for (number, Member(to, command)) in (0..).zip(members) {
                    state.members.push(to.clone());
                    if !withdrawn {
                        let ended = |ended| Command::Ended(number, ended);
                        cx.send(to, command).then(cx.me(), ended).tag(number.into());
                    }
                }
                if withdrawn {
                    report(state, cx, None)?;
                }
            }
            // Of a page that is forgotten nothing is known, and nothing is to be.
            _ if state.marks.is_empty() => cx.forget(),
            Command::Ended(number, ended) => self.ended(state, cx, number, &ended)?,
            Command::Withdraw => {
                let waiting = (0..).zip(&state.members).zip(state.marks.bytes());
                for ((number, to), _) in waiting.filter(|(_, mark)| *mark == WAITS) {
                    cx.withdraw(to.clone(), number);
                }
            }
            Command::Forget => cx.forget(),
        }
        Ok(())
    }
}

impl Page {
    fn ended(&self, state: &mut State, cx: &Context<Self>, number: u32, ended: &Ended) -> Result<()> {
        let Some(before) = state.mark(number as usize, ended.status) else { return Ok(()) };
        let request = cx.about.envelope.cause.map(|position| cx.journal().shared.id(position));
        let failed = request.filter(|_| !ended.completed()).map(|request| failed(state, number, ended, request));
        match (before == WAITS, request) {
            // One that was whole before is of interest at once.
            (false, Some(request)) if state.is_whole() => {
                report(state, cx, Some((before, ended.status, request, failed)))
            }
            (_, request) => {
                state.failures.retain(|known| Some(known.request) != request);
                state.failures.extend(failed);
                if state.is_whole() { report(state, cx, None) } else { Ok(()) }
            }
        }
    }
}

fn failed(state: &State, number: u32, ended: &Ended, request: RequestId) -> Failed {
    let error = ended.error.as_ref();
    Failed {
        to: state.members.get(number as usize).map(Address::to_string).unwrap_or_default(),
        request,
        status: ended.status,
        code: error.map(|failure| failure.code.clone()).unwrap_or_default(),
        message: error.map(|failure| failure.message.chars().take(MESSAGE).collect()).unwrap_or_default(),
    }
}

/// A member that had ended, and ended in another way.
type Changed = (u8, End, RequestId, Option<Failed>);

/// Tells the batch that all have ended, or what changed since.
fn report(state: &mut State, cx: &Context<Page>, changed: Option<Changed>) -> Result<()> {
    let (id, _) = cx.key().rsplit_once('/').ok_or_else(|| Error::terminal("a page of no batch"))?;
    let report = match changed {
        None => {
            let failures = std::mem::take(&mut state.failures);
            whole::Command::Report { ends: state.ends(), failures, mended: Vec::new(), whole: true }
        }
        Some((before, after, request, failed)) => {
            let mut ends = Ends::default();
            if let Some(before) = end(before) {
                *ends.of(before) -= 1;
            }
            *ends.of(after) += 1;
            whole::Command::Report { ends, failures: failed.into_iter().collect(), mended: vec![request], whole: false }
        }
    };
    cx.tell(whole::Whole::at(id), report);
    Ok(())
}
