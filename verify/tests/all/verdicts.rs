//! Verdicts: broken dumps, files that are not dumps, and sound dumps.

use crate::common;
use livecore_kernel::verifier::ElfFacts;

use common::{build, describe, verify};
use livecore_minidump::KernelElf;
use livecore_tests::{mkdump, mkelf};
use livecore_verify::{Depth, Options, Report, Verdict};

fn verify_with(bytes: &[u8], info: Option<&str>) -> Report {
    let options = Options::default().info(info);
    verify(bytes, &options)
}

fn broken(report: &Report) -> Vec<&'static str> {
    let broken = report.outcomes.iter().filter(|(_, o)| o.broken > 0);
    let notes = ["MD-KERNBASE-LAYOUT"];
    let ids = broken.map(|(id, _)| *id);
    ids.filter(|id| !notes.contains(id)).collect()
}

/// Start of the payload of a dump device, by its last header.
fn start(device: &[u8]) -> usize {
    let last = device.len() - 512;
    let extent = u64::from_be_bytes(device[last + 496..last + 504].try_into().unwrap());
    last - usize::try_from(extent).unwrap()
}

#[test]
fn a_damaged_payload_with_a_header_is_broken_and_not_foreign() {
    let zstd = build("container device\ncompress zstd\n").bytes;
    let mut magic = zstd.clone();
    magic[start(&zstd)] ^= 1;
    let report = verify_with(&magic, None);
    assert_eq!(report.verdict, Verdict::Broken, "{}", describe(&report));
    assert!(
        broken(&report).contains(&"KDH-CODEC"),
        "{}",
        describe(&report)
    );

    let plain = build("container device\n").bytes;
    let mut zeroed = plain.clone();
    zeroed[start(&plain)..][..4096].fill(0);
    let report = verify_with(&zeroed, None);
    assert_eq!(report.verdict, Verdict::Broken, "{}", describe(&report));
    assert!(
        broken(&report).contains(&"MD-MAGIC"),
        "{}",
        describe(&report)
    );

    // With a wrong dumpextent in the last header neither payload nor first header are found.
    let mut extent = zstd;
    let at = extent.len() - 512 + 501;
    extent[at] ^= 1;
    let report = verify_with(&extent, None);
    assert_eq!(report.verdict, Verdict::Broken, "{}", describe(&report));
    assert!(
        broken(&report).contains(&"KDH-PARITY"),
        "{}",
        describe(&report)
    );
}

#[test]
fn zeros_that_savecore_drops_at_the_end_are_a_warning() {
    let built = build("pages 0x9f8000 8 zero\ninfo \"/dev/da0p2\" bounds 0 status good\n");
    let info = built.info.as_deref();
    let report = verify_with(&built.bytes, info);
    assert_eq!(report.verdict, Verdict::Sound, "{}", describe(&report));
    let cut = |bytes: usize| &built.bytes[..built.bytes.len() - bytes];
    for pages in [1, 8] {
        let report = verify_with(cut(4096 * pages), info);
        assert_eq!(report.verdict, Verdict::Warnings, "{}", describe(&report));
        assert_eq!(broken(&report), ["MD-SHORT-TAIL"]);
    }
    // savecore drops zeros only from a multiple of 4096, so this is a cut.
    let report = verify_with(cut(4097), info);
    assert_eq!(broken(&report), ["INFO-LENGTH", "MD-SHORT"]);
    // The info file of another dump.
    let other = info.unwrap().replace("Dump Length: ", "Dump Length: 1");
    let report = verify_with(cut(4096), Some(&other));
    assert_eq!(broken(&report), ["INFO-LENGTH", "MD-SHORT"]);
}

#[test]
fn changes_during_a_live_dump_are_not_errors_under_strict() {
    for (panic, verdict) in [
        ("", Verdict::Warnings),
        ("set kdh.panicstring = \"page fault\"\n", Verdict::Broken),
    ] {
        // A flipped bit of the message ring.
        let text = format!("container live\n{panic}flip payload section.msgbuf.start + 4\n");
        let bytes = build(&text).bytes;
        let options = Options::default().strict(true);
        let report = verify(&bytes, &options);
        assert_eq!(report.verdict, verdict, "{}", describe(&report));
        assert_eq!(broken(&report), ["MSG-CHECKSUM"]);
        let rule = livecore_verify::rules::find("MSG-CHECKSUM").unwrap();
        assert_eq!(report.fails(rule), verdict == Verdict::Broken);
    }
    // Other warnings make the dump broken.
    let text = "container live\nappend payload zero len 4096\n";
    let options = Options::default().strict(true);
    let report = verify(&build(text).bytes, &options);
    assert_eq!(report.verdict, Verdict::Broken, "{}", describe(&report));
}

#[test]
fn the_architecture_version_of_an_info_file_is_compared() {
    let built = build("container live\ninfo \"/dev/mem\" bounds 0 status good\n");
    let info = built.info.unwrap();
    assert_eq!(
        verify_with(&built.bytes, Some(&info)).verdict,
        Verdict::Sound
    );
    let other = info.replace("Architecture Version: 2", "Architecture Version: 3");
    assert_ne!(other, info);
    assert_eq!(
        broken(&verify_with(&built.bytes, Some(&other))),
        ["INFO-HEADER"]
    );
}

#[test]
fn info_files_of_every_form_state_the_length_of_a_cut_dump() {
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
        let report = verify_with(&built.bytes, Some(form));
        assert_eq!(
            report.verdict,
            Verdict::Sound,
            "{form}{}",
            describe(&report)
        );
        let report = verify_with(&built.bytes[..built.bytes.len() - 4097], Some(form));
        assert_eq!(
            report.verdict,
            Verdict::Broken,
            "{form}{}",
            describe(&report)
        );
        assert_eq!(broken(&report), ["INFO-LENGTH", "MD-SHORT"], "{form}");
        let other = form.replace(&length, &format!("1{length}"));
        let report = verify_with(&built.bytes, Some(&other));
        assert!(broken(&report).contains(&"INFO-LENGTH"), "{form}");
    }
    for (form, change) in [
        (4, ("Pass", "Fail")),
        (4, ("Dump complete", "Dump incomplete: client timed out")),
        (3, ("<dump_status>good", "<dump_status>bad")),
        (2, ("\"good\"", "\"bad\"")),
    ] {
        let report = verify_with(&built.bytes, Some(&forms[form].replace(change.0, change.1)));
        assert_eq!(broken(&report), ["INFO-STATUS"], "{change:?}");
    }
    let report = verify_with(&built.bytes, Some("of no form\n"));
    assert_eq!(broken(&report), ["INFO-FORMAT"]);
}

#[test]
fn strings_of_info_files_of_every_form_are_compared_with_the_header() {
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
            broken(&verify_with(&bytes, Some(&form))),
            <[&str; 0]>::default(),
            "{form}"
        );
    }
    for form in with("another panic") {
        assert_eq!(
            broken(&verify_with(&bytes, Some(&form))),
            ["INFO-HEADER"],
            "{form}"
        );
    }
}

/// The struct after the ring states the ring's size.
#[test]
fn a_msgbufsize_that_is_slightly_wrong_is_found() {
    let payload = build("").payload;
    let size = u32::from_le_bytes(payload[28..32].try_into().unwrap());
    let with = |size: u32| {
        let mut bytes = payload.clone();
        bytes[28..32].copy_from_slice(&size.to_le_bytes());
        broken(&verify_with(&bytes, None))
    };
    assert_eq!(with(size), <[&str; 0]>::default());
    for wrong in 1..0x48 {
        assert_eq!(with(size + wrong), ["MSG-SIZE"], "{wrong}");
        assert_eq!(with(size - wrong), ["MSG-SIZE"], "{wrong}");
    }
}

#[test]
fn a_crash_dump_has_no_liveness_and_nodump_pages_are_consistent() {
    let nodump = "map 0xffffffff80050000 0x9000 4K rw\nnodump 0x9000\n";
    let crash = format!("{nodump}container live\nset kdh.panicstring = \"page fault\"\n");
    let report = verify_with(&build(&crash).bytes, None);
    assert_eq!(report.liveness, None);
    let report = verify_with(&build(&format!("{nodump}container live\n")).bytes, None);
    assert!(
        report.outcomes["PT-PAGE-ABSENT"].broken > 0,
        "{}",
        describe(&report)
    );
    let liveness = report.liveness.as_ref().unwrap();
    assert_eq!((liveness.live, liveness.score()), (Some(true), 100.0));
    // A bare payload does not show whether the machine was running.
    let report = verify_with(&build("").payload, None);
    let liveness = report.liveness.unwrap();
    assert_eq!(liveness.live, None);
    assert_eq!(liveness.line(), None);
}

/// A kernel with a table of 16 chains at 0xffffffff80000300, each with a thread in its own page.
fn threads_in_pages(present: u64) -> (Vec<u8>, KernelElf) {
    let mut recipe = "minidump amd64 3
kernbase 0xffffffff80000000
kernend 0xffffffffc0000000
avail 0x1000 0x40000
msgbuf text \"---<<BOOT>>---\\n\"
page 0x1000 own
table 0xffffffff80000000 0x3f000
map 0xffffffff80000000 0x1000 4K rw
put va 0xffffffff80000100 text \"FreeBSD 14.1\" len 32
put va 0xffffffff80000200 u64 0xffffffff80000300, 15
"
    .to_string();
    for i in 0..16_u64 {
        let pa = 0x10000 + i * 0x1000;
        if i < present {
            recipe += &format!("page {pa:#x} own\n");
        }
        let (at, thread) = (0xffff_ffff_8000_0300 + i * 8, 0xffff_f800_0000_0000 + pa);
        recipe += &format!("put va {at:#x} u64 {thread:#x}\n");
    }
    let elf = "elf amd64
section .data 0xffffffff80000100 text \"FreeBSD 14.1\" len 32
symbol version 0xffffffff80000100 size 32
symbol tidhashtbl 0xffffffff80000200
symbol tidhash 0xffffffff80000208
";
    let dump = mkdump::build_all(&recipe).unwrap().bytes;
    let elf = KernelElf::from_bytes(mkelf::build(elf).unwrap()).unwrap();
    (dump, elf)
}

#[test]
fn threads_in_pages_that_are_not_in_the_dump_are_counted() {
    for (present, found) in [
        (16, None),
        (12, None),
        (11, Some("5 of 16 threads not in the dump")),
        (0, Some("16 of 16 threads not in the dump")),
    ] {
        let (dump, elf) = threads_in_pages(present);
        let facts = ElfFacts(&elf);
        let options = Options::default().depth(Depth::Deep).kernel(Some(&facts));
        let report = verify(&dump, &options);
        let mut findings = report.findings.iter();
        let finding = findings.find(|f| f.rule.id == "KRN-BITMAP");
        let text = finding.map(|f| f.found.as_str());
        assert_eq!(text, found, "{present}: {}", describe(&report));
        assert!(report.outcomes["KRN-BITMAP"].checked > 0);
    }
}
