//! The events as JSON, docs/schemas/watch.schema.json.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use livecore_livedump::qmp::Cause;
use serde::Serialize;
use serde_json::Value;

use super::choices::ThenArg;

/// Maximum size of the messages of a program, in bytes.
const MESSAGES: usize = 4096;

/// A guest is watched.
#[derive(Debug, Serialize)]
pub(super) struct Watching {
    event: &'static str,
    guest: String,
}

impl Watching {
    pub(super) fn new(address: &Path) -> Self {
        Self {
            event: "watching",
            guest: address.display().to_string(),
        }
    }
}

/// The connection to a guest failed.
#[derive(Debug, Serialize)]
pub(super) struct Lost {
    event: &'static str,
    guest: String,
    error: String,
}

impl Lost {
    pub(super) fn new(address: &Path, error: &str) -> Self {
        Self {
            event: "lost",
            guest: address.display().to_string(),
            error: error.into(),
        }
    }
}

/// A guest crashed.
#[derive(Debug, Serialize)]
pub(super) struct Dump {
    event: &'static str,
    guest: String,
    cause: &'static str,
    /// Seconds since 1970.
    time: u64,
    exit_code: u8,
    dump: Option<String>,
    errors: Vec<String>,
    verdict: Option<String>,
    panic: Option<String>,
    signature: Option<String>,
    verify: Option<Value>,
    triage: Option<Value>,
    then: &'static str,
    #[serde(skip)]
    address: PathBuf,
}

impl Dump {
    pub(super) fn new(address: &Path, cause: Cause, then: ThenArg) -> Self {
        let time = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Self {
            event: "dump",
            guest: address.display().to_string(),
            cause: cause.word(),
            time: time.as_secs(),
            exit_code: 0,
            dump: None,
            errors: Vec::new(),
            verdict: None,
            panic: None,
            signature: None,
            verify: None,
            triage: None,
            then: then.word(),
            address: address.into(),
        }
    }

    /// Adds the outcome of `take`.
    pub(super) fn taken(&mut self, path: Option<&Path>, code: u8, messages: &str) {
        self.dump = path.map(|path| path.display().to_string());
        self.failed("take", code, messages);
    }

    /// Adds the outcome of `verify` or `triage`.
    pub(super) fn examined(&mut self, verb: &str, json: Option<Value>, code: u8, messages: &str) {
        self.failed(verb, code, messages);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let Some(json) = json else {
            return;
        };
        if verb == "verify" {
            self.verdict = text(&json["reports"][0]["verdict"]);
            self.verify = Some(json);
        } else {
            self.panic = text(&json["panic"]);
            self.signature = text(&json["signature"]["id"]);
            self.triage = Some(json);
        }
    }

    /// Adds the exit code of a program; the worst of all is that of the outcome.
    fn failed(&mut self, verb: &str, code: u8, messages: &str) {
        let rank = |code: u8| match code {
            0 => 0,
            3 => 1,
            63 => 2,
            2 => 3,
            _ => 4,
        };
        if rank(code) > rank(self.exit_code) {
            self.exit_code = code;
        }
        if !matches!(code, 0 | 3) {
            let mut messages = messages.to_owned();
            messages.truncate(messages.floor_char_boundary(MESSAGES));
            let line = messages.lines().next().unwrap_or("no message");
            self.errors
                .push(format!("{verb}: exit code {code}: {line}"));
        }
    }

    /// The outcome as one line.
    pub(super) fn line(&self) -> String {
        let mut line = format!("{}: {}: ", self.guest, self.cause);
        match (&self.dump, &self.verdict) {
            (Some(dump), Some(verdict)) => line += &format!("{dump}, {verdict}"),
            (Some(dump), None) => line += dump,
            (None, _) => line += "no dump",
        }
        if let Some(panic) = &self.panic {
            line += &format!(", {}", panic.lines().next().unwrap_or_default());
        }
        line
    }

    pub(super) fn problems(&self) -> &[String] {
        &self.errors
    }

    /// What messages name: the dump, or the guest.
    pub(super) fn subject(&self) -> &Path {
        self.dump.as_ref().map_or(&self.address, Path::new)
    }

    pub(super) fn exit_code(&self) -> u8 {
        self.exit_code
    }
}
