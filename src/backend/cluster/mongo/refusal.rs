//! What MongoDB says of a single write that it did not do: that it met its own key, that it will never take
//! this document, or that it cannot now.
//!
//! An error that is final and taken for a passing one keeps its partition waiting for ever; a passing one that
//! is taken for final fails a command that could have succeeded. So the small numbers, which MongoDB gives to
//! all kinds of errors, are final where they are known to be about a document. Large ones are the places of
//! single checks in its source, such as those of its indexes, and are final unless they are known to pass.

use mongodb::bson::Document;

/// About the document: a bad value, a wrong type, too deep, not BSON, names that cannot be stored, a changed
/// `_id`, a validator, two arrays in one index.
const FINAL: [i32; 14] = [2, 14, 15, 22, 28, 52, 53, 54, 55, 56, 57, 66, 121, 171];
/// From here on numbers are places.
const PLACES: i32 = 10_000;
/// Not primary (or no longer, or not yet), interrupted, an index is built, routing is stale, the disk is full,
/// too many requests.
const PASSING: [i32; 11] = [10_058, 10_107, 11_600, 11_601, 11_602, 12_586, 12_587, 13_388, 13_435, 13_436, 14_031];
/// The document, or what becomes of it, is larger than 16 MiB.
const TOO_LARGE: [i32; 3] = [10_334, 17_419, 17_420];
/// A whole command is refused for what is in one of its documents: too deep, not BSON, too large.
const POISONED: [i32; 5] = [15, 22, 10_334, 17_419, 17_420];
const DUPLICATE: i32 = 11_000;
/// Bytes of its words that are kept: some have the whole document in them.
const WORDS: usize = 400;

/// What an error of a single write means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A document of this key is there, and was not when the write looked.
    OwnKey,
    /// It would be refused the next time too.
    Never {
        /// What the failure is called.
        code: &'static str,
        /// What its command is told.
        why: String,
    },
    /// Another time it may go.
    Passing(String),
}

/// What an element of `writeErrors` means.
pub(super) fn meaning(kind: &str, error: &Document) -> Meaning {
    let code = error.get_i32("code").unwrap_or(0);
    let words = error.get_str("errmsg").unwrap_or("no reason");
    if code != DUPLICATE {
        return if is_final(code) { never(code, words) } else { Meaning::Passing(format!("{words} (code {code})")) };
    }
    let fields: Vec<&str> =
        error.get_document("keyPattern").map(|keys| keys.keys().map(String::as_str).collect()).unwrap_or_default();
    let index = words.split_once("index: ").and_then(|(_, rest)| rest.split_once(" dup key")).map(|(name, _)| name);
    if fields == ["_id"] || (fields.is_empty() && index.is_none_or(|index| index.starts_with("_id_"))) {
        return Meaning::OwnKey;
    }
    let fields = if fields.is_empty() { "values".to_owned() } else { fields.join(" and ") };
    let index = index.unwrap_or("of it");
    let why =
        format!("MongoDB refuses the state: another {kind} has the same {fields}, and the index {index} is unique");
    Meaning::Never { code: "state_unsavable", why }
}

/// The numbers of what an answer says of single writes.
pub(super) fn codes(answer: &Document) -> impl Iterator<Item = i32> {
    let errors = answer.get_array("writeErrors").into_iter().flatten();
    errors.filter_map(|error| error.as_document()?.get_i32("code").ok())
}

/// What it means that a command with one write was refused as a whole.
pub(super) fn alone(code: i32, words: &str) -> Meaning {
    if is_poison(code) { never(code, words) } else { Meaning::Passing(words.to_owned()) }
}

/// Whether a whole command may be refused because of one of its documents.
pub(super) fn is_poison(code: i32) -> bool {
    POISONED.contains(&code)
}

fn is_final(code: i32) -> bool {
    FINAL.contains(&code) || (code >= PLACES && !PASSING.contains(&code))
}

fn never(code: i32, words: &str) -> Meaning {
    let mut end = words.len().min(WORDS);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    let more = if end < words.len() { " …" } else { "" };
    let why = format!("MongoDB refuses the state: {}{more} (code {code})", &words[..end]);
    let code = if TOO_LARGE.contains(&code) { "state_too_large" } else { "state_unsavable" };
    Meaning::Never { code, why }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::doc;

    use super::*;

    fn of(error: Document) -> Meaning {
        meaning("thing", &error)
    }

    #[test]
    fn what_is_wrong_with_a_document_is_final_and_what_is_wrong_with_the_server_passes() {
        for code in [2, 15, 121, 171, 16_755, 17_280] {
            let Meaning::Never { code: named, why } = of(doc! { "code": code, "errmsg": "no" }) else {
                panic!("{code}")
            };
            assert_eq!((named, why), ("state_unsavable", format!("MongoDB refuses the state: no (code {code})")));
        }
        for code in [10_334, 17_419] {
            assert!(matches!(alone(code, ""), Meaning::Never { code: "state_too_large", .. }), "{code}");
        }
        for code in [0, 1, 13, 24, 50, 91, 112, 189, 262, 8_000, 10_107, 11_600, 11_602, 14_031] {
            assert_eq!(of(doc! { "code": code, "errmsg": "no" }), Meaning::Passing(format!("no (code {code})")));
        }
        // A server that does not know our command says so of the command, and no state is to blame.
        assert_eq!(alone(40_415, "unknown field"), Meaning::Passing("unknown field".into()));
    }

    #[test]
    fn a_duplicate_is_its_own_key_or_the_value_of_another() {
        let own = "E11000 duplicate key error collection: db.thing index: _id_ dup key: { _id: \"a\" }";
        let other = "E11000 duplicate key error collection: db.thing index: mail dup key: { state.mail: \"a\" }";
        assert_eq!(of(doc! { "code": 11000, "errmsg": own, "keyPattern": { "_id": 1 } }), Meaning::OwnKey);
        assert_eq!(of(doc! { "code": 11000, "errmsg": own }), Meaning::OwnKey);
        for error in [
            doc! { "code": 11000, "errmsg": other, "keyPattern": { "state.mail": 1 } },
            doc! { "code": 11000, "errmsg": other },
        ] {
            let Meaning::Never { why, .. } = of(error) else { panic!() };
            assert!(why.ends_with("and the index mail is unique") && !why.contains("\"a\""), "{why}");
        }
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        let Meaning::Never { why, .. } = alone(15, &"é".repeat(WORDS)) else { panic!() };
        assert!(why.ends_with("é … (code 15)") && why.len() < WORDS + 60, "{why}");
    }
}
