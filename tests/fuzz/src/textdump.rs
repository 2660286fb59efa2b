//! Text dumps: archives as files and on dump devices.

use std::sync::Arc;

use livecore_compress::{NoProgress, ReadAt};
use livecore_minidump::textdump::TextDump;
use livecore_minidump::{Container, KernelDumpHeader, Magic};
use livecore_verify::{Depth, Options};

const BLOCK: usize = 512;

/// Members and their contents.
type Members = Vec<(String, Option<String>)>;

/// The bytes are an archive: as a file, and written backwards on a device, it has the same members.
pub fn textdump(bytes: &[u8]) {
    let saved = check(bytes.to_vec());
    let device = check(device(bytes));
    let whole = bytes.len() / BLOCK * BLOCK == bytes.len();
    if let (Some(saved), true) = (saved, whole && bytes.len() < 100_000) {
        assert_eq!(
            device.as_ref(),
            Some(&saved),
            "the members on a device differ"
        );
    }
}

/// Reads a text dump, and writes it as a new archive with the same members.
fn check(bytes: Vec<u8>) -> Option<Members> {
    let source: Arc<dyn ReadAt> = Arc::new(bytes);
    let checks = Options::default().depth(Depth::Deep).memory(32 << 20);
    let report = livecore_verify::verify(Arc::clone(&source), &checks, &NoProgress);
    let text = TextDump::from_source(source, &crate::options())
        .ok()
        .flatten()?;
    let sound = report.verdict.exit_code() == 0;
    assert!(
        !sound || text.damage().is_none(),
        "verified, and {:?}",
        text.damage()
    );
    let found = members(&text);
    let mut tar = Vec::new();
    if text.write_tar(&mut tar).is_ok() && !found.is_empty() {
        let again = TextDump::from_source(Arc::new(tar), &crate::options());
        let again = again.expect("an archive in memory");
        // On a device, the first member can have any name.
        assert!(again.is_some() || text.container() == Container::Device);
        if let Some(again) = again {
            assert!(again.damage().is_none(), "{:?}", again.damage());
            assert_eq!(
                members(&again),
                found,
                "the members of the new archive differ"
            );
        }
    }
    Some(found)
}

fn members(text: &TextDump) -> Members {
    let members = text.members().iter();
    members
        .map(|member| {
            let contents = text.text(&member.name, 1 << 20).ok().flatten();
            (member.name.clone(), contents)
        })
        .collect()
}

/// The archive as a kernel writes it: blocks from the end of the device, between two headers.
fn device(archive: &[u8]) -> Vec<u8> {
    let mut blocks: Vec<Vec<u8>> = archive.chunks(BLOCK).map(<[u8]>::to_vec).collect();
    blocks.iter_mut().for_each(|block| block.resize(BLOCK, 0));
    let len = (blocks.len() * BLOCK) as u64;
    let header = KernelDumpHeader {
        magic: Magic::Text,
        architecture: b"amd64".to_vec(),
        architectureversion: 4,
        dumplength: len,
        dumpextent: len,
        blocksize: BLOCK as u32,
        ..KernelDumpHeader::default()
    };
    let header = header.with_parity().encode();
    let mut device = vec![0; 64 << 10];
    device.extend(header);
    blocks.iter().rev().for_each(|block| device.extend(block));
    device.extend(header);
    device
}
