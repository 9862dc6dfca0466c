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
    /// The text to print. `check` checks the values of the settings.
    ///
    /// # Errors
    /// Names the file, variable or flag that is wrong.
    pub fn text(&self, check: impl FnOnce(&S) -> Result<(), ConfigError>) -> Result<String, ConfigError> {
        self.text_with(&Variables::of_process(), check)
    }

    /// Like [`Self::text`], with these environment variables instead of those of the process.
    ///
    /// # Errors
    /// Names the file, variable or flag that is wrong.
    pub fn text_with(
        &self,
        variables: &Variables,
        check: impl FnOnce(&S) -> Result<(), ConfigError>,
    ) -> Result<String, ConfigError> {
        match self {
            Self::Schema => Ok(format!("{:#}\n", schema::<S>())),
            Self::Show(args) => {
                let loaded = args.flags.load_with(variables)?;
                loaded.checked(check(&loaded.settings))?;
                if args.json { Ok(format!("{:#}\n", loaded.to_json()?)) } else { loaded.to_toml() }
            }
        }
    }
}
