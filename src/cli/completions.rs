//! `completions`: a script that completes commands and flags in a shell.

use clap::{Args, ValueEnum};
use clap_complete::{Shell, generate};

use super::{Context, Verdict, trouble::Trouble};

/// Print a script that completes commands in your shell
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  greenroom completions bash > ~/.local/share/bash-completion/completions/greenroom
  greenroom completions zsh > \"${fpath[1]}/_greenroom\"
  greenroom completions fish > ~/.config/fish/completions/greenroom.fish")]
pub(super) struct Completions {
    /// The shell
    shell: Which,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    Bash,
    Zsh,
    Fish,
}

impl Completions {
    pub(super) fn run(self, cx: &Context) -> Result<Verdict, Trouble> {
        let shell = match self.shell {
            Which::Bash => Shell::Bash,
            Which::Zsh => Shell::Zsh,
            Which::Fish => Shell::Fish,
        };
        let mut script = Vec::new();
        let name = cx.product.name;
        generate(shell, &mut super::command(name, cx.product.version), name, &mut script);
        cx.out.line(String::from_utf8_lossy(&script).trim_end());
        Ok(Verdict::Fine)
    }
}
