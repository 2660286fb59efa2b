//! The message buffer: the ring, then `struct msgbuf`.
//!
//! FreeBSD `sys/sys/msgbuf.h`, `sys/kern/subr_msgbuf.c`, `sys/kern/subr_prf.c`.

use super::content::put_number;
use super::cursor::Names;
use super::error::{BuildError, Result};
use super::recipe::{Msgbuf, Recipe, Value};

/// `msg_magic`.
const MAGIC: u64 = 0x06_3062;

/// Name, offset and size of the fields on 64-bit kernels.
const LP64: &[(&str, usize, usize)] = &[
    ("msg_ptr", 0, 8),
    ("msg_magic", 8, 4),
    ("msg_size", 12, 4),
    ("msg_wseq", 16, 4),
    ("msg_rseq", 20, 4),
    ("msg_cksum", 24, 4),
    ("msg_seqmod", 28, 4),
    ("msg_lastpri", 32, 4),
    ("msg_flags", 36, 4),
];

/// Name, offset and size of the fields on 32-bit kernels.
const ILP32: &[(&str, usize, usize)] = &[
    ("msg_ptr", 0, 4),
    ("msg_magic", 4, 4),
    ("msg_size", 8, 4),
    ("msg_wseq", 12, 4),
    ("msg_rseq", 16, 4),
    ("msg_cksum", 20, 4),
    ("msg_seqmod", 24, 4),
    ("msg_lastpri", 28, 4),
    ("msg_flags", 32, 4),
];

/// `sizeof(struct msgbuf)`, including its lock.
pub(crate) fn struct_size(long: usize) -> u64 {
    if long == 8 { 72 } else { 56 }
}

/// The ring's size; by default the ring and `struct msgbuf` fill one page.
pub(crate) fn ring_size(recipe: &Recipe) -> u64 {
    let long = recipe.kind.arch().long;
    recipe
        .msgbuf
        .size
        .unwrap_or(recipe.page_size - struct_size(long))
}

/// The section: ring, struct, zeros to the end of the page.
pub(crate) fn section(recipe: &Recipe, names: &Names) -> Result<Vec<u8>> {
    let size = ring_size(recipe);
    let msgbuf = &recipe.msgbuf;
    let mut out = ring(msgbuf, size);
    let padded = size.next_multiple_of(recipe.page_size) as usize;
    match &msgbuf.tail {
        Some(content) => {
            let rest = padded - out.len();
            out.extend(content.page(rest, 0, recipe.big())?);
        }
        None => out.extend(structure(recipe, &out, names)?),
    }
    out.resize(padded, 0);
    Ok(out)
}

fn ring(msgbuf: &Msgbuf, size: u64) -> Vec<u8> {
    let mut ring = vec![0u8; size as usize];
    if size > 0 {
        for (i, byte) in msgbuf.text.iter().enumerate() {
            ring[(msgbuf.start.wrapping_add(i as u64) % size) as usize] = *byte;
        }
    }
    ring
}

fn structure(recipe: &Recipe, ring: &[u8], names: &Names) -> Result<Vec<u8>> {
    let arch = recipe.kind.arch();
    let msgbuf = &recipe.msgbuf;
    let size = ring.len() as u64;
    let modulus = (16 * size).max(1);
    let end = msgbuf.start.wrapping_add(msgbuf.text.len() as u64);
    let sum: u64 = ring.iter().map(|byte| u64::from(*byte)).sum();
    let newline = msgbuf.text.last().is_none_or(|last| *last == b'\n');
    let values = [
        msgbuf.at.unwrap_or(recipe.dmap.0),
        MAGIC,
        size,
        end % modulus,
        msgbuf.rseq,
        sum & 0xffff_ffff,
        modulus & 0xffff_ffff,
        0xffff_ffff,
        u64::from(!newline) | u64::from(end > size) << 1,
    ];
    let fields = if arch.long == 8 { LP64 } else { ILP32 };
    let mut out = vec![0; struct_size(arch.long) as usize];
    let mut write = |line: usize, (_, at, width): (&str, usize, usize), value: u64| {
        let mut bytes = Vec::new();
        put_number(&mut bytes, value, width, arch.big, line)?;
        out[at..at + width].copy_from_slice(&bytes);
        Ok(())
    };
    for (field, value) in fields.iter().zip(values) {
        write(0, *field, value)?;
    }
    for set in recipe.sets.iter().filter(|set| set.area == "msgbuf") {
        let field = fields.iter().find(|field| field.0 == set.field);
        let (Some(field), Value::Number(value)) = (field, &set.value) else {
            let name = set.field.clone();
            return Err(BuildError::UnknownName {
                line: set.line,
                kind: "number",
                name,
            });
        };
        write(set.line, *field, value.value(set.line, names)?)?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mkdump::statement::parse;

    fn section_of(text: &str) -> Vec<u8> {
        section(&parse(text).unwrap(), &Names::new()).unwrap()
    }

    #[test]
    fn default_ring_and_struct_fill_one_page() {
        let bytes = section_of("minidump amd64 3\nmsgbuf text \"AB\\n\"");
        assert_eq!(bytes.len(), 0x1000);
        let at = 0x1000 - 72;
        assert_eq!(bytes[at + 8..at + 12], [0x62, 0x30, 0x06, 0]);
        assert_eq!(bytes[at + 12..at + 16], (0x1000u32 - 72).to_le_bytes());
        assert_eq!(bytes[at + 16..at + 20], 3u32.to_le_bytes());
        // 0x41 + 0x42 + 0x0a
        assert_eq!(bytes[at + 24..at + 28], 0x8du32.to_le_bytes());
    }

    #[test]
    fn text_wraps_around_the_ring_and_sequence_numbers_do_not() {
        let text = "minidump arm 1\nmsgbuf size 16\nmsgbuf start 14\nmsgbuf text \"abcdef\"";
        let bytes = section_of(text);
        assert_eq!(&bytes[14..16], b"ab");
        assert_eq!(&bytes[..4], b"cdef");
        assert_eq!(bytes[16 + 12..16 + 16], 20u32.to_le_bytes());
        assert_eq!(bytes[16 + 24..16 + 28], 256u32.to_le_bytes());
        assert_eq!(bytes[16 + 32..16 + 36], 3u32.to_le_bytes());
    }

    #[test]
    fn struct_has_the_byte_order_of_the_kernel() {
        let bytes = section_of("minidump powerpc64 2\nmsgbuf size 0x100");
        assert_eq!(bytes[0x108..0x10c], [0, 0x06, 0x30, 0x62]);
    }
}
