//! How a message ended, as another actor is told of it, and the command that tells it: made by its
//! sender with a hole in it, filled by whoever ends the message.
//!
//! Invariant: what is stored of the command is text around the hole, so nothing a client can send is ever
//! taken for the hole.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    actor::Actor,
    address::At,
    envelope::Then,
    error::{Error, Failure, Result},
};

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Its effect is committed.
    Completed,
    /// A terminal error.
    Failed,
    /// Cancelled.
    Cancelled,
    /// Given up; it may still be redriven, and then ends once more.
    DeadLettered,
}

/// What became of a message that was [told](crate::Context::tell) with
/// [`then`](crate::context::Tell::then).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// How it ended.
    pub status: End,
    /// The reply, when it completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Box<RawValue>>,
    /// Why it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// Attempts it took.
    pub attempts: u32,
    /// When, in milliseconds since the Unix epoch.
    pub at: i64,
}

impl Ended {
    /// Whether its effect is committed.
    pub fn completed(&self) -> bool {
        self.status == End::Completed
    }
}

/// Makes a command with a hole for an end. Terminal error as for [`hole_of`].
pub(crate) fn hole<B: Actor>(to: &At<B>, mark: u64, command: impl FnOnce(Ended) -> B::Command) -> Result<Then> {
    // Nobody but this process knows the mark, and only for now.
    let at = (mark >> 12) as i64;
    let stand_in = || Ended { status: End::Completed, reply: None, error: None, attempts: u32::MAX, at };
    hole_of(to, stand_in, command)
}

/// Makes a command with a hole where it holds what stands in for something. Terminal error when what `command`
/// makes does not hold what it was given exactly once, unchanged.
pub(crate) fn hole_of<B: Actor, T: Serialize>(
    to: &At<B>,
    stand_in: impl Fn() -> T,
    command: impl FnOnce(T) -> B::Command,
) -> Result<Then> {
    let (hole, text) = (serde_json::to_string(&stand_in())?, serde_json::to_string(&command(stand_in()))?);
    let (before, after) = match text.split_once(&hole) {
        Some((before, after)) if !after.contains(&hole) => (before.to_owned(), after.to_owned()),
        _ => {
            let what = "the command given to `then` must hold what it is given, once and unchanged";
            return Err(Error::terminal(what).code("bad_then"));
        }
    };
    Ok(Then { to: to.address()?, before, after, tag: 0 })
}

impl Then {
    /// The command that tells of this.
    pub(crate) fn fill(&self, ended: &impl Serialize) -> Result<Box<RawValue>> {
        let ended = serde_json::to_string(ended)?;
        Ok(RawValue::from_string([&*self.before, &ended, &self.after].concat())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    struct Told;

    #[derive(Serialize, Deserialize, Debug)]
    enum Command {
        Ended { which: String, how: Ended },
        Nothing,
    }

    impl Actor for Told {
        const KIND: &'static str = "told";
        type State = ();
        type Command = Command;
        type Reply = ();

        async fn handle(&self, _: &mut (), _: Command, _: &Context<Self>) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_hole_is_filled_and_nothing_else() {
        // What a client sent looks like an end: it is not taken for one.
        let which = r#"{"status":"completed","attempts":4294967295,"at":7}"#.to_owned();
        let then = hole(&Told::at("a"), 7 << 12 | 5, |how| Command::Ended { which: which.clone(), how }).unwrap();
        assert_eq!(then.to.to_string(), "told/a");
        let reply = Some(RawValue::from_string("[1]".into()).unwrap());
        let ended = Ended { status: End::DeadLettered, reply, error: None, attempts: 2, at: 9 };
        let text = then.fill(&ended).unwrap();
        let Command::Ended { which: same, how } = serde_json::from_str(text.get()).unwrap() else { panic!("{text}") };
        assert_eq!(same, which);
        assert_eq!((how.status, how.reply.unwrap().get(), how.attempts, how.at), (End::DeadLettered, "[1]", 2, 9));
        assert!(hole(&Told::at("a"), 1 << 20, |_| Command::Nothing).unwrap_err().has_code("bad_then"));
        let changed = |how: Ended| Command::Ended { which: String::new(), how: Ended { attempts: 1, ..how } };
        assert!(hole(&Told::at("a"), 1 << 20, changed).unwrap_err().has_code("bad_then"));
    }
}
