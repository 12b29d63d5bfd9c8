//! The nearest known name to a mistyped one.

/// The one of `known` that `typed` was probably meant to be, if any is near enough to be helpful.
pub(crate) fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(typed, name), name))
        .filter(|(likeness, name)| *likeness >= 0.6 || (name.len() > 3 && typed.contains(name)))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

/// `: did you mean "name"?`, or the known names when none is near.
pub(crate) fn hint<'a>(typed: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(typed, known.clone()) {
        Some(name) => format!("did you mean {name:?}?"),
        None => {
            let names: Vec<&str> = known.into_iter().collect();
            if names.is_empty() {
                "nothing is known here".into()
            } else {
                format!("expected one of {}", names.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_mistake_is_recognised_and_nonsense_is_not() {
        let known = ["listen", "workers", "body_limit"];
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("body-limit", known), Some("body_limit"));
        assert_eq!(nearest("zzz", known), None);
        assert_eq!(hint("zzz", known), "expected one of listen, workers, body_limit");
    }
}
