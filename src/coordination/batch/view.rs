//! How far a batch is, and waiting for its end.
//!
//! Invariant: what is told is what its pages say, one by one, so while it runs the numbers are of no single
//! moment; once it is done they are exact.

use serde::Serialize;

use super::{
    Ends, Failed, NAMED,
    page::{self, Page},
    whole::{Command, State, Whole, channel, page_key},
};
use crate::{actor::Actor, address::Address, backend::document, error::Result, runtime::node::Node};

/// Pages read at once.
const PAGES: u32 = 200;
/// How often it is looked without having been told to: what another node says may be lost.
const LOOK: std::time::Duration = std::time::Duration::from_secs(2);

/// How a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// More members may be added.
    Open,
    /// Not all have ended.
    Running,
    /// It was cancelled; what had begun ends by itself.
    Cancelling,
    /// All have ended.
    Done,
}

/// A batch as anybody may see it who knows its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BatchView {
    /// Its id.
    pub batch: String,
    /// Its name.
    pub name: String,
    /// How it stands.
    pub status: Progress,
    /// How many members it has.
    pub total: i64,
    /// How many have not ended.
    pub waiting: i64,
    /// How the others ended.
    #[serde(flatten)]
    pub ends: Ends,
    /// Some of those that did not complete, at most [`NAMED`].
    pub failures: Vec<Failed>,
    /// When it was made, in milliseconds since the Unix epoch.
    pub made_at: i64,
    /// When all had ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<i64>,
}

impl Node {
    /// How a batch stands; `None` when there is none of that id, or it ended longer ago than results are kept.
    pub async fn batch(&self, id: &str) -> Result<Option<BatchView>> {
        let Some(mut state) = self.state::<Whole>(id).await?.filter(|state| state.made > 0) else { return Ok(None) };
        if state.done.is_none() {
            (state.ends, state.failures) = self.pages(id, &state).await?;
        }
        let status = match (state.done, state.cancelled, state.sealed) {
            (Some(_), ..) => Progress::Done,
            (None, true, _) => Progress::Cancelling,
            (None, false, true) => Progress::Running,
            (None, false, false) => Progress::Open,
        };
        Ok(Some(BatchView {
            batch: id.to_owned(),
            name: state.name,
            status,
            total: state.total,
            waiting: state.total - state.ends.all(),
            ends: state.ends,
            failures: state.failures,
            made_at: state.made,
            ended_at: state.done,
        }))
    }

    /// What the pages of a batch say.
    async fn pages(&self, id: &str, state: &State) -> Result<(Ends, Vec<Failed>)> {
        // Those that are whole have told the batch of their failures.
        let (mut ends, mut failures) = (Ends::default(), state.failures.clone());
        for first in (0..state.pages).step_by(PAGES as usize) {
            let numbers = first..state.pages.min(first + PAGES);
            let addresses = numbers.map(|number| Address::new(Page::KIND, &page_key(id, number)));
            for loaded in self.shared.backend.load(addresses.collect::<Result<_>>()?).await? {
                let page: page::State = document::decode(&loaded.doc)?;
                ends.add(page.ends());
                let room = NAMED.saturating_sub(failures.len());
                failures.extend(page.failures.into_iter().take(room));
            }
        }
        Ok((ends, failures))
    }

    /// Cancels a batch: what has not begun ends as cancelled, what waits for something is told to end, and
    /// what runs ends by itself. No more members can be added. Whether there is such a batch.
    pub async fn cancel_batch(&self, id: &str) -> Result<bool> {
        let known = self.state::<Whole>(id).await?.is_some_and(|state| state.made > 0);
        if known {
            self.ask(Whole::at(id), Command::Cancel).await?;
        }
        Ok(known)
    }

    /// Waits until all members of a batch have ended; `None` when there is no such batch.
    pub async fn batch_done(&self, id: &str) -> Result<Option<BatchView>> {
        let mut news = self.listen::<()>(&channel(id));
        loop {
            match self.state::<Whole>(id).await?.filter(|state| state.made > 0) {
                Some(state) if state.done.is_none() => {}
                _ => return self.batch(id).await,
            }
            // Heard or not: it looks again.
            let _ = self.clock().limit(LOOK, news.next()).await;
        }
    }
}
