//! The command line of every product built on Greenroom, one command a file. Exit codes are an
//! interface: 0 it is fine, 1 the thing is wrong, 2 the command was not given right.

mod audit;
mod completions;
mod config;
mod connections;
mod dead;
mod doctor;
mod http;
mod letter;
mod limits;
mod locks;
mod nodes;
mod output;
mod page;
mod partitions;
mod pause;
mod replay;
mod request;
mod resize;
mod schedules;
mod send;
mod serve;
mod sessions;
mod story;
mod sure;
mod target;
#[cfg(test)]
mod tests;
mod topics;
mod trouble;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use self::{
    output::Output,
    trouble::{Trouble, WRONG},
};
use crate::{
    config::{Config, Sources},
    error::Result,
    feature::Feature,
};

/// What a binary is made of.
///
/// ```no_run
/// use greenroom::{cli::{self, Product}, config::Config, Feature, Result};
///
/// fn features(config: &Config) -> Result<Vec<Feature>> {
///     Ok(vec![])
/// }
///
/// fn main() -> std::process::ExitCode {
///     cli::main(Product::new("shop", "1.0.0", features))
/// }
/// ```
pub struct Product {
    name: &'static str,
    version: &'static str,
    features: fn(&Config) -> Result<Vec<Feature>>,
    defaults: Vec<&'static str>,
    first_request: Option<&'static str>,
}

impl Product {
    /// A product called `name` (its binary), made of `features`.
    pub fn new(name: &'static str, version: &'static str, features: fn(&Config) -> Result<Vec<Feature>>) -> Self {
        Self { name, version, features, defaults: Vec::new(), first_request: None }
    }

    /// TOML text with the sections of its features and their defaults, in the manner of
    /// [`REFERENCE`](crate::config::REFERENCE).
    pub fn defaults(mut self, toml: &'static str) -> Self {
        self.defaults.push(toml);
        self
    }

    /// A command to try once it serves; `{url}` in it becomes the gateway's address.
    pub fn first_request(mut self, command: &'static str) -> Self {
        self.first_request = Some(command);
        self
    }
}

/// Durable actors for product backends: one process, nothing lost.
#[derive(Parser, Debug)]
#[command(
    after_help = "\
Start here:
  greenroom doctor                 is this machine fit to serve?
  greenroom serve                  serve on http://127.0.0.1:8080, data in ./data
  greenroom config check           what is configured, and where each value comes from

Exit codes: 0 it is fine, 1 the thing is wrong, 2 the command was not given right.",
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    /// Configuration file; only what differs from the defaults
    #[arg(long, global = true, value_name = "FILE", env = "GREENROOM_CONFIG", help_heading = "Everywhere")]
    config: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long, global = true, help_heading = "Everywhere")]
    json: bool,
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    Serve(serve::Serve),
    Send(send::Send),
    Request(request::Request),
    Dead(dead::Dead),
    Schedules(schedules::Schedules),
    Topics(topics::Topics),
    Replay(replay::Replay),
    Audit(audit::Audit),
    Locks(locks::Locks),
    Nodes(nodes::Nodes),
    Pause(pause::Pause),
    Resume(pause::Resume),
    Paused(pause::Paused),
    Cancel(pause::Cancel),
    Partitions(partitions::Partitions),
    Sessions(sessions::SessionsCommand),
    Limits(limits::Limits),
    Connections(connections::Connections),
    Config(config::ConfigCommand),
    Doctor(doctor::Doctor),
    Completions(completions::Completions),
}

/// What every command is given.
struct Context {
    product: Product,
    file: Option<PathBuf>,
    out: Output,
}

/// Whether the thing is fine; a command that says `Wrong` has printed why.
enum Verdict {
    Fine,
    Wrong,
}

impl Context {
    fn sources(&self, flags: Vec<(&'static str, &'static str, &'static str, String)>) -> Sources {
        Sources { defaults: self.product.defaults.clone(), file: self.file.clone(), flags, ..Sources::process() }
    }

    /// The configuration and the features built from it: only then is it known which sections
    /// somebody reads.
    fn load(
        &self,
        flags: Vec<(&'static str, &'static str, &'static str, String)>,
    ) -> Result<(Config, Vec<Feature>), Trouble> {
        let build = || {
            let config = Config::from_sources(self.sources(flags))?;
            let features = (self.product.features)(&config)?;
            config.finish()?;
            Ok::<_, crate::Error>((config, features))
        };
        build().map_err(|e| Trouble::from(e).help("`greenroom config defaults` shows every key with its default"))
    }
}

/// Reads an argument whose errors are Greenroom's own.
fn parsed<T: std::str::FromStr<Err = crate::Error>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|e: crate::Error| e.to_string())
}

/// Runs the command line of `product` and answers with the exit code of the process.
pub fn main(product: Product) -> ExitCode {
    crate::tls::install();
    run(product, std::env::args_os())
}

fn run(product: Product, args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let command = command(product.name, product.version);
    let cli = match command.try_get_matches_from(args).and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        // Help and version are asked for and go to standard output; mistakes are explained and exit 2.
        Err(error) => error.exit(),
    };
    let out = Output::new(cli.json);
    let cx = Context { product, file: cli.config, out };
    let verdict = match cli.command {
        Verb::Serve(command) => command.run(cx),
        Verb::Send(command) => command.run(&cx),
        Verb::Request(command) => command.run(&cx),
        Verb::Dead(command) => command.run(&cx),
        Verb::Schedules(command) => command.run(&cx),
        Verb::Topics(command) => command.run(&cx),
        Verb::Replay(command) => command.run(&cx),
        Verb::Audit(command) => command.run(&cx),
        Verb::Locks(command) => command.run(&cx),
        Verb::Nodes(command) => command.run(&cx),
        Verb::Pause(command) => command.run(&cx),
        Verb::Resume(command) => command.run(&cx),
        Verb::Paused(command) => command.run(&cx),
        Verb::Cancel(command) => command.run(&cx),
        Verb::Partitions(command) => command.run(&cx),
        Verb::Sessions(command) => command.run(&cx),
        Verb::Limits(command) => command.run(&cx),
        Verb::Connections(command) => command.run(&cx),
        Verb::Config(command) => command.run(&cx),
        Verb::Doctor(command) => command.run(&cx),
        Verb::Completions(command) => command.run(&cx),
    };
    match verdict {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::Wrong) => ExitCode::from(WRONG),
        Err(trouble) => {
            out.trouble(&trouble);
            ExitCode::from(trouble.exit)
        }
    }
}

/// The command line under the product's own name, in examples too.
fn command(name: &'static str, version: &'static str) -> Command {
    fn rename(mut command: Command, name: &str) -> Command {
        if let Some(help) = command.get_after_help() {
            let help = help.to_string().replace("greenroom ", &format!("{name} "));
            command = command.after_help(help);
        }
        let names: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
        names.into_iter().fold(command, |command, sub| command.mut_subcommand(sub, |sub| rename(sub, name)))
    }
    rename(Cli::command().name(name).bin_name(name).version(version), name)
}
