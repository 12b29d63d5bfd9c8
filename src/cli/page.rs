//! Which part of a long list is shown.

use clap::Args;

/// A page of a list.
#[derive(Args, Clone, Debug)]
pub(super) struct Page {
    /// At most this many
    #[arg(long, default_value_t = Page::default().limit, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(super) limit: u16,
    /// Go on after the page that gave this cursor
    #[arg(long)]
    pub(super) cursor: Option<String>,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: 50, cursor: None }
    }
}
