//! Creates the initial fuzzing corpora: `fuzz-seeds FOLDER` fills `FOLDER/TARGET/`.
//!
//! Dumps are the small ones of `testdata/dumps`; streams are written by the compressors.

use std::error::Error;
use std::fs;
use std::path::Path;

use livecore_compress::{Codec, Encoding, NoProgress, Shape};
use livecore_tests::corpus::recipes;
use livecore_tests::{mkdump, mkelf};

#[path = "../../tests/all/images/common.rs"]
#[allow(dead_code, reason = "only the images are used")]
mod common;
#[path = "../../../compress/tests/all/kept.rs"]
#[allow(dead_code, reason = "only the files are used")]
mod kept;
mod single;

/// Largest seed in bytes. Small seeds are faster to mutate.
const LEN_MAX: usize = 160 << 10;

const KERNEL: &str = "elf amd64
section .text 0xffffffff80200000 hex 55 48 89 e5
bss .bss 0xffffffff80300000 0x1000
symbol main 0xffffffff80200000 size 4 func
symbol hz 0xffffffff80300000 size 4
symbol kernphys 0x200000 abs
";

/// Packets of a debugger.
const PACKETS: [&str; 8] = [
    "+$qSupported:multiprocess+;qXfer:features:read+#00",
    "+$?#3f+$g#67+$qfThreadInfo#bb+$qsThreadInfo#c8",
    "$Hg1#e0$p10#d1$m0,10#2a$mffffffff80200000,8#65",
    "$qXfer:features:read:target.xml:0,ffb#79",
    "$vFile:open:6b65726e656c,0,0#02$vFile:pread:1,10,0#00",
    "$qRcmd,68656c70#fb$qRcmd,6474#00",
    "$jThreadsInfo#c1$qHostInfo#9b$qRegisterInfo0#72",
    "$QStartNoAckMode#b0+$D#44",
];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: fuzz-seeds FOLDER")?;
    let folder = Path::new(&folder);
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = folder.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)
    };
    for recipe in recipes()? {
        let Ok(built) = mkdump::build_all(&recipe.text) else {
            continue;
        };
        let bytes = built.bytes;
        // Headers are at the start and at the end.
        put("headers", &recipe.name, &bytes[..bytes.len().min(512)])?;
        let end = &bytes[bytes.len().saturating_sub(512)..];
        put("headers", &format!("{}-end", recipe.name), end)?;
        if bytes.len() <= LEN_MAX {
            put("dump", &recipe.name, &bytes)?;
            put("dump_fixed", &recipe.name, &bytes)?;
            put("salvage", &recipe.name, &bytes)?;
            put("law", &recipe.name, &bytes)?;
            // The first byte selects what the rest is.
            for mode in 0..4_u8 {
                let name = format!("{}-{mode}", recipe.name);
                put("keys", &name, &[&[mode][..], &bytes].concat())?;
            }
            if recipe.name.contains("text") {
                // The archive.
                put("textdump", &recipe.name, &built.payload)?;
            }
            // The first byte selects the command line.
            let verb = [recipe.name.len() as u8];
            put("verbs", &recipe.name, &[&verb[..], &bytes].concat())?;
        }
    }
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        for (len, frame_size) in [(0, 4096), (9000, 4096), (70_000, 16384), (100_000, 1 << 20)] {
            let content: Vec<u8> = (0..len)
                .map(|k: u32| (k.wrapping_mul(k) >> 9) as u8)
                .collect();
            let encoding = Encoding::new(codec).frame_size(frame_size);
            for shape in [Shape::Frames, Shape::Single] {
                let mut bytes = Vec::new();
                let stored = livecore_compress::encode_at(
                    &content,
                    &encoding,
                    shape,
                    &mut bytes,
                    &NoProgress,
                )?;
                put("stream", &format!("{codec}-{len}-{shape:?}"), &bytes)?;
                if shape == Shape::Frames {
                    livecore_compress::write_seal(
                        &stored,
                        &content[..content.len() / 100],
                        &mut bytes,
                    )?;
                    put("stream", &format!("{codec}-{len}-sealed"), &bytes)?;
                    put("seal", &format!("{codec}-{len}"), &bytes)?;
                }
            }
        }
    }
    let dir = tempfile::tempdir()?;
    for (number, (codec, stored, content)) in (0_u8..).zip(single::streams()) {
        let kept = kept::Kept::new(&dir.path().join(codec.to_string()), &stored, content);
        // The first byte selects the stream and whether digests are recomputed.
        for (selector, name) in [(number, "stored"), (number + 2, "recomputed")] {
            let bytes = [&[selector][..], kept.good()].concat();
            put("restarts", &format!("{codec}-{name}"), &bytes)?;
        }
    }
    for (name, _, _, bytes) in common::images() {
        put("image", name, &bytes)?;
    }
    for packet in PACKETS {
        let name = packet.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        put("packets", &name, packet.as_bytes())?;
    }
    let kernel = mkelf::build(KERNEL)?;
    put("kernel_elf", "kernel", &kernel)?;
    for verb in 0..22_u8 {
        put(
            "verbs",
            &format!("kernel-{verb}"),
            &[&[verb][..], &kernel].concat(),
        )?;
    }
    Ok(())
}
