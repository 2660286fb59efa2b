//! Text dumps of ddb(4): facts and reports, as text and as docs/schemas/textdump.schema.json.

use std::io::{self, Write};
use std::path::Path;

use livecore_compress::Codec;
use livecore_defs::text::printable;
use livecore_defs::textdump::{DDB, MSGBUF, PANIC, VERSION};
use livecore_kernel::Signature;
use livecore_minidump::textdump::TextDump;
use serde::Serialize;

use crate::crash::SignatureFacts;
use crate::failure::Failure;
use crate::session::Session;
use crate::text::{Bytes, without_command};

/// A member.
#[derive(Debug, Serialize)]
struct Member {
    name: String,
    size: u64,
}

/// The facts of a text dump; with `ddb` and `message_buffer`, the report of `triage`.
#[derive(Debug, Serialize)]
pub(crate) struct TextFacts {
    dump: String,
    kind: &'static str,
    container: &'static str,
    codec: &'static str,
    architecture: Option<String>,
    hostname: Option<String>,
    dumptime: Option<u64>,
    members: Vec<Member>,
    panic: Option<String>,
    signature: Option<SignatureFacts>,
    version: Option<String>,
    ddb: Option<Vec<String>>,
    message_buffer: Option<Vec<String>>,
}

/// Reads a member that is text. `None` if the dump has no such member.
pub(crate) fn member(
    dump: &TextDump,
    name: &str,
    path: &Path,
    session: &Session<'_>,
) -> Result<Option<String>, Failure> {
    let text = dump.text(name, session.env.memory / 4);
    text.map_err(|e| Failure::from(e).about(path).next("use a larger --memory"))
}

/// The failure for a damaged archive, whose readable members were printed.
pub(crate) fn check(dump: &TextDump, path: &Path) -> Result<(), Failure> {
    match dump.damage() {
        Some(damage) => Err(Failure::broken(damage).about(path)),
        None => Ok(()),
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

impl TextFacts {
    /// The facts of `dump`.
    pub(crate) fn of(dump: &TextDump, path: &Path, session: &Session<'_>) -> Result<Self, Failure> {
        let text = |name: &str| {
            let text = member(dump, name, path, session)?;
            Ok::<_, Failure>(text.map(|text| text.trim_end().to_owned()))
        };
        let header = dump.header();
        let string = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Self {
            dump: path.display().to_string(),
            kind: "text",
            container: dump.container().name(),
            codec: dump.codec().name(),
            architecture: header.map(|header| string(&header.architecture)),
            hostname: header.map(|header| string(&header.hostname)),
            dumptime: header.map(|header| header.dumptime),
            members: dump
                .members()
                .iter()
                .map(|member| Member {
                    name: member.name.clone(),
                    size: member.len,
                })
                .collect(),
            panic: text(PANIC)?,
            signature: None,
            version: text(VERSION)?,
            ddb: None,
            message_buffer: None,
        })
    }

    /// Adds the output of ddb(4) and the last `count` lines of the message buffer.
    pub(crate) fn with_contents(
        mut self,
        dump: &TextDump,
        path: &Path,
        count: usize,
        session: &Session<'_>,
    ) -> Result<Self, Failure> {
        let panic = self.panic.as_deref().map(str::as_bytes);
        let signature = Signature::new(panic, []);
        self.signature = signature.as_ref().map(SignatureFacts::from);
        self.ddb = member(dump, DDB, path, session)?.map(|text| lines(&text));
        self.message_buffer = member(dump, MSGBUF, path, session)?.map(|text| {
            let mut lines = lines(&text);
            lines.drain(..lines.len().saturating_sub(count));
            lines
        });
        Ok(self)
    }

    /// The signature of the crash.
    pub(crate) fn signature(&self) -> Option<&SignatureFacts> {
        self.signature.as_ref()
    }

    /// Prints the facts as text. `ci`: standard output is the log of a CI job.
    pub(crate) fn print(&self, ci: bool, out: &mut dyn Write) -> io::Result<()> {
        let mut line = |name: &str, value: &str| {
            let mut name = format!("{name}:");
            for value in value.lines() {
                writeln!(out, "{name:14} {}", printable(value.trim()))?;
                name.clear();
            }
            io::Result::Ok(())
        };
        line("dump", &self.dump)?;
        let codec = match self.codec {
            codec if codec == Codec::None.name() => String::new(),
            codec => format!(", {codec}"),
        };
        line(
            "kind",
            &format!("text dump of ddb(4), {}{codec}", self.container),
        )?;
        for (name, value) in [
            ("architecture", &self.architecture),
            ("hostname", &self.hostname),
            ("version", &self.version),
            ("panic", &self.panic),
        ] {
            line(name, value.as_deref().unwrap_or("unknown"))?;
        }
        if let Some(signature) = &self.signature {
            line("signature", &signature.id)?;
        }
        for member in &self.members {
            line(
                "member",
                &format!("{}, {}", member.name, Bytes(member.size)),
            )?;
        }
        let mut section = |title: &str, lines: &[String]| {
            writeln!(out, "\n{title}")?;
            for line in lines {
                let line = printable(line);
                let line = if ci {
                    without_command(&line).to_string()
                } else {
                    line.to_string()
                };
                writeln!(out, "{line}")?;
            }
            io::Result::Ok(())
        };
        if let Some(lines) = &self.ddb {
            section("ddb(4):", lines)?;
        }
        if let Some(lines) = &self.message_buffer {
            let title = format!("Message buffer, the last {} lines:", lines.len());
            section(&title, lines)?;
        }
        Ok(())
    }
}
