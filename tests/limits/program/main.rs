//! One of several processes that share two permits. Each that is in has a file in the directory
//! `HOLDER_DIR`; whoever comes in prints which there are. As `HOLDER_MODE=hold` it stays in for ever.
//! A file is made after the permit is taken and removed before it is given back, so there are never more
//! files than permits held.

use std::{io::Write, path::PathBuf, time::Duration};

use greenroom::{config::Config, prelude::*};

/// Prints a line at once.
fn say(text: &str) {
    let mut out = std::io::stdout();
    // Without a reader there is nobody to tell.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

fn main() -> Result<()> {
    let dir = PathBuf::from(std::env::var("HOLDER_DIR")?);
    let hold = std::env::var("HOLDER_MODE").is_ok_and(|mode| mode == "hold");
    let mine = dir.join(std::process::id().to_string());
    let gate = Limit::concurrency(2).lease(Duration::from_secs(2));
    let app = App::new(Config::load(None)?).feature(Feature::default().limit("gate", gate));
    app.run_until(|node| async move {
        loop {
            let permit = node.limits().enter("gate").await?;
            std::fs::write(&mine, "")?;
            let inside = std::fs::read_dir(&dir)?.map(|file| Ok(file?.file_name().to_string_lossy().into_owned()));
            say(&inside.collect::<Result<Vec<_>>>()?.join(" "));
            if hold {
                std::future::pending::<()>().await;
            }
            actix::clock::sleep(Duration::from_millis(15)).await;
            std::fs::remove_file(&mine)?;
            drop(permit);
        }
    })
}
