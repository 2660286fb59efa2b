//! Properties that the fuzz targets check, and recomputation of digests.
//!
//! A wrong digest or parity stops a reader early. [`fix_digests`] recomputes those of a changed file,
//! so that the contents that they protect are read.

pub mod keys;
#[path = "../../../cli/tests/cli/law/check.rs"]
mod law_check;
pub mod restarts;
pub mod textdump;
pub mod verbs;

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use livecore_compress::{Codec, Encoding, NoProgress, Stream};
use livecore_minidump::AnyDump;
use livecore_minidump::convert::Target;
use livecore_minidump::salvage::{self, Salvage};
use livecore_minidump::textdump::TextDump;
use livecore_minidump::{Container, DumpMemory, KernelMemory, MessageBuffer, PhysAddr, VirtAddr};
use livecore_verify::{Depth, Options};
use xxhash_rust::xxh64::xxh64;

/// Most bytes of a stream to decode: decompression bombs take too long.
const CONTENT_MAX: u64 = 32 << 20;

/// Magics of kernel dumps, text dumps and dumps cleared by savecore(8).
const MAGICS: [&[u8; 17]; 3] = [
    b"FreeBSD Kernel Du",
    b"FreeBSD Text Dump",
    b"Cleared Kernel Du",
];

/// Options for opening streams, with small limits.
pub fn options() -> livecore_compress::OpenOptions {
    livecore_compress::OpenOptions::new()
        .threads(std::num::NonZeroUsize::MIN)
        .memory(16 << 20)
}

/// Asserts that the verifier and the verbs agree on the bytes.
pub fn law(bytes: &[u8]) {
    let dir = std::env::temp_dir().join(format!("livecore-law-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder for temporary files");
    let checked = law_check::check(bytes, &dir, None);
    assert_eq!(checked, Ok(()));
}

/// Asserts that pieces are decoded in order, that reads agree with decoding, and that a stream that
/// passes a check decodes.
pub fn stream(bytes: Vec<u8>) {
    let Ok(stream) = Stream::from_source(Arc::new(bytes), &options()) else {
        return;
    };
    let mut content = Vec::new();
    let mut cut = false;
    let end = stream.decode(
        &mut |at, piece| {
            assert_eq!(at, content.len() as u64, "pieces are in order");
            content.extend_from_slice(piece);
            if content.len() as u64 > CONTENT_MAX {
                cut = true;
                return Err(livecore_compress::Error::Write(io::Error::other("enough")));
            }
            Ok(())
        },
        &NoProgress,
    );
    if cut {
        return;
    }
    if let Ok(len) = end {
        assert_eq!(len, content.len() as u64);
    }
    if stream.check(&NoProgress).is_ok() {
        assert!(end.is_ok() && stream.seal_damage().is_none());
    }
    let reader = stream.content();
    for at in [0, 4000, content.len() as u64 / 2, content.len() as u64] {
        let mut buf = [0; 300];
        let Ok(n) = reader.read_full_at(&mut buf, at) else {
            assert!(end.is_err(), "read fails and decoding succeeds");
            continue;
        };
        let from = (at as usize).min(content.len());
        let known = n.min(content.len() - from);
        assert_eq!(buf[..known], content[from..from + known]);
    }
}

/// Asserts that reader and verifier do not fail on the bytes, that holes are not readable, and that a
/// dump that verifies can be opened.
pub fn dump(bytes: Vec<u8>) {
    let source: Arc<dyn livecore_compress::ReadAt> = Arc::new(bytes);
    let report = livecore_verify::verify(
        Arc::clone(&source),
        &Options::default().depth(Depth::Deep).memory(32 << 20),
        &NoProgress,
    );
    let sound = report.verdict.exit_code() == 0;
    let opened = AnyDump::from_source(
        Arc::clone(&source),
        &livecore_minidump::OpenOptions::new().stream(options()),
    );
    let dump = match opened {
        Ok(AnyDump::Mini(dump)) => dump,
        Ok(AnyDump::Full(full)) => {
            for range in full.ranges().iter().take(8) {
                let _ = full.offset_of(range.start);
                let _ = full.run_at(range.start);
            }
            let Some(mini) = full.minidump() else { return };
            Arc::clone(mini)
        }
        Err(e) => {
            if let Ok(Some(text)) = TextDump::from_source(source, &options()) {
                let damage = text.damage();
                assert!(!sound || damage.is_none(), "verified text dump: {damage:?}");
                let _ = text.text("msgbuf.txt", 1 << 20);
                return;
            }
            assert!(!sound, "verified dump cannot be opened: {e}");
            return;
        }
    };
    if let Ok(buffer) = MessageBuffer::of(&dump, None) {
        let _ = buffer.dmesg(true).len() + buffer.text().len();
    }
    let mut left = 5_000;
    let _ = dump.walk(&mut |_| {
        left -= 1;
        if left == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let mini = dump.header();
    let mut buf = [0; 100];
    for at in [0, mini.kernbase, mini.dmapbase, mini.dmapend, u64::MAX - 50] {
        let _ = dump.read_virt(VirtAddr(at), &mut buf);
        let _ = dump.read_phys(PhysAddr(at), &mut buf);
    }
    for segment in dump.dump_avail().ranges().iter().take(8) {
        for at in [segment.start, segment.end] {
            let answer = dump.read_phys(at, &mut buf[..1]);
            let bit = dump.dump_avail().bit_of(at);
            let there = bit.is_some_and(|bit| dump.bitmap().contains(bit));
            assert!(there || answer.is_err(), "read of hole {at:#x} succeeds");
        }
    }
}

/// Asserts that a salvaged dump that verifies before it is written also verifies and opens when it is
/// sealed.
pub fn salvage(bytes: Vec<u8>) {
    let options =
        salvage::Options::default().open(livecore_minidump::OpenOptions::new().stream(options()));
    let Ok(found) = Salvage::examine(Arc::new(bytes), &options, &NoProgress) else {
        return;
    };
    if found.payload_len().is_ok_and(|len| len > CONTENT_MAX) {
        return;
    }
    let target = Target {
        container: Container::Sealed,
        encoding: Encoding::new(Codec::None),
    };
    let verify = |dump: Arc<dyn livecore_compress::ReadAt>| {
        let report = livecore_verify::verify(dump, &Options::default(), &NoProgress);
        report.verdict.exit_code()
    };
    let Ok(raw) = found.as_raw_file() else {
        return;
    };
    let before = verify(raw);
    if ![0, 3].contains(&before) {
        return;
    }
    let mut out = Vec::new();
    if found.write(&target, &mut out, &NoProgress).is_err() {
        return;
    }
    let after = verify(Arc::new(out.clone()));
    assert!(
        [0, 3].contains(&after),
        "exit code {before} before writing, {after} after"
    );
    let opened = AnyDump::from_source(Arc::new(out), &options.open);
    assert!(
        opened.is_ok(),
        "salvaged dump cannot be opened: {:?}",
        opened.err()
    );
}

/// Recomputes parities and the digests of the seal.
pub fn fix_digests(bytes: &mut [u8]) {
    fix_parity(bytes);
    fix_seal(bytes);
}

/// Recomputes the parity of every kerneldumpheader at a multiple of 512 bytes from the start or the
/// end.
pub fn fix_parity(bytes: &mut [u8]) {
    let len = bytes.len();
    for start in [0, len % 512] {
        for at in (start..len.saturating_sub(511)).step_by(512) {
            let block = &mut bytes[at..at + 512];
            if MAGICS.iter().any(|magic| block.starts_with(*magic)) {
                block[508..].fill(0);
                for k in 0..4 {
                    block[508 + k] = (0..127).fold(0, |sum, word| sum ^ block[4 * word + k]);
                }
            }
        }
    }
}

/// Recomputes the digests of all parts, and of the first seal's header, attachment, index and footer.
pub fn fix_seal(bytes: &mut [u8]) {
    let magics = bytes.windows(8).enumerate();
    let parts: Vec<_> = magics
        .filter(|(_, window)| *window == b"LVCRPART")
        .map(|(at, _)| at)
        .collect();
    for at in parts {
        let len = bytes.get(at + 12..at + 16).and_then(|b| b.first_chunk());
        let end = len.map(|len| at + 56 + u32::from_le_bytes(*len) as usize);
        let digest = end.and_then(|end| bytes.get(at + 56..end));
        if let Some(digest) = digest.map(|bytes| xxh64(bytes, 0)) {
            put(bytes, at + 40, digest);
        }
        if let Some(digest) = bytes.get(at..at + 48).map(|bytes| xxh64(bytes, 0)) {
            put(bytes, at + 48, digest);
        }
    }
    let Some(header) = find(bytes, b"LVCRSEAL") else {
        return;
    };
    let version_2 = bytes.get(header + 8) == Some(&2);
    let number = |at: usize, n: usize| {
        let bytes = bytes.get(at..at + n)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0u64, |sum, &b| sum << 8 | u64::from(b)),
        )
    };
    if let (Some(frames), Some(attached)) = (number(header + 32, 8), number(header + 40, 4)) {
        let attachment = header + if version_2 { 104 } else { 72 };
        let index = attachment.saturating_add(attached as usize);
        let end = index.saturating_add((frames as usize).saturating_mul(12));
        for (from, to, field) in [(attachment, index, 48), (index, end, 56)] {
            if let Some(digest) = bytes.get(from..to).map(|bytes| xxh64(bytes, 0)) {
                put(bytes, header + field, digest);
            }
        }
    }
    if let Some(digest) = bytes.get(header..header + 64).map(|bytes| xxh64(bytes, 0)) {
        put(bytes, header + 64, digest);
    }
    if version_2 {
        let field = |at: usize| {
            let bytes = bytes.get(header + at..header + at + 8)?;
            usize::try_from(u64::from_le_bytes(*bytes.first_chunk()?)).ok()
        };
        let parts = field(24).zip(field(72));
        let parts = parts.and_then(|(start, len)| bytes.get(start..start.checked_add(len)?));
        if let Some(digest) = parts.filter(|p| !p.is_empty()).map(|p| xxh64(p, 0)) {
            put(bytes, header + 80, digest);
        }
        if let Some(digest) = bytes.get(header..header + 96).map(|bytes| xxh64(bytes, 0)) {
            put(bytes, header + 96, digest);
        }
    }
    if let Some(footer) = find(bytes, b"LVCRFOOT")
        && let Some(digest) = bytes.get(footer..footer + 16).map(|bytes| xxh64(bytes, 0))
    {
        put(bytes, footer + 16, digest);
    }
}

fn find(bytes: &[u8], magic: &[u8; 8]) -> Option<usize> {
    bytes.windows(8).position(|window| window == magic)
}

fn put(bytes: &mut [u8], at: usize, value: u64) {
    if let Some(field) = bytes.get_mut(at..at + 8) {
        field.copy_from_slice(&value.to_le_bytes());
    }
}
