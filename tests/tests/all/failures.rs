//! Input that is cut or contradicts itself: what opening makes of it.
//!
//! Every case is one statement behind a sound recipe. Nothing here may panic, run for
//! ever, or take memory by a number that the file states.

use std::sync::Arc;

use livecore_compress::{Codec, Encoding, NoProgress};
use livecore_minidump::convert::{Target, convert};
use livecore_minidump::{
    Container, Dump, Error, KernelMemory, OpenOptions, PhysAddr, ReadError, Warning,
};
use livecore_tests::mkdump::{self, Built};

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

fn open(bytes: Vec<u8>) -> Result<Dump, Error> {
    Dump::from_source(Arc::new(bytes), &OpenOptions::default())
}

/// Reads every page that the recipe saves: how many could be read, all of them right.
fn right_pages(dump: &Dump, built: &Built) -> usize {
    let oracle = built.oracle.as_ref().unwrap();
    let read = |(pa, content): (&u64, &Vec<u8>)| {
        let mut page = vec![0; content.len()];
        match dump.read_phys(PhysAddr(*pa), &mut page) {
            Ok(()) => assert!(page == *content, "page {pa:#x} is another"),
            Err(ReadError::BeyondEnd { .. } | ReadError::Io { .. }) => return false,
            Err(error) => panic!("page {pa:#x}: {error}"),
        }
        true
    };
    oracle.pages.iter().filter(|page| read(*page)).count()
}

#[test]
fn a_bare_file_cut_before_its_pages_is_broken_and_cut_in_them_is_short() {
    let built = make("");
    let oracle = built.oracle.as_ref().unwrap();
    let (data, size) = oracle.section("data").unwrap();
    let mut cuts: Vec<u64> = (0..200).chain((200..data + size).step_by(511)).collect();
    for (_, start, len) in &oracle.sections {
        cuts.extend([*start, start + 1, start + len / 2, start + len - 1]);
    }
    for cut in cuts {
        match open(built.bytes[..cut as usize].to_vec()) {
            Err(Error::NotADump { .. }) => assert!(cut < 9, "{cut:#x}"),
            // The name of the architecture has to be there to be known.
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
                    right_pages(&dump, &built) as u64,
                    (cut - data) / 0x1000,
                    "{cut:#x}"
                );
            }
        }
    }
}

#[test]
fn a_page_cut_in_its_middle_is_read_as_far_as_it_is_there() {
    let built = make("truncate file section.data.start + page + 0x123");
    let dump = open(built.bytes.clone()).unwrap();
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
fn a_file_whose_header_states_its_length_is_broken_when_it_is_short() {
    for codec in ["none", "gzip", "zstd"] {
        let cut = "truncate payload section.data.end - page";
        let whole = "set kdh.dumpextent = section.data.end";
        let bytes = make(&format!("{cut}\n{whole}\ncontainer live\ncompress {codec}")).bytes;
        match open(bytes) {
            Err(Error::Broken { .. }) => {}
            Err(error) => panic!("{codec}: {error}"),
            // A stream's length is known at its end.
            Ok(dump) => {
                assert_ne!(codec, "none");
                assert!(dump.shortness().unwrap().is_some(), "{codec}");
            }
        }
    }
}

#[test]
fn a_stream_cut_anywhere_never_passes_for_whole() {
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
            let Ok(dump) = open(built.bytes[..cut].to_vec()) else {
                continue;
            };
            let pages = built.oracle.as_ref().unwrap().pages.len();
            // What ends between frames is a short payload; all else is an error at the end.
            match dump.shortness() {
                Ok(Some(_)) | Err(Error::Broken { .. }) => {}
                Err(error) => panic!("{codec}, {cut}: {error}"),
                Ok(None) => panic!("{codec}: {cut} of {} bytes pass", built.bytes.len()),
            }
            assert!(right_pages(&dump, &built) <= pages);
        }
    }
}

#[test]
fn a_sealed_file_cut_or_changed_anywhere_never_gives_a_wrong_page() {
    let built = make("");
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        let mut encoding = Encoding::new(codec);
        encoding.frame_size = 8192;
        let target = Target {
            container: Container::Sealed,
            encoding,
        };
        let mut file = Vec::new();
        convert(
            &open(built.bytes.clone()).unwrap(),
            &target,
            &mut file,
            &NoProgress,
        )
        .unwrap();
        for cut in (1..file.len()).step_by(113) {
            if let Ok(dump) = open(file[..cut].to_vec()) {
                right_pages(&dump, &built);
            }
        }
        // Without a codec nothing checks the pages themselves when they are read.
        let step = if codec == Codec::None { continue } else { 61 };
        for at in (0..file.len()).step_by(step) {
            let mut damaged = file.clone();
            damaged[at] ^= 1 << (at % 8);
            if let Ok(dump) = open(damaged) {
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

/// Values at the ends of ranges, of sums and of roundings.
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
fn sizes_that_reach_beyond_the_file_are_broken() {
    for field in ["msgbufsize", "bitmapsize", "pmapsize", "dumpavailsize"] {
        for size in SIZES {
            let built = make(&format!("set header.{field} = {size}"));
            let answer = open(built.bytes.clone());
            match answer {
                Err(Error::Broken { .. }) => {}
                Err(error) => panic!("{field} {size:#x}: {error}"),
                Ok(_) => assert!(size <= 0x2000, "{field} {size:#x} opens"),
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_the_minidump_header_is_told_or_leaves_the_pages_alone() {
    for at in 0..72u64 {
        for bit in 0..8 {
            let built = make(&format!("flip file {at} bit {bit}"));
            // Where the kernel map and the direct map are is a matter of opinion.
            let free = (40..64).contains(&at) || (68..72).contains(&at);
            match open(built.bytes.clone()) {
                Err(Error::NotADump { .. } | Error::Unsupported { .. }) => {
                    assert!(at < 28, "byte {at} bit {bit}");
                }
                Err(Error::Broken { .. }) => assert!(!free, "byte {at} bit {bit}"),
                Err(error) => panic!("byte {at} bit {bit}: {error}"),
                // A size within its page is rounded to the same; a version of the same shape
                // opens too, and reads the pages by another bitmap or not at all.
                Ok(dump) => {
                    let same = dump.layout().data_offset() == 0x5000;
                    let version = (24..28).contains(&at);
                    assert!(
                        free || same || version || !dump.envelope().warnings().is_empty(),
                        "{at} {bit}"
                    );
                    if free || (same && !version) {
                        assert_eq!(
                            right_pages(&dump, &built),
                            built.oracle.as_ref().unwrap().pages.len()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_in_the_kerneldumpheader_is_told() {
    // A header that is none any more is bytes behind a stream: only a pass over it sees them.
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
        match open(make(&text).bytes) {
            Err(Error::Broken { .. } | Error::Unsupported { .. }) => {}
            Err(error) => panic!("{what}: {error}"),
            Ok(dump) => assert!(!dump.envelope().warnings().is_empty(), "{what}"),
        }
    }
}

#[test]
fn numbers_of_the_kerneldumpheader_at_the_ends_of_their_range_are_told() {
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
                match open(make(&text).bytes) {
                    Err(Error::Broken { .. }) => {}
                    Err(Error::Unsupported { .. }) => assert_eq!(field, "dumpkeysize", "{what}"),
                    Err(error) => panic!("{what}: {error}"),
                    Ok(_) => {
                        let no_key = field == "dumpkeysize" && *number == 0;
                        // The header lies where blocks of one byte would put it, too.
                        let bytes = codec == "none" && field == "blocksize" && *number == 1;
                        // What a stream unpacks to is known at its end: left to the verifier.
                        let later = codec == "zstd" && field == "dumpextent" && *number > 1 << 30;
                        assert!(no_key || bytes || later, "{what} opens");
                    }
                }
            }
        }
    }
}
