//! Opening truncated and inconsistent dumps.
//!
//! Every case is one statement after a sound recipe. No case may panic, run forever, or allocate by
//! an unchecked number of the file.

use livecore_compress::Codec;
use livecore_minidump::{Container, Dump, Error, KernelMemory, PhysAddr, ReadError, Warning};
use livecore_tests::mkdump::{self, Built};

use crate::dumps::{converted, target, try_open};

const MACHINE: &str = "minidump amd64 3
    kernbase 0xffffffff80000000
    kernend 0xffffffffc0000000
    avail 0x1000 0x9000
    avail 0x200000 0x20a000
    msgbuf text \"booting\\n\"
    page 0x1000 own
    page 0x3000 seed 1
    pages 0x200000 4 seed 2
    map 0xffffffff80400000 0x1000 4K rw
";

fn make(statements: &str) -> Built {
    let text = format!("{MACHINE}{statements}\n");
    mkdump::build_all(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Reads every saved page, asserts that it equals the original, and returns how many were readable.
fn readable_pages(dump: &Dump, built: &Built) -> usize {
    let oracle = built.oracle.as_ref().unwrap();
    let read = |(pa, content): (&u64, &Vec<u8>)| {
        let mut page = vec![0; content.len()];
        match dump.read_phys(PhysAddr(*pa), &mut page) {
            Ok(()) => assert!(page == *content, "page {pa:#x} differs"),
            Err(ReadError::BeyondEnd { .. } | ReadError::Io { .. }) => return false,
            Err(error) => panic!("page {pa:#x}: {error}"),
        }
        true
    };
    oracle.pages.iter().filter(|page| read(*page)).count()
}

#[test]
fn file_truncated_before_the_data_is_broken_and_in_the_data_is_short() {
    let built = make("");
    let oracle = built.oracle.as_ref().unwrap();
    let (data, size) = oracle.section("data").unwrap();
    let mut cuts: Vec<u64> = (0..200).chain((200..data + size).step_by(511)).collect();
    for (_, start, len) in &oracle.sections {
        cuts.extend([*start, start + 1, start + len / 2, start + len - 1]);
    }
    for cut in cuts {
        match try_open(&built.bytes[..cut as usize]) {
            Err(Error::NotADump { .. }) => assert!(cut < 9, "{cut:#x}"),
            // The architecture is unknown if its name in the magic is truncated.
            Err(Error::Unsupported { .. }) => assert!((8..24).contains(&cut), "{cut:#x}"),
            Err(Error::Broken { .. }) => assert!((8..data).contains(&cut), "{cut:#x}"),
            Err(error) => panic!("{cut:#x}: {error}"),
            Ok(dump) => {
                assert!(cut >= data, "{cut:#x} opens");
                let [Warning::Short(short)] = dump.envelope().warnings() else {
                    panic!("{cut:#x}: {:?}", dump.envelope().warnings());
                };
                assert_eq!((short.expected, short.actual), (data + size, cut));
                assert_eq!(
                    readable_pages(&dump, &built) as u64,
                    (cut - data) / 0x1000,
                    "{cut:#x}"
                );
            }
        }
    }
}

#[test]
fn truncated_page_is_readable_up_to_the_end_of_the_file() {
    let built = make("truncate file section.data.start + page + 0x123");
    let dump = try_open(&built.bytes).unwrap();
    let page = &built.oracle.as_ref().unwrap().pages[&0x3000];
    let mut part = vec![0; 0x123];
    dump.read_phys(PhysAddr(0x3000), &mut part).unwrap();
    assert!(part == page[..0x123]);
    let answer = dump.read_phys(PhysAddr(0x3122), &mut [0; 2]);
    let Err(ReadError::BeyondEnd { at, end, .. }) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!((at, end), (PhysAddr(0x3123), built.bytes.len() as u64));
}

#[test]
fn file_shorter_than_its_dumpextent_is_broken() {
    for codec in ["none", "gzip", "zstd"] {
        let cut = "truncate payload section.data.end - page";
        let whole = "set kdh.dumpextent = section.data.end";
        let bytes = make(&format!("{cut}\n{whole}\ncontainer live\ncompress {codec}")).bytes;
        match try_open(&bytes) {
            Err(Error::Broken { .. }) => {}
            Err(error) => panic!("{codec}: {error}"),
            // The length of a stream is known only after decoding it.
            Ok(dump) => {
                assert_ne!(codec, "none");
                assert!(dump.shortness().unwrap().is_some(), "{codec}");
            }
        }
    }
}

#[test]
fn truncated_stream_is_short_or_broken() {
    for codec in [
        "gzip",
        "zstd",
        "pigz",
        "zstd frames 12288",
        "gzip members 20000",
    ] {
        let built = make(&format!("compress {codec}"));
        for cut in (1..built.bytes.len())
            .step_by(97)
            .chain([built.bytes.len() - 1])
        {
            let Ok(dump) = try_open(&built.bytes[..cut]) else {
                continue;
            };
            let pages = built.oracle.as_ref().unwrap().pages.len();
            // A stream that ends between frames is a short payload, any other is broken.
            match dump.shortness() {
                Ok(Some(_)) | Err(Error::Broken { .. }) => {}
                Err(error) => panic!("{codec}, {cut}: {error}"),
                Ok(None) => panic!("{codec}: complete at {cut} of {}", built.bytes.len()),
            }
            assert!(readable_pages(&dump, &built) <= pages);
        }
    }
}

#[test]
fn damaged_or_truncated_sealed_file_never_returns_a_wrong_page() {
    let built = make("");
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        let file = converted(&built.bytes, &target(Container::Sealed, codec, 8192));
        for cut in (1..file.len()).step_by(113) {
            if let Ok(dump) = try_open(&file[..cut]) {
                readable_pages(&dump, &built);
            }
        }
        // Reading uncompressed pages does not check their digests.
        let step = if codec == Codec::None { continue } else { 61 };
        for at in (0..file.len()).step_by(step) {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << (at % 8);
            if let Ok(dump) = try_open(&damaged) {
                let pages = built.oracle.as_ref().unwrap().pages.iter();
                for (pa, content) in pages {
                    let mut page = vec![0; content.len()];
                    if dump.read_phys(PhysAddr(*pa), &mut page).is_ok() {
                        assert!(page == *content, "{codec:?}, byte {at:#x}: page {pa:#x}");
                    }
                }
            }
        }
    }
}

/// Values at the limits of ranges, sums and roundings.
const SIZES: [u64; 12] = [
    0,
    1,
    8,
    0xfff,
    0x1001,
    0x2000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_effe,
    0xffff_f000,
    0xffff_f001,
    0xffff_ffff,
];

#[test]
fn section_sizes_beyond_the_file_are_broken() {
    for field in ["msgbufsize", "bitmapsize", "pmapsize", "dumpavailsize"] {
        for size in SIZES {
            let built = make(&format!("set header.{field} = {size}"));
            let answer = try_open(&built.bytes);
            match answer {
                Err(Error::Broken { .. }) => {}
                Err(error) => panic!("{field} {size:#x}: {error}"),
                Ok(_) => assert!(size <= 0x2000, "{field} {size:#x} opens"),
            }
        }
    }
}

#[test]
fn flipped_bit_in_the_minidump_header_is_detected_or_harmless() {
    for at in 0..72u64 {
        for bit in 0..8 {
            let built = make(&format!("flip file {at} bit {bit}"));
            // Any kernel map and direct map addresses are accepted.
            let free = (40..64).contains(&at) || (68..72).contains(&at);
            match try_open(&built.bytes) {
                Err(Error::NotADump { .. } | Error::Unsupported { .. }) => {
                    assert!(at < 28, "byte {at} bit {bit}");
                }
                Err(Error::Broken { .. }) => assert!(!free, "byte {at} bit {bit}"),
                Err(error) => panic!("byte {at} bit {bit}: {error}"),
                // A size is rounded to its page. Another version of the same layout opens too,
                // with another bitmap or none.
                Ok(dump) => {
                    let same = dump.layout().data_offset() == 0x5000;
                    let version = (24..28).contains(&at);
                    assert!(
                        free || same || version || !dump.envelope().warnings().is_empty(),
                        "{at} {bit}"
                    );
                    if free || (same && !version) {
                        assert_eq!(
                            readable_pages(&dump, &built),
                            built.oracle.as_ref().unwrap().pages.len()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn flipped_bit_in_the_kerneldumpheader_is_an_error_or_a_warning() {
    // With a damaged magic the header is trailing bytes, which are detected in uncompressed dumps.
    let codec = |at: u64| {
        if at < 20 || at.is_multiple_of(2) {
            "none"
        } else {
            "gzip"
        }
    };
    for (codec, at, bit) in (0..512u64).map(|at| (codec(at), at, at * 5 % 8)) {
        let text = format!("container live\ncompress {codec}\nflip file trailing + {at} bit {bit}");
        let what = format!("byte {at} bit {bit}, {codec}");
        match try_open(&make(&text).bytes) {
            Err(Error::Broken { .. } | Error::Unsupported { .. }) => {}
            Err(error) => panic!("{what}: {error}"),
            Ok(dump) => assert!(!dump.envelope().warnings().is_empty(), "{what}"),
        }
    }
}

#[test]
fn extreme_numbers_in_the_kerneldumpheader_are_broken_or_unsupported() {
    let wide = [
        0,
        1,
        511,
        0x1001,
        1 << 31,
        u64::from(u32::MAX),
        1 << 32,
        1 << 63,
        u64::MAX - 511,
        u64::MAX,
    ];
    for codec in ["none", "zstd"] {
        for field in [
            "dumplength",
            "dumpextent",
            "dumpkeysize",
            "blocksize",
            "compression",
        ] {
            let fits = |n: &&u64| match field {
                "dumplength" | "dumpextent" => true,
                "compression" => **n > 2 && **n < 256,
                _ => **n <= u64::from(u32::MAX),
            };
            for number in wide.iter().filter(fits) {
                let set = format!("set kdh.{field} = {number}");
                let text = format!("container live\ncompress {codec}\n{set}");
                let what = format!("{codec}: {field} {number:#x}");
                match try_open(&make(&text).bytes) {
                    Err(Error::Broken { .. }) => {}
                    Err(Error::Unsupported { .. }) => assert_eq!(field, "dumpkeysize", "{what}"),
                    Err(error) => panic!("{what}: {error}"),
                    Ok(_) => {
                        let no_key = field == "dumpkeysize" && *number == 0;
                        // The header is also at the offset that blocks of one byte imply.
                        let bytes = codec == "none" && field == "blocksize" && *number == 1;
                        // The decoded length is known only after decoding, by the verifier.
                        let later = codec == "zstd" && field == "dumpextent" && *number > 1 << 30;
                        assert!(no_key || bytes || later, "{what} opens");
                    }
                }
            }
        }
    }
}
