//! Errors of object stores.

use std::io;
use std::ops::Range;

/// Why an object could not be read or written. The messages do not contain the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL is invalid.
    #[error("{0}")]
    Url(String),
    /// The object, or its bucket, does not exist.
    #[error("no such object")]
    NotFound,
    /// The server requires other credentials.
    #[error("access denied: {0}")]
    Denied(String),
    /// The object exists already.
    #[error("object exists")]
    Exists,
    /// The object was replaced while it was read.
    #[error("object changed while it was read: found {found}, expected {expected}")]
    Changed {
        /// The entity tag or size of the last answer.
        found: String,
        /// The entity tag or size of the first answer.
        expected: String,
    },
    /// The server does not serve ranges.
    #[error("server does not support range requests")]
    NoRanges,
    /// An answer contradicts its request.
    #[error("bytes {:#x} to {:#x}: {what}", range.start, range.end)]
    Answer {
        /// The requested bytes.
        range: Range<u64>,
        /// What was found and expected.
        what: String,
    },
    /// A request failed after all its tries.
    #[error("{doing}: {why}")]
    Failed {
        /// The request.
        doing: String,
        /// The last reason.
        why: String,
    },
    /// The caller requested a stop.
    #[error("cancelled")]
    Cancelled,
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::NotFound => io::ErrorKind::NotFound,
            Error::Denied(_) => io::ErrorKind::PermissionDenied,
            Error::Exists => io::ErrorKind::AlreadyExists,
            Error::Url(_) => io::ErrorKind::InvalidInput,
            #[cfg(feature = "client")]
            Error::Cancelled => return livecore_compress::Error::Cancelled.into(),
            // A reader must not take it for the end of the data.
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

#[cfg(feature = "client")]
mod of_client {
    use std::error::Error as StdError;

    use super::Error;

    /// Maximum length of a server's text in a message.
    const TEXT: usize = 200;

    impl Error {
        /// The error of a request, with the reason that is closest to the network.
        pub(crate) fn of(doing: &str, error: &object_store::Error) -> Self {
            match error {
                object_store::Error::NotFound { .. } => Self::NotFound,
                object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. } => Self::Denied(reason(error)),
                object_store::Error::AlreadyExists { .. } => Self::Exists,
                object_store::Error::NotSupported { .. } => Self::NoRanges,
                _ if reason(error).contains("Received non-partial response") => Self::NoRanges,
                _ => Self::Failed {
                    doing: doing.into(),
                    why: reason(error),
                },
            }
        }
    }

    /// The text of the innermost error, as one line. The server determines a part of it.
    pub(crate) fn reason(error: &(dyn StdError + 'static)) -> String {
        let mut innermost = error;
        let mut tries = None;
        let mut is_timeout = false;
        while let Some(source) = innermost.source() {
            // "…, after 3 retries, max_retries: 3, …"
            let text = innermost.to_string();
            let counted = text.split_once(", after ").map(|(_, rest)| rest);
            let counted = counted.and_then(|rest| rest.split_once(" retries, max_retries"));
            tries = counted
                .and_then(|(count, _)| count.parse::<usize>().ok())
                .or(tries);
            // It has no source that says so.
            if innermost
                .downcast_ref::<reqwest::Error>()
                .is_some_and(reqwest::Error::is_timeout)
            {
                is_timeout = true;
            }
            innermost = source;
        }
        let text = match is_timeout {
            true => "server was silent".to_owned(),
            false => innermost.to_string(),
        };
        let text = text
            .strip_prefix("Server returned non-2xx status code: ")
            .map_or(text.clone(), |rest| format!("HTTP status {rest}"));
        let clean: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(TEXT)
            .collect();
        let clean = clean.split_whitespace().collect::<Vec<_>>().join(" ");
        let clean = clean.trim_end_matches([':', ' ']);
        match tries {
            Some(retries) => format!("{clean} (tried {} times)", retries + 1),
            None => clean.to_owned(),
        }
    }
}
#[cfg(feature = "client")]
pub(crate) use of_client::reason;
