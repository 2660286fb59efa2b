//! The `info.N` that savecore(8) writes beside a dump.
//!
//! FreeBSD `sbin/savecore/savecore.c`, `printheader`: lines of two spaces, a name, a colon and a
//! value. With libxo options the same is JSON, all of it inside `crashdump`.

use livecore_compress::Codec;

use crate::codec::Walked;
use crate::facts::Facts;
use crate::finding::{Place, Sink};
use crate::kdh::{Kdh, port_matches};
use crate::rules;

/// Each value's name in the text and in JSON.
const NAMES: [(&str, &str); 9] = [
    ("Architecture", "architecture"),
    ("Architecture Version", "architecture_version"),
    ("Dump Length", "dump_length_bytes"),
    ("Blocksize", "blocksize"),
    ("Compression", "compression"),
    ("Hostname", "hostname"),
    ("Version String", "version_string"),
    ("Panic String", "panic_string"),
    ("Dump Status", "dump_status"),
];

/// What an info file says: name, value, line.
#[derive(Debug)]
pub(crate) struct Info {
    values: Vec<(&'static str, String, u64)>,
}

impl Info {
    /// Reads the text or JSON form. `None` if it is neither.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut values = Vec::new();
        if text.trim_start().starts_with('{') {
            let json: serde_json::Value = serde_json::from_str(text).ok()?;
            let dump = json.get("crashdump")?;
            for (name, key) in NAMES {
                match dump.get(key) {
                    Some(serde_json::Value::String(value)) => {
                        values.push((name, value.trim_end().to_string(), 1));
                    }
                    Some(value @ serde_json::Value::Number(_)) => {
                        values.push((name, value.to_string(), 1));
                    }
                    _ => {}
                }
            }
            return Some(Self { values });
        }
        for (i, line) in text.lines().enumerate() {
            let Some((name, value)) = line.strip_prefix("  ").and_then(|l| l.split_once(": "))
            else {
                continue;
            };
            if let Some((name, _)) = NAMES.iter().find(|(n, _)| *n == name) {
                values.push((*name, value.trim_end().to_string(), i as u64 + 1));
            }
        }
        (!values.is_empty()).then_some(Self { values })
    }

    fn get(&self, name: &str) -> Option<(&str, u64)> {
        let (_, value, line) = self.values.iter().find(|(n, _, _)| *n == name)?;
        Some((value, *line))
    }

    /// The stored length that it states.
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

    /// Applies the rules about what it says of a dump whose stored payload is `stored` bytes; `None`
    /// if its length says nothing, since zeros at its end were left out.
    pub(crate) fn check(
        &self,
        facts: &Facts,
        stored: Option<u64>,
        walked: &Walked,
        header: Option<&Kdh>,
        sink: &mut Sink,
    ) {
        let line = |name| self.get(name).map_or(0, |(_, line)| line);
        let place = Place::info("Compression", line("Compression"));
        if let (Some(stated), Some(found)) = (self.codec(), facts.codec) {
            sink.check(&rules::INFO_COMPRESSION, stated == found, &place, |f| {
                f.found(stated.name())
                    .expected(format!("{}, as the dump is stored", found.name()))
            });
        }
        // savecore(8) can compress and decompress while it saves, and says what the kernel did.
        let comparable = match (self.codec(), facts.codec) {
            (a, b) if a == b => stored,
            (Some(Codec::None), Some(_)) => Some(walked.content_len),
            _ => None,
        };
        let comparable = comparable.filter(|_| walked.whole && walked.complete);
        if let (Some(stated), Some(found)) = (self.length(), comparable) {
            let place = Place::info("Dump Length", line("Dump Length"));
            sink.check(&rules::INFO_LENGTH, stated == found, &place, |f| {
                f.found(stated.to_string())
                    .expected(format!("{found}, the bytes of the dump beside it"))
            });
        }
        if let (Some((stated, at)), Some(found)) = (self.get("Architecture"), facts.architecture) {
            let right = port_matches(stated.as_bytes(), found);
            sink.check(
                &rules::INFO_ARCHITECTURE,
                right,
                &Place::info("Architecture", at),
                |f| f.found(stated).expected(format!("the name of {found}")),
            );
        }
        if let Some((status, at)) = self.get("Dump Status") {
            let place = Place::info("Dump Status", at);
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
                sink.check(&rules::INFO_HEADER, right, &Place::info(name, at), |f| {
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
            // An info file has one line for each: what stands behind a newline is not in it.
            let bytes = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
            let expected = String::from_utf8_lossy(bytes);
            if let Some((value, at)) = self.get(name) {
                let right = value == expected.trim_end();
                sink.check(&rules::INFO_HEADER, right, &Place::info(name, at), |f| {
                    f.found(value)
                        .expected(format!("{expected}, as in the kerneldumpheader"))
                });
            }
        }
    }
}
