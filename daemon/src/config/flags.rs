//! The command line of a program's settings.

use std::fmt;
use std::io::Write;
use std::marker::PhantomData;
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};

use super::environment::Variables;
use super::kind::Kind;
use super::layers::{self, Loaded};
use super::value::{Assignment, Given};
use super::{ConfigError, Key, Origin, Settings, keys, mask_passwords, mask_url};

/// Selects the settings that are flags of a command.
pub trait Selection: 'static {
    /// Whether the setting with this key is a flag of the command.
    fn includes(key: &str) -> bool;
}

/// Every setting that has a flag.
#[derive(Debug, Clone, Copy)]
pub enum AllFlags {}

impl Selection for AllFlags {
    fn includes(_: &str) -> bool {
        true
    }
}

/// The flags of the settings `S` that `P` selects, and `--config`.
///
/// Their names, help and parsers are those of `S`. Defaults come from `S::default()`, and none of the flags is
/// required.
pub struct Flags<S, P = AllFlags> {
    config: Option<PathBuf>,
    given: Vec<Assignment>,
    marker: PhantomData<fn() -> (S, P)>,
}

impl<S: Settings, P: Selection> Flags<S, P> {
    /// The settings of all layers, checked.
    ///
    /// # Errors
    /// Names the file, variable or flag that is wrong.
    pub fn settings(&self) -> Result<S, ConfigError> {
        self.settings_with(&Variables::of_process())
    }

    /// Like [`Flags::settings`], with these environment variables instead of those of the process.
    ///
    /// # Errors
    /// Names the file, variable or flag that is wrong.
    pub fn settings_with(&self, variables: &Variables) -> Result<S, ConfigError> {
        let loaded = self.load_with(variables)?;
        loaded.check(variables)?;
        Ok(loaded.settings)
    }

    /// Like [`Flags::settings`], for the process that serves: [`Settings::check_start`] counts too.
    ///
    /// # Errors
    /// Names the file, variable or flag that is wrong.
    pub fn settings_to_start(&self) -> Result<S, ConfigError> {
        self.settings_to_start_with(&Variables::of_process())
    }

    /// Like [`Flags::settings_to_start`], with these environment variables instead of those of the process.
    ///
    /// # Errors
    /// Names the file, variable or flag that is wrong.
    pub fn settings_to_start_with(&self, variables: &Variables) -> Result<S, ConfigError> {
        let loaded = self.load_with(variables)?;
        loaded.check(variables)?;
        loaded.checked(loaded.settings.check_start(variables))?;
        Ok(loaded.settings)
    }

    /// Merges the layers: defaults, file, environment, flags.
    ///
    /// # Errors
    /// Names the file, variable or flag that is wrong.
    pub fn load(&self) -> Result<Loaded<S>, ConfigError> {
        self.load_with(&Variables::of_process())
    }

    /// The config file that the command line or the environment of the process names, if either does.
    pub fn config_file(&self) -> Option<PathBuf> {
        self.config.clone().or_else(|| Variables::of_process().config_file::<S>())
    }

    /// The config file, if the value of this key comes from it.
    pub fn file_that_sets(&self, key: &str) -> Option<PathBuf> {
        match self.load().ok()?.origin(key) {
            Origin::File { path, .. } => Some(path),
            _ => None,
        }
    }

    /// Like [`Flags::load`], with these environment variables instead of those of the process.
    ///
    /// # Errors
    /// Names the file, variable or flag that is wrong.
    pub fn load_with(&self, variables: &Variables) -> Result<Loaded<S>, ConfigError> {
        let mut upper = variables.assignments::<S>(&keys::<S>())?;
        upper.extend(self.given.iter().cloned());
        let file = self.config.clone().or_else(|| variables.config_file::<S>());
        layers::load(file.as_deref(), &upper)
    }
}

impl<S, P> Clone for Flags<S, P> {
    fn clone(&self) -> Self {
        Self { config: self.config.clone(), given: self.given.clone(), marker: PhantomData }
    }
}

impl<S, P> Default for Flags<S, P> {
    fn default() -> Self {
        Self { config: None, given: Vec::new(), marker: PhantomData }
    }
}

impl<S, P> fmt::Debug for Flags<S, P> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Flags").field("config", &self.config).field("given", &self.given).finish_non_exhaustive()
    }
}

impl<S: Settings, P: Selection> Args for Flags<S, P> {
    fn augment_args(command: Command) -> Command {
        let config =
            Arg::new(CONFIG).long(CONFIG).value_name("FILE").value_parser(value_parser!(PathBuf)).help(format!(
                "Config file (TOML); its keys are named like the long options, with _ instead of - [env: {}CONFIG]",
                S::PREFIX
            ));
        let keys = keys::<S>();
        let flags = flags_of::<S, P>().map(|flag| match keys.iter().find(|key| key.path == [flag.get_id().as_str()]) {
            Some(key) => completed::<S>(flag, key),
            None => flag,
        });
        command.arg(config).args(flags)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<S: Settings, P: Selection> FromArgMatches for Flags<S, P> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let keys = keys::<S>();
        let mut given = Vec::new();
        for flag in flags_of::<S, P>() {
            let id = flag.get_id().as_str();
            if matches.value_source(id) != Some(ValueSource::CommandLine) {
                continue;
            }
            let Some(key) = keys.iter().find(|key| key.path == [id]) else { continue };
            let name = format!("--{}", flag.get_long().unwrap_or(id));
            let wrong = |why: &str| clap::Error::raw(ErrorKind::ValueValidation, format!("{name}: {why}\n"));
            let texts = matches.get_raw(id).into_iter().flatten().map(|text| text.to_str().map(str::to_owned));
            let texts: Vec<String> = texts.collect::<Option<_>>().ok_or_else(|| wrong("is not UTF-8"))?;
            let value = Given::of_parts(&texts, &key.kind).map_err(|why| wrong(&why))?;
            given.push(Assignment { path: key.path.clone(), value, origin: Origin::Flag(name) });
        }
        Ok(Self { config: matches.get_one(CONFIG).cloned(), given, marker: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Prints an error of the command line, or its help, without the passwords of URLs that it quotes.
pub fn print_line_error(error: &clap::Error) {
    // Printing fails only if the reader has closed the pipe.
    let _ = match without_passwords(error) {
        Some(text) => std::io::stderr().write_all(text.as_bytes()),
        None => error.print(),
    };
}

/// The text of an error, if it has a password to mask.
fn without_passwords(error: &clap::Error) -> Option<String> {
    let text = error.to_string();
    let masked = match (error.kind(), error.get(ContextKind::InvalidValue)) {
        // The reason quotes what may be shown of it. Its path may be a secret.
        (ErrorKind::ValueValidation, Some(ContextValue::String(value))) => {
            text.replace(&format!("'{value}'"), &format!("'{}'", without_path(value)))
        }
        _ => text.clone(),
    };
    let masked = mask_passwords(&masked);
    (masked != text).then(|| masked.into_owned())
}

/// A URL that cannot be used, with `***` for its path and what follows it. Other texts stay.
fn without_path(text: &str) -> String {
    let masked = mask_url(text);
    let path = masked.find("://").and_then(|scheme| Some(scheme + 3 + masked[scheme + 3..].find(['/', '?', '#'])? + 1));
    match path {
        Some(path) if path < masked.len() => format!("{}***", &masked[..path]),
        _ => masked.into_owned(),
    }
}

/// The flag for the config file.
const CONFIG: &str = "config";

fn flags_of<S: Settings, P: Selection>() -> impl Iterator<Item = Arg> {
    let flags: Vec<Arg> = S::augment_args(Command::new("")).get_arguments().cloned().collect();
    flags.into_iter().filter(|flag| P::includes(flag.get_id().as_str()))
}

/// Adds to a flag what its key determines: default, variable, and how its values are given.
fn completed<S: Settings>(flag: Arg, key: &Key) -> Arg {
    let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
    let default = match key.default_text() {
        none if none.is_empty() => none,
        some => format!(" [default: {some}]"),
    };
    let notes = format!("{default} [env: {}]", key.variable::<S>());
    let long_help = flag.get_long_help().map(|help| format!("{help}{notes}"));
    // Without an order of its own, the flag is listed after the flags that the command already has.
    let mut flag = flag.required(false).display_order(Resettable::Reset).help(format!("{help}{notes}"));
    if let Some(help) = long_help {
        flag = flag.long_help(help);
    }
    match &key.kind {
        Kind::Bool => switch(flag).value_parser(value_parser!(bool)).value_name("true|false"),
        Kind::Switch(_) => switch(flag),
        Kind::List(_) => flag.value_delimiter(','),
        _ => flag,
    }
}

/// A flag that is true when it is given without a value.
fn switch(flag: Arg) -> Arg {
    flag.action(ArgAction::Set)
        .hide_possible_values(true)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_about_a_flag_shows_no_password() {
        let arg = Arg::new("node").long("node").value_parser(value_parser!(crate::url::HttpUrl));
        let line =
            |url: &str| Command::new("hub").arg(arg.clone()).try_get_matches_from(["hub", "--node", url]).unwrap_err();
        let text = without_passwords(&line("ftp://anna:98765@host")).unwrap();
        assert!(text.contains("ftp://anna:***@host") && !text.contains("98765"), "{text}");
        assert_eq!(without_passwords(&line("ftp://host")), None);
        let path = line("ftp://host/password=98765");
        let text = without_passwords(&path).unwrap();
        assert!(text.contains("invalid value 'ftp://host/***' for"), "{text}");
    }
}
