//! Time zones: what the clocks on the wall show, and when they show it.
//!
//! The zones are those compiled in, so all nodes of one build agree. A time on the wall is no instant:
//! where clocks go forward some never come, where they go back some come twice. [`first`] is the one
//! place that decides which instant is meant.

use jiff::{
    SignedDuration, Timestamp,
    civil::DateTime,
    tz::{AmbiguousOffset, TimeZone},
};

use crate::{
    config::suggest::nearest,
    error::{Error, Result},
};

/// The zone of a name of the IANA database. Terminal error that suggests one when there is none.
pub(super) fn find(name: &str) -> Result<TimeZone> {
    TimeZone::get(name).map_err(|_| {
        let known: Vec<String> = jiff::tz::db().available().map(|zone| zone.as_str().to_owned()).collect();
        let hint = nearest(name, known.iter().map(String::as_str));
        let hint = hint.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        Error::terminal(format!("there is no time zone {name:?}: expected an IANA name such as Europe/Berlin{hint}"))
            .code("bad_schedule")
    })
}

/// The first instant at which the clocks of `zone` show `wall`. When they never do because they go forward
/// over it: the instant at which they do so. `None` beyond the calendar.
pub(super) fn first(zone: &TimeZone, wall: DateTime) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(wall).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(wall).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(wall).ok(),
        AmbiguousOffset::Gap { before, .. } => {
            // By the clocks as they were, it would be after the change and before the next one.
            let would_be = before.to_timestamp(wall).ok()?;
            let after = would_be.checked_add(SignedDuration::from_secs(1)).ok()?;
            zone.preceding(after).next().map(|change| change.timestamp())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_that_is_none_is_refused_with_one_that_is() {
        let error = find("Europe/Berln").unwrap_err();
        assert!(error.is_terminal() && error.to_string().contains("did you mean \"Europe/Berlin\"?"), "{error}");
        assert!(find("Europe/Berlin").is_ok() && find("UTC").is_ok());
    }

    #[test]
    fn what_clocks_show_never_once_or_twice() {
        let berlin = find("Europe/Berlin").unwrap();
        let at = |wall: &str| first(&berlin, wall.parse().unwrap()).unwrap().to_string();
        assert_eq!(at("2026-03-29T01:59:59"), "2026-03-29T00:59:59Z");
        assert_eq!(at("2026-03-29T02:00:00"), "2026-03-29T01:00:00Z", "the hour that never comes: when it would end");
        assert_eq!(at("2026-03-29T02:59:59"), "2026-03-29T01:00:00Z");
        assert_eq!(at("2026-03-29T03:00:00"), "2026-03-29T01:00:00Z");
        assert_eq!(at("2026-10-25T02:30:00"), "2026-10-25T00:30:00Z", "the hour that comes twice: the first time");
        assert_eq!(at("2026-10-25T03:00:00"), "2026-10-25T02:00:00Z");
        // A whole day that never came: the date line moved.
        let apia = find("Pacific/Apia").unwrap();
        assert_eq!(first(&apia, "2011-12-30T12:00:00".parse().unwrap()).unwrap().to_string(), "2011-12-30T10:00:00Z");
    }
}
