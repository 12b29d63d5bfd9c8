//! From bytes to a checked value, or to a problem that names each field and the reason (G12).
//! Invariant: a value that came out is well-formed, of its type, and passed its own validation.

use garde::Validate;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::{
    problem::{Place, Problem},
    problems::{INVALID, MALFORMED_BODY, MALFORMED_QUERY},
};

/// What can be taken from a request: decoded, then validated by its own rules.
pub trait Checked: DeserializeOwned + Validate<Context = ()> {}

impl<T: DeserializeOwned + Validate<Context = ()>> Checked for T {}

/// A value from a JSON body.
pub(crate) fn body<T: Checked>(bytes: &[u8]) -> Result<T, Problem> {
    // Good bodies, the usual case, are decoded without keeping track of where we are.
    let value: T = serde_json::from_slice(bytes).map_err(|error| body_problem::<T>(bytes, &error))?;
    validated(value, |path| Place::Pointer(pointer(path.__iter().rev().map(|(_, part)| part.as_str()))), &INVALID)
}

/// A value from a query string.
pub(crate) fn query<T: Checked>(text: &str) -> Result<T, Problem> {
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded_pairs(text));
    let value: T = serde_path_to_error::deserialize(pairs).map_err(|error| {
        let reason = error.inner().to_string();
        let name = field(&reason).map_or_else(|| error.path().to_string(), str::to_owned);
        Problem::of(&MALFORMED_QUERY).fault(Place::Parameter(name), reason)
    })?;
    validated(value, |path| Place::Parameter(path.to_string()), &MALFORMED_QUERY)
}

fn form_urlencoded_pairs(text: &str) -> form_urlencoded::Parse<'_> {
    form_urlencoded::parse(text.as_bytes())
}

/// Passes the value on if its own validation does, or names every field that does not.
fn validated<T: Checked>(
    value: T,
    place: impl Fn(&garde::Path) -> Place,
    class: &'static super::problems::Class,
) -> Result<T, Problem> {
    match value.validate() {
        Ok(()) => Ok(value),
        Err(report) => Err(report
            .iter()
            .fold(Problem::of(class), |problem, (path, error)| problem.fault(place(path), error.message()))),
    }
}

/// Why `bytes` are no `T`: decodes once more, now keeping track of the place.
fn body_problem<T: DeserializeOwned>(bytes: &[u8], error: &serde_json::Error) -> Problem {
    let reason = reason(error);
    if error.classify() != Category::Data {
        return malformed(bytes, error);
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let tracked: Result<T, _> = serde_path_to_error::deserialize(&mut json);
    let mut pointer = match tracked {
        Err(error) => pointer_of(error.path()),
        // Not reached: what failed fails again.
        Ok(_) => String::new(),
    };
    if let Some(field) = field(&reason) {
        push(&mut pointer, field);
    }
    Problem::invalid(pointer, reason)
}

/// Why `bytes` are no JSON.
pub(super) fn malformed(bytes: &[u8], error: &serde_json::Error) -> Problem {
    let detail = match bytes.is_empty() {
        true => "The body is empty: expected JSON.".to_owned(),
        false => format!("{} at line {} column {}.", reason(error), error.line(), error.column()),
    };
    Problem::of(&MALFORMED_BODY).detail(detail)
}

/// The message without the place, which the pointer tells better.
fn reason(error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    if text.ends_with(&place) {
        text.truncate(text.len() - place.len());
    }
    text
}

/// The field that serde says is missing or there twice: its error is at the parent.
fn field(reason: &str) -> Option<&str> {
    let rest = reason.strip_prefix("missing field `").or_else(|| reason.strip_prefix("duplicate field `"))?;
    rest.strip_suffix('`')
}

fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => push(&mut pointer, &index.to_string()),
            Segment::Map { key } => push(&mut pointer, key),
            // A variant's name is part of the JSON where it tags its value.
            Segment::Enum { variant } => push(&mut pointer, variant),
            Segment::Unknown => {}
        }
    }
    pointer
}

/// A JSON pointer (RFC 6901) of parts.
fn pointer<'a>(parts: impl Iterator<Item = &'a str>) -> String {
    parts.filter(|part| !part.is_empty()).fold(String::new(), |mut pointer, part| {
        push(&mut pointer, part);
        pointer
    })
}

fn push(pointer: &mut String, part: &str) {
    pointer.push('/');
    for c in part.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c => pointer.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, Validate)]
    #[serde(deny_unknown_fields)]
    struct Order {
        #[garde(length(min = 1))]
        customer: String,
        #[garde(length(min = 1), dive)]
        lines: Vec<Line>,
    }

    #[derive(Debug, Deserialize, Validate)]
    #[serde(deny_unknown_fields)]
    struct Line {
        #[garde(skip)]
        #[serde(rename = "a/b~c")]
        _odd: Option<bool>,
        #[garde(range(min = 1))]
        quantity: u32,
    }

    #[derive(Debug, Deserialize, Validate)]
    #[serde(deny_unknown_fields)]
    struct Page {
        #[garde(range(min = 1, max = 100))]
        limit: Option<u32>,
    }

    fn refused(text: &str) -> (u16, String) {
        let problem = body::<Order>(text.as_bytes()).unwrap_err();
        (problem.status(), problem.to_string())
    }

    #[test]
    fn syntax_is_told_by_line_and_column() {
        for (text, place) in [("", "empty"), ("{\n\"customer\": }", "line 2 column 13"), ("{} x", "line 1 column 4")] {
            let (status, told) = refused(text);
            assert_eq!(status, if text == "{} x" { 422 } else { 400 }, "{told}");
            assert!(text == "{} x" || told.contains(place), "{told}");
        }
    }

    #[test]
    fn a_wrong_field_is_told_by_its_pointer() {
        for (text, pointer) in [
            (r#"{"customer":"a","lines":[{"quantity":"two"}]}"#, r#""pointer":"/lines/0/quantity""#),
            (r#"{"customer":"a","lines":[{}]}"#, r#""pointer":"/lines/0/quantity""#),
            (r#"{"customer":"a","lines":[{"quantity":0}]}"#, r#""pointer":"/lines/0/quantity""#),
            (r#"{"customer":"a","lines":[{"quantity":1,"a/b~c":1}]}"#, r#""pointer":"/lines/0/a~1b~0c""#),
            (r#"{"customer":"a","lines":[{"quantity":1}],"extra":1}"#, r#""pointer":"/extra""#),
            (r#"{"lines":[]}"#, r#""pointer":"/customer""#),
            (r#"{"customer":"a","customer":"b"}"#, r#""pointer":"/customer""#),
            (r#"[]"#, r#""pointer":"""#),
        ] {
            let (status, told) = refused(text);
            assert_eq!(status, 422, "{told}");
            assert!(told.contains(pointer), "{text}: {told}");
        }
    }

    #[test]
    fn every_field_that_breaks_a_rule_is_told() {
        let (_, told) = refused(r#"{"customer":"","lines":[{"quantity":0},{"quantity":0}]}"#);
        for pointer in ["/customer", "/lines/0/quantity", "/lines/1/quantity"] {
            assert!(told.contains(pointer), "{told}");
        }
    }

    #[test]
    fn a_wrong_parameter_is_told_by_its_name() {
        assert_eq!(query::<Page>("limit=5").unwrap().limit, Some(5));
        for text in ["limit=x", "limit=0", "limit=1&limit=2", "limit="] {
            let problem = query::<Page>(text).unwrap_err();
            assert_eq!(problem.status(), 400);
            assert!(problem.to_string().contains(r#""parameter":"limit""#), "{text}: {problem}");
        }
        assert!(query::<Page>("size=3").unwrap_err().to_string().contains("size"));
    }

    proptest! {
        #[test]
        fn no_body_breaks_it(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = body::<Order>(&bytes);
        }

        #[test]
        fn no_query_breaks_it(text in "\\PC{0,60}") {
            let _ = query::<Page>(&text);
        }

        #[test]
        fn no_json_is_accepted_unless_it_is_right(json in "[\\[\\]{}\":,a-z0-9 ]{0,40}") {
            if let Err(problem) = body::<Order>(json.as_bytes()) {
                prop_assert!(matches!(problem.status(), 400 | 422));
            }
        }
    }
}
