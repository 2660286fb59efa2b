//! Parses info files in all known formats.
//!
//! | format | written by |
//! |------|------------|
//! | `Dump header from device: DEV`, then `  Name: value` | savecore(8) since 11.0 |
//! | `Dump header from device DEV`, `  Dump Length: 4096B (0 MB)`, no compression | savecore(8) up to 10.4 |
//! | a JSON or XML object `crashdump` | savecore(8) with `--libxo` |
//! | `Dump from HOST [ADDRESS]`, `  Panicstring: value`, `Dump complete` | netdumpd(8) |

use livecore_compress::Codec;

use super::Info;

impl Info {
    /// Parses an info file. Returns `None` if the format is unknown or the text has no length.
    pub fn parse(text: &str) -> Option<Self> {
        let mut info = Self {
            compression: Some(Codec::None),
            ..Self::default()
        };
        let pairs = match text.trim_start().as_bytes().first()? {
            b'{' => json(text)?,
            b'<' => xml(text)?,
            _ => lines(text)?,
        };
        let mut length = None;
        for (name, value) in pairs {
            match plain(&name).as_str() {
                "dumpdevice" => info.device = value,
                "architecture" => info.architecture = value,
                "architectureversion" => info.architecture_version = value.parse().ok()?,
                "dumplength" | "dumplengthbytes" => length = Some(bytes(&value)?),
                "blocksize" => info.blocksize = value.parse().ok()?,
                "compression" => info.compression = codec(&value),
                "dumptime" => info.dumptime = value,
                "hostname" => info.hostname = value,
                "magic" => info.magic = value,
                "versionstring" => info.version_string = value,
                "panicstring" => info.panic_string = value,
                "dumpparity" => info.parity = value.parse().ok(),
                "bounds" => info.bounds = value.parse().ok(),
                "dumpstatus" => info.status = value,
                // The status of the header, as netdumpd names it.
                "headerparitycheck" => {
                    info.status = if value == "Pass" { "good" } else { "bad" }.into();
                }
                _ => {}
            }
        }
        info.dump_length = length?;
        Some(info)
    }
}

/// Reduces a name to its lower-case letters, which are the same in all formats.
fn plain(name: &str) -> String {
    let letters = name.chars().filter(char::is_ascii_alphabetic);
    letters.map(|c| c.to_ascii_lowercase()).collect()
}

/// A length: a number, or `4096B (0 MB)`.
fn bytes(value: &str) -> Option<u64> {
    let number = value.split_once("B (").map_or(value, |(number, _)| number);
    number.parse().ok()
}

fn codec(name: &str) -> Option<Codec> {
    [Codec::None, Codec::Gzip, Codec::Zstd]
        .into_iter()
        .find(|c| c.name() == name)
}

type Pairs = Vec<(String, String)>;

/// Parses the lines of savecore and netdumpd.
fn lines(text: &str) -> Option<Pairs> {
    let (first, rest) = text.split_once('\n')?;
    let device = first.strip_prefix("Dump header from device");
    let device = device.map(|rest| rest.strip_prefix(':').unwrap_or(rest));
    let device = device.or_else(|| first.strip_prefix("Dump from"))?;
    let mut pairs = vec![("dump_device".into(), device.strip_prefix(' ')?.into())];
    // The version string may have several lines and ends at the panic string.
    let find = |text: &str, names: [&str; 2]| {
        let places = names.map(|name| text.find(name).map(|at| (at, at + name.len())));
        places.into_iter().flatten().min()
    };
    let (before, after) = match find(rest, ["  Version String: ", "  Versionstring: "]) {
        Some((start, end)) => {
            let tail = &rest[end..];
            let next = find(tail, ["  Panic String: ", "  Panicstring: "]);
            let (version, after) = tail.split_at(next.map_or(tail.len(), |(at, _)| at));
            pairs.push(("version_string".into(), version.into()));
            (&rest[..start], after)
        }
        None => (rest, ""),
    };
    for line in before.lines().chain(after.lines()) {
        // The last line of netdumpd if the dump is incomplete.
        if let Some(why) = line.strip_prefix("Dump incomplete") {
            pairs.push(("dump_status".into(), format!("incomplete{why}")));
        }
        // A panic string may contain any text, but a value starts after the first `: `.
        if let Some((name, value)) = line.strip_prefix("  ").and_then(|l| l.split_once(": ")) {
            pairs.push((name.into(), value.into()));
        }
    }
    Some(pairs)
}

/// Parses the JSON of libxo.
fn json(text: &str) -> Option<Pairs> {
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    let fields = json.get("crashdump")?.as_object()?.iter();
    let pairs = fields.map(|(name, value)| {
        let value = match value {
            serde_json::Value::String(value) => value.clone(),
            other => other.to_string(),
        };
        (name.clone(), value)
    });
    Some(pairs.collect())
}

/// Parses the XML of libxo: elements without child elements.
fn xml(text: &str) -> Option<Pairs> {
    let (_, mut rest) = text.split_once("<crashdump>")?;
    let mut pairs = Vec::new();
    while let Some((_, tail)) = rest.split_once('<') {
        let (tag, tail) = tail.split_once('>')?;
        // The end of the object.
        if tag.starts_with('/') {
            return Some(pairs);
        }
        let name = tag.split_whitespace().next()?;
        if let Some(name) = name.strip_suffix('/') {
            pairs.push((name.into(), String::new()));
            rest = tail;
            continue;
        }
        let (value, tail) = tail.split_once(&format!("</{name}>"))?;
        pairs.push((name.into(), unescaped(value)));
        rest = tail;
    }
    None
}

/// Replaces the five predefined XML entities.
fn unescaped(text: &str) -> String {
    const ENTITIES: [(&str, &str); 5] = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&amp;", "&"),
    ];
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        let (before, tail) = rest.split_at(at);
        out.push_str(before);
        let known = ENTITIES.iter().find(|(name, _)| tail.starts_with(name));
        let (name, value) = known.unwrap_or(&("&", "&"));
        out.push_str(value);
        rest = &tail[name.len()..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::TEXT;
    use super::*;

    #[test]
    fn all_lines_are_parsed_with_a_version_string_of_two() {
        let info = Info::parse(TEXT).unwrap();
        assert_eq!(info.device, "/dev/mem");
        assert_eq!(info.dump_length, 107_388_928);
        assert_eq!(info.compression, Some(Codec::Zstd));
        assert_eq!(info.hostname, "host.example");
        assert_eq!(info.panic_string, "sysctl:  kdb");
        assert_eq!((info.bounds, info.status.as_str()), (Some(3), "good"));
        assert_eq!(
            info.version_string,
            "FreeBSD 14.1-RELEASE\n    root@builder:/usr/obj/GENERIC\n"
        );
    }

    /// [`TEXT`] in the other formats of savecore: JSON and XML of `--libxo`. White space does not
    /// matter.
    #[test]
    fn json_and_xml_equal_the_text() {
        let json = r#"{"crashdump": {"dump_device":"/dev/mem","architecture":"amd64",
            "architecture_version":2,"dump_length_bytes":107388928,"blocksize":4096,
            "compression":"zstd","dumptime":"2024-05-01 12:00:00 +0200",
            "hostname":"host.example","magic":"FreeBSD Kernel Dump",
            "version_string":"FreeBSD 14.1-RELEASE\n    root@builder:/usr/obj/GENERIC\n",
            "panic_string":"sysctl:  kdb","dump_parity":648160836,"bounds":3,
            "dump_status":"good"}}
"#;
        let xml = "<crashdump><dump_device>/dev/mem</dump_device>
  <architecture>amd64</architecture><architecture_version>2</architecture_version>
  <dump_length_bytes>107388928</dump_length_bytes><blocksize>4096</blocksize>
  <compression>zstd</compression><dumptime>2024-05-01 12:00:00 +0200</dumptime>
  <hostname>host.example</hostname><magic>FreeBSD Kernel Dump</magic>
  <version_string>FreeBSD 14.1-RELEASE\n    root@builder:/usr/obj/GENERIC\n</version_string>
  <panic_string>sysctl:  kdb</panic_string><dump_parity>648160836</dump_parity>
  <bounds>3</bounds><dump_status>good</dump_status></crashdump>\n";
        let text = Info::parse(TEXT);
        assert_eq!(Info::parse(json), text);
        assert_eq!(Info::parse(xml), text);
        let escaped = Info::parse(&xml.replace("sysctl:", "&lt;&amp;lt;&x"));
        assert_eq!(escaped.unwrap().panic_string, "<&lt;&x  kdb");
        for cut in [
            &xml[..40],
            &xml[..xml.len() - 30],
            &json[..200],
            "{}",
            "<a></a>",
        ] {
            assert_eq!(Info::parse(cut), None, "{cut}");
        }
    }

    #[test]
    fn format_of_10_4_is_parsed() {
        let text = "Dump header from device /dev/da0s1b
  Architecture: amd64
  Architecture Version: 2
  Dump Length: 14938112B (14 MB)
  Blocksize: 512
  Dumptime: Tue Mar  3 16:15:15 2015
  Hostname: fw.example.org
  Magic: FreeBSD Kernel Dump
  Version String: FreeBSD 10.4-RELEASE #0
    root@build.example.org:/usr/obj/usr/src/sys/GENERIC
  Panic String: page fault
  Dump Parity: 123
  Bounds: 3
  Dump Status: good
";
        let info = Info::parse(text).unwrap();
        assert_eq!(info.device, "/dev/da0s1b");
        assert_eq!(info.dump_length, 14_938_112);
        assert_eq!(info.compression, Some(Codec::None));
        assert_eq!(
            (info.panic_string.as_str(), info.bounds),
            ("page fault", Some(3))
        );
        assert_eq!(info.seconds(), Some(1_425_399_315));
    }

    #[test]
    fn format_of_netdumpd_is_parsed() {
        let text = "Dump from fw1 [192.0.2.7]
  Architecture: amd64
  Architecture version: 2
  Dump length: 14938112B (14 MB)
  Blocksize: 512
  Compression: zstd
  Dumptime: Wed Jan 17 17:49:12 2024
  Hostname: fw1.example.org
  Versionstring: FreeBSD 14.0-RELEASE #0
    root@build.example.org:/usr/obj/usr/src/amd64.amd64/sys/SYNTH
  Panicstring: page fault
  Header parity check: Pass
Dump complete
";
        let info = Info::parse(text).unwrap();
        assert_eq!(info.device, "fw1 [192.0.2.7]");
        assert_eq!(info.dump_length, 14_938_112);
        assert_eq!(info.compression, Some(Codec::Zstd));
        assert_eq!(info.architecture_version, 2);
        assert_eq!(info.panic_string, "page fault");
        let version = "FreeBSD 14.0-RELEASE #0\n    \
            root@build.example.org:/usr/obj/usr/src/amd64.amd64/sys/SYNTH\n";
        assert_eq!(info.version_string, version);
        assert_eq!(info.status, "good");
        let fails = Info::parse(&text.replace("Pass", "Fail")).unwrap();
        assert_eq!(fails.status, "bad");
        let cut = text.replace("Dump complete", "Dump incomplete: client timed out");
        let cut = Info::parse(&cut).unwrap();
        assert_eq!(cut.status, "incomplete: client timed out");
    }

    #[test]
    fn unknown_formats_are_rejected() {
        assert_eq!(Info::parse("Dump from host [1.2.3.4]\n"), None);
        assert_eq!(Info::parse("Dump header from device: x\n"), None);
        assert_eq!(Info::parse(&TEXT.replace("107388928", "-1")), None);
    }
}
