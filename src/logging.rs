//! Log lines on standard error: for people on a terminal, JSON for machines, filtered by
//! `[log] filter` or `GREENROOM_LOG`. Started at most once; a program's own subscriber wins.

use std::io::IsTerminal;

use tracing_subscriber::{
    EnvFilter,
    fmt::{format::Writer, time::FormatTime},
};

use crate::config::{Format, Log};

/// Starts logging as configured.
pub(crate) fn start(log: &Log) {
    start_with(log, &log.filter);
}

/// Starts logging of warnings only: for programs whose own output is the point.
pub(crate) fn start_quiet(log: &Log) {
    start_with(log, "warn");
}

/// Whether `text` is a filter, and if not, why.
pub(crate) fn check_filter(text: &str) -> Result<(), String> {
    EnvFilter::try_new(text)
        .map(|_| ())
        .map_err(|e| format!("{e}: expected a level (error, warn, info, debug, trace) or \"info,greenroom=debug\""))
}

fn start_with(log: &Log, filter: &str) {
    // Checked when it was read; a filter that fails here nonetheless logs everything of note.
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Somebody else's subscriber being there already is fine: they chose it.
    let _ = match log.format {
        Format::Pretty => builder.with_ansi(colours(terminal)).with_timer(TimeOfDay).try_init(),
        Format::Auto if terminal => builder.with_ansi(colours(terminal)).with_timer(TimeOfDay).try_init(),
        Format::Json | Format::Auto => builder.json().flatten_event(true).with_span_list(false).try_init(),
    };
}

fn colours(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// On a terminal the date is known; in UTC, because it is compared with other logs.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, w: &mut Writer<'_>) -> std::fmt::Result {
        write!(w, "{}", jiff::Timestamp::now().strftime("%H:%M:%S%.3fZ"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_is_none_is_refused_with_what_is() {
        assert!(check_filter("info,greenroom=debug").is_ok());
        assert!(check_filter("greenroom=lots").unwrap_err().contains("expected a level"));
    }
}
