//! The `info.N` of a dump, in every form that savecore(8) and netdumpd have written.
//!
//! FreeBSD `sbin/savecore/savecore.c`, `printheader`: lines of two spaces, a name, a colon and a
//! value. With `--libxo` savecore writes the same values as JSON or XML, in `crashdump`. Until 10.4
//! the length was `4096B (0 MB)` and no line named a compression. netdumpd's `netdumpd.c` spells
//! some names differently, reports the result of the header's parity check as the status, and ends
//! with a line that states whether the dump is complete.

use livecore_compress::Codec;

use crate::codec::Walked;
use crate::facts::Facts;
use crate::finding::{Location, Sink};
use crate::kdh::{Kdh, port_matches};
use crate::rules;

/// The values that are compared, by their names in savecore's text.
const NAMES: [&str; 9] = [
    "Architecture",
    "Architecture Version",
    "Dump Length",
    "Blocksize",
    "Compression",
    "Hostname",
    "Version String",
    "Panic String",
    STATUS,
];
const STATUS: &str = "Dump Status";

/// The values of an info file: name, value, line.
#[derive(Debug)]
pub(crate) struct Info {
    values: Vec<(&'static str, String, u64)>,
}

/// The name in [`NAMES`] that `name` is a spelling of: `Version String`, `version_string`,
/// `Versionstring`.
fn known(name: &str) -> Option<&'static str> {
    let letters = |name: &str| {
        let letters = name.chars().filter(char::is_ascii_alphabetic);
        letters.map(|c| c.to_ascii_lowercase()).collect::<String>()
    };
    let name = letters(name);
    let name = name.strip_suffix("bytes").unwrap_or(&name);
    NAMES.into_iter().find(|known| letters(known) == name)
}

impl Info {
    /// Parses an info file of any form; `None` if the form is unknown.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut values = match text.trim_start().as_bytes().first()? {
            b'{' => json(text)?,
            b'<' => xml(text)?,
            _ => lines(text),
        };
        for (name, value, _) in &mut values {
            // The text form ends a string at its first newline.
            let first = value.lines().next().unwrap_or_default();
            *value = first.trim_end().into();
            if *name == "Dump Length"
                && let Some((bytes, _)) = value.split_once("B (")
            {
                *value = bytes.into();
            }
        }
        (!values.is_empty()).then_some(Self { values })
    }

    fn get(&self, name: &str) -> Option<(&str, u64)> {
        let (_, value, line) = self.values.iter().find(|(n, _, _)| *n == name)?;
        Some((value, *line))
    }

    /// The length of the stored payload, as `Dump Length` states it.
    pub(crate) fn length(&self) -> Option<u64> {
        self.get("Dump Length")?.0.parse().ok()
    }

    fn codec(&self) -> Option<Codec> {
        match self.get("Compression")?.0 {
            "none" => Some(Codec::None),
            "gzip" => Some(Codec::Gzip),
            "zstd" => Some(Codec::Zstd),
            _ => None,
        }
    }

    /// Compares the info file with the dump. `stored` is the length of the stored payload; `None` if
    /// savecore(8) dropped zeros at its end, so that the length may differ.
    pub(crate) fn check(
        &self,
        facts: &Facts,
        stored: Option<u64>,
        walked: &Walked,
        header: Option<&Kdh>,
        sink: &mut Sink,
    ) {
        let line = |name| self.get(name).map_or(0, |(_, line)| line);
        let place = Location::info("Compression", line("Compression"));
        if let (Some(stated), Some(found)) = (self.codec(), facts.codec) {
            sink.check(&rules::INFO_COMPRESSION, stated == found, &place, |f| {
                f.found(stated.name())
                    .expected(format!("{}, the dump's compression", found.name()))
            });
        }
        // savecore(8) may compress or decompress the dump; its info file describes the original.
        // Until 10.4 the kernel did not compress dumps.
        let comparable = match (self.codec(), facts.codec) {
            (a, b) if a == b => stored,
            (None, Some(Codec::None)) => stored,
            (None | Some(Codec::None), Some(_)) => Some(walked.content_len),
            _ => None,
        };
        let comparable = comparable.filter(|_| walked.whole && walked.complete);
        if let (Some(stated), Some(found)) = (self.length(), comparable) {
            let place = Location::info("Dump Length", line("Dump Length"));
            sink.check(&rules::INFO_LENGTH, stated == found, &place, |f| {
                f.found(stated.to_string())
                    .expected(format!("{found}, the dump's length"))
            });
        }
        if let (Some((stated, at)), Some(found)) = (self.get("Architecture"), facts.architecture) {
            let right = port_matches(stated.as_bytes(), found);
            sink.check(
                &rules::INFO_ARCHITECTURE,
                right,
                &Location::info("Architecture", at),
                |f| f.found(stated).expected(format!("an {found} port")),
            );
        }
        if let Some((status, at)) = self.get(STATUS) {
            let place = Location::info(STATUS, at);
            sink.check(&rules::INFO_STATUS, status == "good", &place, |f| {
                f.found(status).expected("good")
            });
        }
        let Some(header) = header else { return };
        for (name, expected) in [
            ("Architecture Version", header.architecture_version()),
            ("Blocksize", header.blocksize()),
        ] {
            if let Some((value, at)) = self.get(name) {
                let right = value == expected.to_string();
                sink.check(&rules::INFO_HEADER, right, &Location::info(name, at), |f| {
                    f.found(value)
                        .expected(format!("{expected}, as in the kerneldumpheader"))
                });
            }
        }
        for (name, bytes) in [
            ("Hostname", header.hostname()),
            ("Version String", header.versionstring()),
            ("Panic String", header.panicstring()),
        ] {
            let bytes = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
            let expected = String::from_utf8_lossy(bytes);
            if let Some((value, at)) = self.get(name) {
                let right = value == expected.trim_end();
                sink.check(&rules::INFO_HEADER, right, &Location::info(name, at), |f| {
                    f.found(value)
                        .expected(format!("{expected}, as in the kerneldumpheader"))
                });
            }
        }
    }
}

type Values = Vec<(&'static str, String, u64)>;

/// The lines of savecore and netdumpd.
fn lines(text: &str) -> Values {
    let mut values = Values::new();
    for (line, number) in text.lines().zip(1..) {
        // netdumpd's last line, if it could not write all.
        if let Some(why) = line.strip_prefix("Dump incomplete") {
            values.retain(|(name, ..)| *name != STATUS);
            values.push((STATUS, format!("incomplete{why}"), number));
        }
        let Some((name, value)) = line.strip_prefix("  ").and_then(|l| l.split_once(": ")) else {
            continue;
        };
        if name == "Header parity check" {
            let status = if value == "Pass" { "good" } else { "bad" };
            values.push((STATUS, status.into(), number));
        } else if let Some(name) = known(name) {
            values.push((name, value.into(), number));
        }
    }
    values
}

/// libxo's JSON.
fn json(text: &str) -> Option<Values> {
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    let pairs = json.get("crashdump")?.as_object()?.iter();
    let values = pairs.filter_map(|(name, value)| {
        let value = match value {
            serde_json::Value::String(value) => value.clone(),
            serde_json::Value::Number(value) => value.to_string(),
            _ => return None,
        };
        Some((known(name)?, value, 1))
    });
    Some(values.collect())
}

/// libxo's XML: elements that contain text alone.
fn xml(text: &str) -> Option<Values> {
    let from = text.find("<crashdump>")? + "<crashdump>".len();
    let inside = &text[from..text.find("</crashdump>")?.max(from)];
    let mut values = Values::new();
    let mut at = 0;
    while let Some(tag) = inside[at..].find('<').map(|n| at + n + 1) {
        let end = tag + inside[tag..].find('>')?;
        at = end + 1;
        let name = inside[tag..end].split_whitespace().next()?;
        if inside[..end].ends_with('/') {
            continue;
        }
        let close = format!("</{name}>");
        let len = inside[at..].find(&close)?;
        let line = text[..from + tag].matches('\n').count() as u64 + 1;
        if let Some(name) = known(name) {
            values.push((name, unescaped(&inside[at..at + len]), line));
        }
        at += len + close.len();
    }
    Some(values)
}

/// An XML text without its entities; the ampersand is last, since it may make others.
fn unescaped(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">");
    let text = text.replace("&quot;", "\"").replace("&apos;", "'");
    text.replace("&amp;", "&")
}
