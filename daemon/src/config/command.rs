//! `config show` and `config schema`, the same in every program.

use clap::{Args, Subcommand};

use super::{ConfigError, Flags, Settings, Variables, schema};

/// The subcommands of `config`.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand<S: Settings> {
    /// Print the settings in effect and the source of each
    Show(ShowArgs<S>),
    /// Print a JSON Schema of the config file
    Schema,
}

/// Options of `config show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArgs<S: Settings> {
    /// Print JSON instead of a config file
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    flags: Flags<S>,
}

impl<S: Settings> ConfigCommand<S> {
    /// The text to print. Settings that would stop the start of the program are refused here too.
    ///
    /// # Errors
    /// Names the file, variable or flag that is wrong.
    pub fn text(&self) -> Result<String, ConfigError> {
        self.text_with(&Variables::of_process())
    }

    /// Like [`Self::text`], with these environment variables instead of those of the process.
    ///
    /// # Errors
    /// Names the file, variable or flag that is wrong.
    pub fn text_with(&self, variables: &Variables) -> Result<String, ConfigError> {
        match self {
            Self::Schema => Ok(format!("{:#}\n", schema::<S>())),
            Self::Show(args) => {
                let loaded = args.flags.load_with(variables)?;
                loaded.check(variables)?;
                let derived = loaded.settings.derived(variables);
                if args.json { Ok(format!("{:#}\n", loaded.to_json(&derived)?)) } else { loaded.to_toml(&derived) }
            }
        }
    }
}
