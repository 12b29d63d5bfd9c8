//! What cannot be undone is asked for twice.

use std::io::{IsTerminal, Write};

use super::trouble::Trouble;

/// Asks whether it is really wanted; where nobody can be asked, an error with this `warning`.
pub(super) fn sure(warning: &str, question: &str) -> Result<(), Trouble> {
    if !std::io::stdin().is_terminal() {
        return Err(Trouble::usage(warning).help("say --yes if you are sure"));
    }
    let mut answer = String::new();
    // Whoever cannot read the question does not answer it.
    let _ = write!(std::io::stderr(), "{question} [y/N] ");
    let read = std::io::stdin().read_line(&mut answer);
    match read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        true => Ok(()),
        false => Err(Trouble::new("nothing was changed")),
    }
}
