//! Header blocks of tar archives.

use livecore_defs::textdump::BLOCK;

/// The parts of a header block that Livecore uses.
pub(crate) struct TarBlock {
    /// The name of the member, with the prefix of ustar.
    pub(crate) name: Vec<u8>,
    /// Whether the member is a regular file: no link, directory, device or extension.
    pub(crate) is_file: bool,
    /// The size of the contents in bytes, which is not checked.
    pub(crate) size: u64,
}

impl TarBlock {
    /// Parses a header block.
    ///
    /// # Errors
    ///
    /// Returns what was found and what was expected.
    pub(crate) fn parse(bytes: &[u8; BLOCK as usize]) -> Result<Self, (String, String)> {
        let header = tar::Header::from_byte_slice(bytes);
        let stated = header.cksum().ok();
        // The checksum counts its own field as spaces.
        let sum = bytes.iter().enumerate().map(|(i, byte)| match i {
            148..156 => 32,
            _ => u32::from(*byte),
        });
        let sum: u32 = sum.sum();
        if stated != Some(sum) {
            let stated = stated.map_or("no number".into(), |sum| sum.to_string());
            return Err((format!("checksum {stated}"), sum.to_string()));
        }
        Ok(Self {
            name: header.path_bytes().into_owned(),
            is_file: header.entry_type().is_file(),
            size: header
                .entry_size()
                .map_err(|e| (e.to_string(), "a size".into()))?,
        })
    }
}
