//! The manual page of a program and its shell completions, from its command line and its settings.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use crate::config::{Settings, keys};

/// The parts of a manual page that the command line does not give: names and what they mean.
#[derive(Debug, Clone, Copy)]
pub struct Manual<'a> {
    /// Environment variables that are not settings.
    pub environment: &'a [(&'a str, &'a str)],
    /// Files and folders.
    pub files: &'a [(&'a str, &'a str)],
    /// Other pages, as in `hub(8)`.
    pub see_also: &'a [&'a str],
}

/// Exit codes, the same for both programs.
const EXIT_CODES: [(&str, &str); 3] = [
    ("0", "Stopped as asked, or done."),
    ("1", "Failed while it ran."),
    ("64", "Wrong options, or a config that cannot be used. The message names the option, variable, or line and key."),
];

const SECTION: &str = "8";

impl Manual<'_> {
    /// Writes the page `PROGRAM.8`, and the completions `PROGRAM.bash`, `_PROGRAM` and `PROGRAM.fish`, into a folder,
    /// which is made.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write<C: CommandFactory, S: Settings>(&self, folder: &Path) -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            clap_complete::generate_to(shell, &mut C::command(), S::PROGRAM, folder)?;
        }
        self.write_page::<S>(C::command(), File::create(folder.join(format!("{}.{SECTION}", S::PROGRAM)))?)
    }

    fn write_page<S: Settings>(&self, command: Command, mut out: impl Write) -> io::Result<()> {
        let mut command = command.disable_help_subcommand(true);
        command.build();
        let page = Man::new(command.clone()).section(SECTION).manual("Meowlink");
        page.render_title(&mut out)?;
        page.render_name_section(&mut out)?;
        page.render_synopsis_section(&mut out)?;
        page.render_description_section(&mut out)?;
        page.render_options_section(&mut out)?;
        let commands = commands(&command)?;
        out.write_all(commands.as_bytes())?;
        self.rest::<S>(&command).to_writer(&mut out)?;
        out.flush()
    }

    /// The sections after the commands.
    fn rest<S: Settings>(&self, command: &Command) -> Roff {
        let mut roff = Roff::new();
        roff.control("SH", ["ENVIRONMENT"]);
        let about = "Each of these variables sets a key of the config file. A flag overrides a variable, and a \
                     variable overrides the file. The items of a list are separated by commas. The name in \
                     parentheses is the older one; it is used if the new one is not set.";
        roff.text([roman(about)]);
        for key in keys::<S>().iter().filter(|key| key.is_scalar()) {
            let mut names = vec![bold(key.variable::<S>())];
            if let Some(old) = key.old_variable::<S>() {
                names.extend([roman(" ("), bold(old), roman(")")]);
            }
            let flag =
                command.get_arguments().find(|flag| key.path == [flag.get_id().as_str()]).and_then(Arg::get_long);
            let text = match flag {
                Some(flag) => format!("Same as --{flag}."),
                None => format!("{} ({} in the config file).", key.description.trim_end_matches('.'), key.dotted()),
            };
            item(&mut roff, names, &text);
        }
        let names = vec![
            bold(format!("{}CONFIG", S::PREFIX)),
            roman(" ("),
            bold(format!("{}CONFIG", S::OLD_PREFIX)),
            roman(")"),
        ];
        item(&mut roff, names, "Same as --config.");
        list(&mut roff, self.environment);
        roff.control("SH", ["FILES"]);
        list(&mut roff, self.files);
        roff.control("SH", ["EXIT STATUS"]);
        list(&mut roff, &EXIT_CODES);
        roff.control("SH", ["SEE ALSO"]);
        roff.text([roman(self.see_also.join(", "))]);
        roff
    }
}

fn list(roff: &mut Roff, pairs: &[(&str, &str)]) {
    for (name, text) in pairs {
        item(roff, vec![bold(*name)], text);
    }
}

fn item(roff: &mut Roff, name: Vec<Inline>, text: &str) {
    roff.control("TP", []);
    roff.text(name);
    // A paragraph is one line of the source, however the comment was wrapped.
    roff.text([roman(text.split_whitespace().collect::<Vec<_>>().join(" "))]);
}

/// The commands with their options. Options that the program itself has are only named.
fn commands(program: &Command) -> io::Result<String> {
    let mut leaves = Vec::new();
    collect(program, &mut leaves);
    let mut text = String::from(".SH COMMANDS\n");
    for command in leaves {
        let of_program = |arg: &Arg| program.get_arguments().any(|other| other.get_long() == arg.get_long());
        let above = |arg: &&Arg| arg.get_long().is_some() && of_program(arg);
        let shared: Vec<_> = command.get_arguments().filter(above).filter_map(Arg::get_long).collect();
        let named: Vec<_> = shared.iter().filter(|long| **long != "help").map(|long| format!("--{long}")).collect();
        let own = command
            .clone()
            .mut_args(|arg| if shared.contains(&arg.get_long().unwrap_or_default()) { arg.hide(true) } else { arg });
        let page = Man::new(own);
        let mut part = Vec::new();
        page.render_synopsis_section(&mut part)?;
        page.render_description_section(&mut part)?;
        page.render_options_section(&mut part)?;
        let part = String::from_utf8(part).map_err(io::Error::other)?;
        text.push_str(&format!(".SS {}\n", command.get_bin_name().unwrap_or_else(|| command.get_name())));
        // Here these parts belong to one section.
        for line in part.lines() {
            match line {
                ".SH SYNOPSIS" => {}
                ".SH DESCRIPTION" => text.push_str(".PP\n"),
                ".SH OPTIONS" => {}
                line => text.extend([line, "\n"]),
            }
        }
        if !named.is_empty() {
            let mut roff = Roff::new();
            roff.control("PP", []);
            roff.text([roman(format!("Also takes these options of the program: {}.", named.join(", ")))]);
            text.push_str(&roff.to_roff());
        }
    }
    Ok(text)
}

/// The commands without subcommands.
fn collect<'a>(command: &'a Command, leaves: &mut Vec<&'a Command>) {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        if sub.has_subcommands() {
            collect(sub, leaves);
        } else {
            leaves.push(sub);
        }
    }
}
