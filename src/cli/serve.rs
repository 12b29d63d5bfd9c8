//! `serve`: runs the product until it is told to stop.

use std::path::PathBuf;

use clap::Args;

use super::{Context, Verdict, trouble::Trouble};
use crate::app::App;

/// Serve the product until SIGTERM or Ctrl-C, then finish what is running
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom serve
  greenroom serve --data /var/lib/shop --listen 127.0.0.1:9000
  GREENROOM_ADMIN__TOKEN=… greenroom serve --listen 0.0.0.0:8080 --config shop.toml

Stopping is safe at any moment: what was answered with 202 is on disk. A second Ctrl-C does not
wait for running work; it is run again at the next start.")]
pub(super) struct Serve {
    /// Data directory, created if missing [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address and port; port 0 takes a free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
}

impl Serve {
    pub(super) fn run(self, cx: Context) -> Result<Verdict, Trouble> {
        let data = self.data.map(|data| ("--data", "store", "data", data.display().to_string()));
        let listen = self.listen.map(|listen| ("--listen", "gateway", "listen", listen));
        let (config, features) = cx.load(data.into_iter().chain(listen).collect())?;
        let mut app = App::new(config).version(cx.product.version);
        if let Some(first) = cx.product.first_request {
            app = app.first_request(first);
        }
        let ran = features.into_iter().fold(app, App::feature).run();
        ran.map_err(|e| Trouble::from(e).help("`greenroom doctor` looks for what is wrong on this machine"))?;
        Ok(Verdict::Fine)
    }
}
