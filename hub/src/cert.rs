//! `hub cert`: the certificate of the gateway, and the CA that phones and computers need.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use daemon::config::ConfigError;
use daemon::{EXIT_FAILURE, EXIT_USAGE};
use hub_gateway::tls::{Authority, CertificateError, CertificateInUse};
use jiff::Timestamp;

use crate::cli::CertArgs;
use crate::config::HubSettings;

/// Why the certificates cannot be shown.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// Prints the fingerprints and the names of the certificates.
pub fn show(args: &CertArgs) -> ExitCode {
    match text_of(args) {
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::from(EXIT_FAILURE),
        },
        Err(error) => {
            // A closed standard error is no reason to panic.
            let _ = writeln!(std::io::stderr(), "{error}");
            let is_usage = matches!(error, Failure::Config(_));
            ExitCode::from(if is_usage { EXIT_USAGE } else { EXIT_FAILURE })
        }
    }
}

fn text_of(args: &CertArgs) -> Result<String, Failure> {
    let config: HubSettings = args.settings.load()?.settings;
    if let Some((cert, key)) = config.gateway.files() {
        return Ok(in_words(&format!("Certificate in {}", cert.display()), &CertificateInUse::in_files(cert, key)?));
    }
    Ok(own(&config.data_dir()?)?)
}

fn own(data_dir: &Path) -> Result<String, CertificateError> {
    let Some(authority) = Authority::read(data_dir)? else {
        return Ok(
            "The gateway has no certificate yet. It makes one when it first listens beyond loopback, for example \
                   with http = [\"0.0.0.0:5000\", \"[::]:5000\"].\n"
                .to_owned(),
        );
    };
    let mut text = format!(
        "CA of this hub: install it on phones and computers, from /ca.crt of the gateway\n  name         {}\n  \
         fingerprint  {}\n  may sign     {}, private addresses\n",
        authority.subject(),
        authority.fingerprint(),
        authority.permitted().collect::<Vec<_>>().join(", "),
    );
    if let Some(in_use) = CertificateInUse::own(data_dir) {
        text += &in_words("Certificate in use", &in_use);
    }
    Ok(text)
}

fn in_words(title: &str, certificate: &CertificateInUse) -> String {
    let mut text = format!(
        "{title}\n  fingerprint  {}\n  names        {}\n",
        certificate.fingerprint,
        certificate.names.join(", ")
    );
    if let Some(until) = certificate.until_s.and_then(|until| Timestamp::from_second(until.cast_signed()).ok()) {
        // Writing to a text does not fail.
        let _ = writeln!(text, "  valid until  {until}, renewed before that");
    }
    text
}
