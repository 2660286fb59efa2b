//! What is broken, what is no dump, and what is as it should be.

use crate::common;

use common::{build, told, verify};
use livecore_verify::{Options, Report, Verdict};

fn look(bytes: &[u8], info: Option<&str>) -> Report {
    let options = Options {
        info,
        ..Options::default()
    };
    verify(bytes, &options)
}

fn broken(report: &Report) -> Vec<&'static str> {
    let broken = report.outcomes.iter().filter(|(_, o)| o.broken > 0);
    let notes = ["MD-KERNBASE-LAYOUT"];
    let ids = broken.map(|(id, _)| *id);
    ids.filter(|id| !notes.contains(id)).collect()
}

/// Where the payload of a dump device begins, by its last header.
fn start(device: &[u8]) -> usize {
    let last = device.len() - 512;
    let extent = u64::from_be_bytes(device[last + 496..last + 504].try_into().unwrap());
    last - usize::try_from(extent).unwrap()
}

#[test]
fn what_a_header_vouches_for_is_broken_and_not_foreign() {
    let zstd = build("container device\ncompress zstd\n").bytes;
    let mut magic = zstd.clone();
    magic[start(&zstd)] ^= 1;
    let report = look(&magic, None);
    assert_eq!(report.verdict, Verdict::Broken, "{}", told(&report));
    assert!(broken(&report).contains(&"KDH-CODEC"), "{}", told(&report));

    let plain = build("container device\n").bytes;
    let mut zeroed = plain.clone();
    zeroed[start(&plain)..][..4096].fill(0);
    let report = look(&zeroed, None);
    assert_eq!(report.verdict, Verdict::Broken, "{}", told(&report));
    assert!(broken(&report).contains(&"MD-MAGIC"), "{}", told(&report));

    // A bit of the last header's dumpextent: neither payload nor first header are found.
    let mut extent = zstd;
    let at = extent.len() - 512 + 501;
    extent[at] ^= 1;
    let report = look(&extent, None);
    assert_eq!(report.verdict, Verdict::Broken, "{}", told(&report));
    assert!(broken(&report).contains(&"KDH-PARITY"), "{}", told(&report));
}

#[test]
fn what_savecore_leaves_of_a_dump_that_ends_in_zeros_has_its_warning() {
    let built = build("pages 0x9f8000 8 zero\ninfo \"/dev/da0p2\" bounds 0 status good\n");
    let info = built.info.as_deref();
    let report = look(&built.bytes, info);
    assert_eq!(report.verdict, Verdict::Sound, "{}", told(&report));
    let cut = |bytes: usize| &built.bytes[..built.bytes.len() - bytes];
    for pages in [1, 8] {
        let report = look(cut(4096 * pages), info);
        assert_eq!(report.verdict, Verdict::Warnings, "{}", told(&report));
        assert_eq!(broken(&report), ["MD-SHORT-TAIL"]);
    }
    // No run of zeros begins there, so this is a cut.
    let report = look(cut(4097), info);
    assert_eq!(broken(&report), ["INFO-LENGTH", "MD-SHORT"]);
    // The info file of another dump.
    let other = info.unwrap().replace("Dump Length: ", "Dump Length: 1");
    let report = look(cut(4096), Some(&other));
    assert_eq!(broken(&report), ["INFO-LENGTH", "MD-SHORT"]);
}

#[test]
fn what_a_running_machine_explains_is_no_error_however_strict() {
    for (panic, verdict) in [
        ("", Verdict::Warnings),
        ("set kdh.panicstring = \"page fault\"\n", Verdict::Broken),
    ] {
        // A bit of the message ring, and bits that stand for no page.
        let text = format!("container live\n{panic}flip payload section.msgbuf.start + 4\n");
        let bytes = build(&text).bytes;
        let options = Options {
            strict: true,
            ..Options::default()
        };
        let report = verify(&bytes, &options);
        assert_eq!(report.verdict, verdict, "{}", told(&report));
        assert_eq!(broken(&report), ["MSG-CHECKSUM"]);
        let rule = livecore_verify::rules::find("MSG-CHECKSUM").unwrap();
        assert_eq!(report.fails(rule), verdict == Verdict::Broken);
    }
    // What it does not explain stays an error.
    let text = "container live\nappend payload zero len 4096\n";
    let options = Options {
        strict: true,
        ..Options::default()
    };
    let report = verify(&build(text).bytes, &options);
    assert_eq!(report.verdict, Verdict::Broken, "{}", told(&report));
}

#[test]
fn the_architecture_version_of_an_info_file_is_compared() {
    let built = build("container live\ninfo \"/dev/mem\" bounds 0 status good\n");
    let info = built.info.unwrap();
    assert_eq!(look(&built.bytes, Some(&info)).verdict, Verdict::Sound);
    let other = info.replace("Architecture Version: 2", "Architecture Version: 3");
    assert_ne!(other, info);
    assert_eq!(broken(&look(&built.bytes, Some(&other))), ["INFO-HEADER"]);
}

/// The same of an info file of every form: the length that it states, which a dump that was cut
/// contradicts, and the header's strings.
#[test]
fn a_cut_dump_is_broken_beside_an_info_file_of_every_form() {
    let built = build("info \"/dev/da0p2\" bounds 0 status good\n");
    let text = built.info.clone().unwrap();
    let value = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(name));
        line.unwrap().trim_start_matches(':').trim().to_owned()
    };
    let length = value("Dump Length");
    let of_10_4 = text
        .replace("from device: ", "from device ")
        .replace("  Compression: none\n", "")
        .replace(&format!(": {length}\n"), &format!(": {length}B (9 MB)\n"));
    assert!(of_10_4.contains("from device /dev/da0p2\n") && !of_10_4.contains("Compression"));
    let fields = [
        ("dump_length_bytes", &*length),
        ("architecture", "amd64"),
        ("compression", "none"),
        ("dump_status", "good"),
        ("version_string", "FreeBSD &lt;14&gt;\n    root@host"),
    ];
    let json = fields.map(|(name, value)| match name {
        "dump_length_bytes" => format!("\"{name}\":{value}"),
        _ => format!("\"{name}\":\"{}\"", value.replace('\n', "\\n")),
    });
    let xml = fields.map(|(name, value)| format!("  <{name}>{value}</{name}>\n"));
    let forms = [
        text.clone(),
        of_10_4,
        format!("{{\"crashdump\": {{{}}}}}\n", json.join(", ")),
        format!("<crashdump>\n{}</crashdump>\n", xml.concat()),
        format!(
            "Dump from fw1 [192.0.2.7]\n  Architecture: amd64\n  Architecture version: 2\n  Dump \
             length: {length}B (9 MB)\n  Compression: none\n  Header parity check: Pass\nDump \
             complete\n"
        ),
    ];
    for form in &forms {
        let report = look(&built.bytes, Some(form));
        assert_eq!(report.verdict, Verdict::Sound, "{form}{}", told(&report));
        let report = look(&built.bytes[..built.bytes.len() - 4097], Some(form));
        assert_eq!(report.verdict, Verdict::Broken, "{form}{}", told(&report));
        assert_eq!(broken(&report), ["INFO-LENGTH", "MD-SHORT"], "{form}");
        let other = form.replace(&length, &format!("1{length}"));
        let report = look(&built.bytes, Some(&other));
        assert!(broken(&report).contains(&"INFO-LENGTH"), "{form}");
    }
    for (form, change) in [
        (4, ("Pass", "Fail")),
        (4, ("Dump complete", "Dump incomplete: client timed out")),
        (3, ("<dump_status>good", "<dump_status>bad")),
        (2, ("\"good\"", "\"bad\"")),
    ] {
        let report = look(&built.bytes, Some(&forms[form].replace(change.0, change.1)));
        assert_eq!(broken(&report), ["INFO-STATUS"], "{change:?}");
    }
    let report = look(&built.bytes, Some("of no form\n"));
    assert_eq!(broken(&report), ["INFO-FORMAT"]);
}

/// A string of the header is compared with the first line of the info file's.
#[test]
fn strings_of_an_info_file_of_every_form_are_compared_with_the_header() {
    let text = "container live\nset kdh.panicstring = \"page fault\"\n";
    let bytes = build(text).bytes;
    let with = |panic: &str| {
        [
            format!("  Panic String: {panic}\n"),
            format!("  Panicstring: {panic}\n"),
            format!("{{\"crashdump\":{{\"panic_string\":\"{panic}\"}}}}"),
            format!("<crashdump><panic_string>{panic}</panic_string></crashdump>"),
        ]
    };
    for form in with("page fault") {
        assert_eq!(
            broken(&look(&bytes, Some(&form))),
            <[&str; 0]>::default(),
            "{form}"
        );
    }
    for form in with("another panic") {
        assert_eq!(
            broken(&look(&bytes, Some(&form))),
            ["INFO-HEADER"],
            "{form}"
        );
    }
}

/// A ring of another size than the header says: its structure, which lies behind it, tells.
#[test]
fn a_msgbufsize_that_is_wrong_by_less_than_a_structure_is_found() {
    let payload = build("").payload;
    let size = u32::from_le_bytes(payload[28..32].try_into().unwrap());
    let with = |size: u32| {
        let mut bytes = payload.clone();
        bytes[28..32].copy_from_slice(&size.to_le_bytes());
        broken(&look(&bytes, None))
    };
    assert_eq!(with(size), <[&str; 0]>::default());
    for wrong in 1..0x48 {
        assert_eq!(with(size + wrong), ["MSG-SIZE"], "{wrong}");
        assert_eq!(with(size - wrong), ["MSG-SIZE"], "{wrong}");
    }
}

#[test]
fn a_crash_dump_has_no_liveness_and_pages_left_out_on_purpose_are_no_tearing() {
    let nodump = "map 0xffffffff80050000 0x9000 4K rw\nnodump 0x9000\n";
    let crash = format!("{nodump}container live\nset kdh.panicstring = \"page fault\"\n");
    let report = look(&build(&crash).bytes, None);
    assert_eq!(report.liveness, None);
    let report = look(&build(&format!("{nodump}container live\n")).bytes, None);
    assert!(
        report.outcomes["PT-PAGE-ABSENT"].broken > 0,
        "{}",
        told(&report)
    );
    let liveness = report.liveness.as_ref().unwrap();
    assert_eq!((liveness.live, liveness.score()), (Some(true), 100.0));
    // Nothing says whether the machine of a bare payload ran on.
    let report = look(&build("").payload, None);
    assert_eq!(report.liveness.unwrap().live, None);
}
