//! Why a certificate cannot be used or made.

use std::path::{Path, PathBuf};

use daemon::cause::cause;

/// Why a certificate cannot be used or made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read or written.
    #[error("{}: {}", path.display(), cause(error))]
    File {
        /// The file.
        path: PathBuf,
        /// Why. Not the error's source: the message has all that it says.
        error: std::io::Error,
    },
    /// A file was read and has not what is needed.
    #[error("{}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The certificate cannot be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The library refuses the settings.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
    /// The system gives no random numbers, or a key is damaged.
    #[error("cannot make or read a private key")]
    Key,
}

impl CertificateError {
    pub(super) fn file(path: &Path) -> impl Fn(std::io::Error) -> Self {
        move |error| Self::File { path: path.to_owned(), error }
    }

    pub(super) fn content(path: &Path, why: impl Into<String>) -> Self {
        Self::Content { path: path.to_owned(), why: why.into() }
    }
}
