//! What the processes write under the lock, and who writes it down.

use greenroom::prelude::*;
use serde::{Deserialize, Serialize};

/// One line, under a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) who: String,
    pub(crate) token: u64,
}

/// Writes down what it is told, in order.
pub(crate) struct Log;

impl Actor for Log {
    const KIND: &'static str = "log";
    type State = Vec<Line>;
    type Command = Line;
    type Reply = ();

    async fn handle(&self, lines: &mut Vec<Line>, line: Line, _: &Context<Self>) -> Result<()> {
        lines.push(line);
        Ok(())
    }
}
