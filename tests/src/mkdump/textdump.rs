//! Text dumps: a tar archive, written from the end of a device downward.
//!
//! FreeBSD `sys/ddb/db_textdump.c`.

const BLOCK: usize = 512;

/// The members as a ustar archive without end-of-archive blocks.
pub(crate) fn tar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, content) in members {
        out.extend_from_slice(&member(name, content.len()));
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out
}

/// The blocks in reverse order, as on a device.
pub(crate) fn reversed(tar: &[u8]) -> Vec<u8> {
    tar.chunks(BLOCK).rev().flatten().copied().collect()
}

fn member(name: &str, len: usize) -> [u8; BLOCK] {
    let mut out = [0u8; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name.as_bytes()[..name.len().min(99)]);
    put(100, b"0600");
    put(108, b"0");
    put(116, b"0");
    put(124, format!("{len:o}").as_bytes());
    put(257, b"ustar");
    put(265, b"root");
    put(297, b"wheel");
    // The checksum counts its own field as blanks.
    put(148, b"        ");
    let sum: u32 = out.iter().map(|byte| u32::from(*byte)).sum();
    out[148..156].copy_from_slice(format!("{sum:6o}\0 ").as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reversed_swaps_the_order_of_blocks() {
        let tar = tar(&[("panic.txt".to_owned(), b"boom".to_vec())]);
        assert_eq!(tar.len(), 1024);
        let device = reversed(&tar);
        assert_eq!(&device[..4], b"boom");
        assert_eq!(&device[512..521], b"panic.txt");
    }

    #[test]
    fn member_sizes_and_checksums_are_octal() {
        let header = member("version.txt", 511);
        assert_eq!(&header[124..128], b"777\0");
        assert_eq!(&header[100..105], b"0600\0");
        let sum: u32 = header
            .iter()
            .enumerate()
            .map(|(i, byte)| {
                if (148..156).contains(&i) {
                    32
                } else {
                    u32::from(*byte)
                }
            })
            .sum();
        let field = std::str::from_utf8(&header[148..154]).unwrap().trim();
        assert_eq!(u32::from_str_radix(field, 8), Ok(sum));
    }
}
