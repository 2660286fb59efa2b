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
