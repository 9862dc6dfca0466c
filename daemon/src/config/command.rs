//! `config show` and `config schema`, the same in every program.

use clap::{Args, Subcommand};

use super::{ConfigError, Flags, Settings, Variables, schema};

/// What to print about the settings.
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand<S: Settings> {
    /// Print the settings in effect, and where each comes from
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
    /// The text to print. `check` says whether the settings make sense.
    ///
    /// # Errors
    /// Names the file, variable or flag that is wrong.
    pub fn text(&self, check: impl FnOnce(&S) -> Result<(), ConfigError>) -> Result<String, ConfigError> {
        self.text_with(&Variables::of_process(), check)
    }

    /// The same with other environment variables than those of the process.
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
