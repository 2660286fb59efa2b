//! Writes zeros as holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// The granularity of holes: a page, and a block of the usual file systems.
const BLOCK: usize = 4096;

static ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Writes `bytes` at `offset` of a file that has only holes from there on. Complete blocks of zeros
/// stay holes. The caller sets the file's length at the end, since a last block of zeros does not.
///
/// # Errors
///
/// The system's error for the file.
pub fn write_at(file: &File, bytes: &[u8], mut offset: u64) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let data = run(rest, offset, false);
        file.write_all_at(&rest[..data], offset)?;
        offset += data as u64;
        rest = &rest[data..];
        let hole = run(rest, offset, true);
        offset += hole as u64;
        rest = &rest[hole..];
    }
    Ok(())
}

/// The number of leading bytes that are complete blocks of zeros, or are not.
fn run(bytes: &[u8], offset: u64, zeros: bool) -> usize {
    let mut at = 0;
    while at < bytes.len() {
        let to_block = BLOCK - ((offset + at as u64) % BLOCK as u64) as usize;
        let piece = &bytes[at..bytes.len().min(at + to_block)];
        if (piece == ZEROS.as_slice()) != zeros {
            break;
        }
        at += piece.len();
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn blocks_of_zeros_become_holes() {
        let mut content = vec![0_u8; 40 * BLOCK];
        content[5] = 1;
        content[7 * BLOCK..9 * BLOCK].fill(2);
        content[20 * BLOCK - 1] = 3;
        let file = tempfile::tempfile().unwrap();
        let mut offset = 0;
        // Pieces that are not aligned to blocks.
        for piece in content.chunks(3 * BLOCK - 17) {
            write_at(&file, piece, offset).unwrap();
            offset += piece.len() as u64;
        }
        file.set_len(offset).unwrap();
        let mut back = vec![9; content.len()];
        file.read_exact_at(&mut back, 0).unwrap();
        assert!(back == content);
        assert!(file.metadata().unwrap().blocks() * 512 <= 24 * BLOCK as u64);
    }
}
