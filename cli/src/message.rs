//! Messages on standard error, as lines of text or of JSON.

use std::fmt;
use std::path::Path;

use livecore_defs::text::{escaped_json, printable};
use serde::Serialize;

use crate::describe::ErrorLocation;
use crate::exit::Exit;
use crate::id::Id;

/// The form of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Lines of text that begin with `livecore: `.
    Text,
    /// Lines of JSON; docs/schemas/message.schema.json.
    Json,
}

impl Form {
    /// The form that unparsed arguments select, for an error of the command line.
    pub fn of_args(args: &[std::ffi::OsString]) -> Self {
        let is_json = args.iter().any(|word| word == "--messages=json")
            || args.windows(2).any(|pair| pair == ["--messages", "json"]);
        if is_json { Self::Json } else { Self::Text }
    }
}

/// The level of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    /// The work on an input failed.
    Error,
    /// The work was done; the exit code is 3 or worse.
    Warning,
    /// What was done.
    Note,
    /// How it was done (`--verbose`).
    Detail,
}

/// A message.
#[derive(Debug, Serialize)]
pub(crate) struct Message {
    pub(crate) schema: u32,
    pub(crate) level: Level,
    pub(crate) id: Id,
    pub(crate) subject: Option<String>,
    pub(crate) message: String,
    pub(crate) advice: Option<String>,
    #[serde(flatten)]
    pub(crate) place: ErrorLocation,
    pub(crate) exit_code: Option<u8>,
}

impl Message {
    /// A message of a level without an exit code of its own.
    pub(crate) fn new(level: Level, id: Id, text: impl fmt::Display) -> Self {
        Self {
            schema: crate::json::SCHEMA,
            level,
            id,
            subject: None,
            message: text.to_string(),
            advice: None,
            place: ErrorLocation::default(),
            exit_code: None,
        }
    }

    /// A warning about `subject`.
    pub(crate) fn warning(subject: &Path, id: Id, text: impl fmt::Display) -> Self {
        Self {
            subject: Some(subject.display().to_string()),
            exit_code: Some(Exit::WARNINGS.code()),
            ..Self::new(Level::Warning, id, text)
        }
    }

    /// An error of the command line, already formatted.
    pub(crate) fn usage(id: Id, text: &str) -> Self {
        Self {
            exit_code: Some(Exit::USAGE.code()),
            ..Self::new(Level::Error, id, text.trim_end())
        }
    }

    /// The line for standard error.
    pub(crate) fn line(&self, form: Form) -> String {
        match form {
            Form::Text => format!("livecore: {}\n", printable(&self.to_string())),
            Form::Json => match serde_json::to_string(self) {
                Ok(json) => format!("{}\n", escaped_json(&json)),
                Err(_) => String::new(), // No value of a message can fail.
            },
        }
    }
}

impl fmt::Display for Message {
    /// `SUBJECT: MESSAGE; ADVICE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(subject) = &self.subject {
            write!(f, "{subject}: ")?;
        }
        if self.level == Level::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)?;
        match &self.advice {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}
