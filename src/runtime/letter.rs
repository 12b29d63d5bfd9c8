//! What nodes write to each other. A letter is delivered at most once and may be lost: nothing that
//! must be true depends on one, and everything that a letter speeds up happens without it, later.
//!
//! Invariant: a letter of a newer build that this one does not know is dropped, never an error.

use serde::{Deserialize, Serialize};

use super::{
    sweep::{Part, Sweep},
    view::View,
};
use crate::envelope::Position;

/// A letter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Letter {
    /// The message that your client waits for has ended.
    Reply { token: u64, view: View },
    /// Cancel this message, of a partition that is yours, and tell `from`.
    Cancel { position: Position, from: u64, token: u64 },
    /// What became of that wish.
    Cancelled { token: u64, outcome: Outcome },
    /// Which attempt of this message runs, in a partition that is yours? Tell `from`.
    Running { position: Position, from: u64, token: u64 },
    /// The answer; how it ends, if that is decided and not yet in the store.
    Runs {
        token: u64,
        attempt: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ended: Option<Box<View>>,
    },
    /// Cancel some of what waits in a partition that is yours, and tell `from`.
    Sweep { sweep: Sweep, from: u64, token: u64 },
    /// What became of that wish; why nothing did.
    Swept { token: u64, part: Result<Part, String> },
    /// Clients of `from` follow this message, of a partition that is yours.
    Watch { position: Position, from: u64 },
    /// A message that your clients follow may stand differently.
    Changed { position: Position },
    /// Somebody said something under a name, for whoever listens.
    Cast { name: String, value: Box<serde_json::value::RawValue> },
    /// Look around: something is there for you to take, or somebody has come or gone.
    Look,
    /// Something was paused or resumed: look what is.
    Paused,
    /// This node lets go of all it has: take what will be yours.
    Leaving { node: u64 },
}

/// What became of a wish to cancel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// It is cancelled.
    Cancelled,
    /// It had begun, or ended.
    Refused,
    /// It cannot be said now.
    Unknown(String),
}

impl Letter {
    /// As posted.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        // Letters are made of numbers and JSON that was parsed before: they always encode.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The letter, if this build knows such a one.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).map_err(|error| tracing::debug!(%error, "a letter was not understood")).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::{
        backend::Lookup,
        backend::Request,
        backend::Status,
        request::RequestId,
        runtime::sweep::{Place, Swept},
        runtime::view::Found,
    };

    fn sweep() -> Sweep {
        let from = Place::Parked(Some("order/7".parse().unwrap()), Position::new(3, 9));
        Sweep { scope: "order/7".parse().unwrap(), partition: 3, at: 5, from }
    }

    fn view(reply: Option<&str>) -> View {
        let position = Position::new(3, 7);
        let request = Request {
            status: Status::Completed,
            reply: reply.map(|json| RawValue::from_string(json.to_owned()).unwrap()),
            error: Some(crate::Error::new("once").context("twice").failure(1, 5)),
            attempts: 2,
            ended: 9,
        };
        match Found::of(RequestId::seal(position, &[7; 32]), Lookup::Ended(request), None) {
            Found::Here(view) => view,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_letter_arrives_as_it_was_sent() {
        let position = Position::new(4095, 1 << 40);
        let (from, token) = (u64::MAX, 1 << 60);
        let letters = [
            Letter::Reply { token, view: view(Some(r#"{"a":[1,2.50]}"#)) },
            Letter::Reply { token, view: view(None) },
            Letter::Cancel { position, from, token },
            Letter::Cancelled { token, outcome: Outcome::Cancelled },
            Letter::Cancelled { token, outcome: Outcome::Unknown("why".into()) },
            Letter::Running { position, from, token },
            Letter::Runs { token, attempt: Some(3), ended: None },
            Letter::Runs { token, attempt: Some(1), ended: Some(Box::new(view(Some("7")))) },
            Letter::Runs { token, attempt: None, ended: None },
            Letter::Sweep { sweep: sweep(), from, token },
            Letter::Swept {
                token,
                part: Ok(Part { swept: Swept { cancelled: 1, asked: 2, more: false }, next: Place::End }),
            },
            Letter::Swept { token, part: Err("why".into()) },
            Letter::Watch { position, from },
            Letter::Changed { position },
            Letter::Cast { name: "prices".into(), value: RawValue::from_string("[1]".into()).unwrap() },
            Letter::Look,
            Letter::Paused,
            Letter::Leaving { node: from },
        ];
        for letter in letters {
            let read = Letter::read(&letter.bytes()).unwrap();
            assert_eq!(format!("{letter:?}"), format!("{read:?}"));
        }
    }

    #[test]
    fn a_reply_of_nothing_is_still_a_reply() {
        let letter = Letter::Reply { token: 1, view: view(Some("null")) };
        match Letter::read(&letter.bytes()) {
            Some(Letter::Reply { view, .. }) => assert_eq!(view.result.unwrap().get(), "null"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn letters_are_an_interface_with_other_builds() {
        let cancel = Letter::Cancel { position: Position::new(1, 9), from: 2, token: 3 };
        let text = |letter: &Letter| String::from_utf8(letter.bytes()).unwrap();
        assert_eq!(text(&cancel), r#"{"Cancel":{"position":281474976710665,"from":2,"token":3}}"#);
        assert_eq!(text(&Letter::Look), r#""Look""#);
        let runs = r#"{"Runs":{"token":3,"attempt":1}}"#;
        assert_eq!(text(&Letter::Runs { token: 3, attempt: Some(1), ended: None }), runs);
        assert!(matches!(Letter::read(runs.as_bytes()), Some(Letter::Runs { attempt: Some(1), ended: None, .. })));
        for unknown in [&b"{\"Sing\":{}}"[..], b"", b"\xff", b"{\"Cancel\":{}}"] {
            assert!(Letter::read(unknown).is_none());
        }
    }
}
