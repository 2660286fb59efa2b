//! Reads the message buffer of a dump and formats it as dmesg(8) does.
//!
//! The second section of a dump is a copy of the ring. The position of its oldest byte follows from
//! `msg_wseq` of `struct msgbuf`, which follows the ring in a crash dump and is in memory at the
//! address in `msgbufp`.

use crate::{ByteOrder, Dump, Error, KernelElf, KernelMemory, VirtAddr};
use livecore_defs::msgbuf::{
    ILP32, LP64, MSG_MAGIC, MSGBUF_NEEDNL, MSGBUF_WRAP, MsgbufFields, SEQMOD_RINGS,
};

/// `struct msgbuf` without its lock. The fields have the values in memory, so the address of the ring
/// is an integer.
///
/// FreeBSD `sys/sys/msgbuf.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Msgbuf {
    /// Address of the ring.
    pub msg_ptr: u64,
    /// Size of the ring in bytes.
    pub msg_size: u32,
    /// Sequence number of the next byte to write.
    pub msg_wseq: u32,
    /// Sequence number of the next byte for syslogd(8).
    pub msg_rseq: u32,
    /// Sum of the ring's bytes.
    pub msg_cksum: u32,
    /// Modulus of the sequence numbers.
    pub msg_seqmod: u32,
    /// The last priority, or -1.
    pub msg_lastpri: i32,
    /// `MSGBUF_NEEDNL`, `MSGBUF_WRAP`.
    pub msg_flags: u32,
}

impl Msgbuf {
    /// Parses the structure at the start of `bytes`. `None` if there are too few bytes or they are
    /// not a `struct msgbuf`.
    pub fn parse(bytes: &[u8], order: ByteOrder, long_size: usize) -> Option<Self> {
        let fields = fields(long_size);
        // Fields of 4 bytes fit a u32.
        let word = |field| order.field(bytes, field).map(|v| v as u32);
        let found = Self {
            msg_ptr: order.field(bytes, fields.msg_ptr)?,
            msg_size: word(fields.msg_size)?,
            msg_wseq: word(fields.msg_wseq)?,
            msg_rseq: word(fields.msg_rseq)?,
            msg_cksum: word(fields.msg_cksum)?,
            msg_seqmod: word(fields.msg_seqmod)?,
            msg_lastpri: word(fields.msg_lastpri)? as i32,
            msg_flags: word(fields.msg_flags)?,
        };
        let sound = word(fields.msg_magic)? == MSG_MAGIC
            && found.msg_size > 0
            && found.msg_seqmod == found.msg_size.wrapping_mul(SEQMOD_RINGS);
        sound.then_some(found)
    }
}

fn fields(long_size: usize) -> &'static MsgbufFields {
    if long_size == 8 { &LP64 } else { &ILP32 }
}

/// Maximum size of a ring that is read by symbol. The default of the kernel is 96 KiB.
const RING_LIMIT: u32 = 256 << 20;

/// How the position of the oldest byte of a ring was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingOrigin {
    /// By the `struct msgbuf` after the ring.
    Trailing,
    /// By the `struct msgbuf` that the symbol `msgbufp` points to.
    Symbol,
    /// By the longest run of NULs, which was never written: the oldest byte follows it.
    LongestNuls,
    /// Not found: the first byte of the ring is assumed to be the oldest.
    Unknown,
}

/// A message buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageBuffer {
    ring: Vec<u8>,
    start: usize,
    msgbuf: Option<Msgbuf>,
    origin: RingOrigin,
}

impl MessageBuffer {
    /// Reads the message buffer of a dump.
    ///
    /// The kernel copies the ring into the dump's section first, then logs its progress. With the
    /// kernel file, the ring and its `struct msgbuf` are therefore read from the pages, as libkvm
    /// does, unless the section has a structure with the same sequence number.
    ///
    /// # Errors
    ///
    /// If the section cannot be read.
    pub fn of(dump: &Dump, elf: Option<&KernelElf>) -> Result<Self, Error> {
        let section = dump.read_msgbuf_section()?;
        let mini = dump.header();
        let (order, long_size) = (mini.order, mini.pointer_size());
        // The section has at least `msgbufsize` bytes.
        let size = (mini.msgbufsize as usize).min(section.len());
        let trailing = Msgbuf::parse(&section[size..], order, long_size)
            .filter(|m| m.msg_size as usize == size);
        let by_symbol = elf
            .and_then(|elf| by_symbol(dump, elf, order, long_size))
            .filter(|m| m.msg_size as usize == size);
        // A section of zeros is damage, which must not go unseen.
        if let Some(later) = by_symbol
            && section[..size].iter().any(|b| *b != 0)
            && trailing.is_none_or(|m| m.msg_wseq != later.msg_wseq)
        {
            let mut ring = vec![0; size];
            if dump.read_virt(VirtAddr(later.msg_ptr), &mut ring).is_ok() {
                return Ok(Self::new(ring, size, order, long_size, || Some(later)));
            }
        }
        Ok(Self::new(section, size, order, long_size, || by_symbol))
    }

    /// Reads the message buffer that `msgbufp` points to, for a machine or a full dump.
    ///
    /// # Errors
    ///
    /// Those of [`MessageBuffer::of`].
    pub fn of_memory(memory: &dyn KernelMemory, elf: &KernelElf) -> Result<Self, Error> {
        let (order, long_size) = (elf.order(), elf.pointer_size());
        let missing =
            |what: String| Error::broken("message buffer", 0, what, "a valid message buffer");
        if elf.symbol("msgbufp").is_none() {
            return Err(Error::NoSymbol("msgbufp"));
        }
        let Some(msgbuf) = by_symbol(memory, elf, order, long_size) else {
            return Err(missing("no struct msgbuf at the address in msgbufp".into()));
        };
        if msgbuf.msg_size > RING_LIMIT {
            return Err(missing(format!("a ring of {:#x} bytes", msgbuf.msg_size)));
        }
        let size = msgbuf.msg_size as usize; // at most RING_LIMIT
        let mut ring = vec![0; size];
        memory
            .read_virt(VirtAddr(msgbuf.msg_ptr), &mut ring)
            .map_err(|e| missing(e.to_string()))?;
        Ok(Self::new(ring, size, order, long_size, || Some(msgbuf)))
    }

    /// Creates a message buffer from `section`, whose ring has `size` bytes.
    fn new(
        mut section: Vec<u8>,
        size: usize,
        order: ByteOrder,
        long_size: usize,
        by_symbol: impl FnOnce() -> Option<Msgbuf>,
    ) -> Self {
        let size = size.min(section.len());
        let trailing = Msgbuf::parse(&section[size..], order, long_size)
            .filter(|m| m.msg_size as usize == size)
            .map(|m| (m, RingOrigin::Trailing));
        let found = trailing.or_else(|| {
            by_symbol()
                .filter(|m| m.msg_size as usize == size)
                .map(|m| (m, RingOrigin::Symbol))
        });
        section.truncate(size);
        let (start, msgbuf, origin) = match found {
            // A sound structure has a size above 0.
            Some((m, origin)) => ((m.msg_wseq % m.msg_size) as usize, Some(m), origin),
            None => match longest_nuls(&section) {
                Some(start) => (start, None, RingOrigin::LongestNuls),
                None => (0, None, RingOrigin::Unknown),
            },
        };
        Self {
            ring: section,
            start,
            msgbuf,
            origin,
        }
    }

    /// The bytes of the ring in memory order.
    pub fn ring(&self) -> &[u8] {
        &self.ring
    }

    /// `struct msgbuf`, if it was found.
    pub fn msgbuf(&self) -> Option<&Msgbuf> {
        self.msgbuf.as_ref()
    }

    /// How the position of the oldest byte was found.
    pub fn origin(&self) -> RingOrigin {
        self.origin
    }

    /// Whether the sum of the ring's bytes equals `msg_cksum`. In a live dump it may differ because
    /// the kernel keeps logging during the dump.
    pub fn checksum_ok(&self) -> Option<bool> {
        let sum = self
            .ring
            .iter()
            .fold(0_u32, |sum, b| sum.wrapping_add(u32::from(*b)));
        self.msgbuf.map(|m| m.msg_cksum == sum)
    }

    /// Whether the ring has wrapped, so that the oldest text is lost.
    pub fn has_wrapped(&self) -> bool {
        self.msgbuf.is_some_and(|m| m.msg_flags & MSGBUF_WRAP != 0)
            || self.ring.get(self.start).is_some_and(|b| *b != 0)
    }

    /// Whether the last line has no newline.
    pub fn needs_newline(&self) -> bool {
        self.msgbuf
            .is_some_and(|m| m.msg_flags & MSGBUF_NEEDNL != 0)
    }

    /// The bytes of the ring, oldest first, without leading and trailing NULs, which the kernel does
    /// not log.
    pub fn text(&self) -> Vec<u8> {
        let (new, old) = self.ring.split_at(self.start);
        let mut text = [old, new].concat();
        let end = text
            .iter()
            .rposition(|b| *b != 0)
            .map_or(0, |last| last + 1);
        text.truncate(end);
        let nuls = text.iter().take_while(|b| **b == 0).count();
        text.split_off(nuls)
    }

    /// Formats the text as dmesg(8) does: removes priorities, omits lines logged by syslogd(8) or
    /// userland unless `all` is set, and escapes control characters as vis(3) does by default. Text
    /// that is not empty ends in a newline.
    ///
    /// FreeBSD `sbin/dmesg/dmesg.c`. The first line of a wrapped ring is kept, as dmesg(8) does
    /// since 13.
    pub fn dmesg(&self, all: bool) -> Vec<u8> {
        let mut text = self.text();
        if text.is_empty() {
            return text;
        }
        if text.last() != Some(&b'\n') {
            text.push(b'\n');
        }
        let mut out = Vec::with_capacity(text.len());
        for line in text.split_inclusive(|b| *b == b'\n') {
            let line = match priority(line) {
                Some((pri, _)) if !all && pri & FACILITY_MASK != 0 => continue,
                // `dmesg -a` removes the priority too.
                Some((_, len)) => &line[len..],
                None => line,
            };
            for byte in line {
                vis(*byte, &mut out);
            }
        }
        out
    }
}

/// `LOG_FACMASK` of syslog(3): the facility bits of a priority. Facility 0 is the kernel.
const FACILITY_MASK: u32 = 0x3f8;

/// Parses the priority `<n>` at the start of `line`. Returns the number and the length of `<n>`.
fn priority(line: &[u8]) -> Option<(u32, usize)> {
    let rest = line.strip_prefix(b"<")?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 || rest.get(digits) != Some(&b'>') {
        return None;
    }
    let number = std::str::from_utf8(&rest[..digits]).ok()?;
    // dmesg(8) requires a number below INT_MAX.
    let pri = number.parse().ok().filter(|n| *n < i32::MAX as u32)?;
    Some((pri, digits + 2))
}

/// Encodes a byte as vis(3) does by default in the C locale: `\^C`, `\M-C`, `\M^C`, and three octal
/// digits for a backslash and for a space with the high bit set.
fn vis(byte: u8, out: &mut Vec<u8>) {
    if (byte.is_ascii_graphic() && byte != b'\\') || matches!(byte, b' ' | b'\t' | b'\n') {
        return out.push(byte);
    }
    out.push(b'\\');
    let low = byte & 0x7f;
    if byte == b'\\' || low == b' ' {
        return out.extend([byte >> 6, byte >> 3 & 7, byte & 7].map(|digit| b'0' + digit));
    }
    if byte != low {
        out.push(b'M');
    }
    match low {
        0x7f => out.extend(b"^?"),
        0..0x20 => out.extend([b'^', low + b'@']),
        _ => out.extend([b'-', low]),
    }
}

/// Position of the first byte of the longest run of NULs, which may wrap. `None` if the ring has no
/// NULs or only NULs.
fn longest_nuls(ring: &[u8]) -> Option<usize> {
    let first = ring.iter().position(|b| *b != 0)?;
    let (mut run, mut best, mut start) = (0_usize, 0, None);
    // One pass around the ring, from the first byte that is not NUL to the same byte.
    for at in (first..ring.len()).chain(0..=first) {
        if ring[at] == 0 {
            run += 1;
            continue;
        }
        if run > best {
            (best, start) = (run, Some((at + ring.len() - run) % ring.len()));
        }
        run = 0;
    }
    start
}

/// Reads the `struct msgbuf` that `msgbufp` points to.
fn by_symbol(
    memory: &dyn KernelMemory,
    elf: &KernelElf,
    order: ByteOrder,
    long_size: usize,
) -> Option<Msgbuf> {
    let symbol = elf.symbol("msgbufp").filter(|s| !s.absolute)?;
    let mut pointer = [0; 8];
    let pointer = pointer.get_mut(..long_size)?;
    memory.read_virt(VirtAddr(symbol.value), pointer).ok()?;
    let at = order.uint(pointer)?;
    let mut bytes = [0; 72];
    let bytes = bytes.get_mut(..fields(long_size).sizeof)?;
    memory.read_virt(VirtAddr(at), bytes).ok()?;
    Msgbuf::parse(bytes, order, long_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes a section: a ring of `size` bytes with `text` written from `start`, followed by a
    /// `struct msgbuf`.
    fn section(size: usize, start: usize, text: &[u8]) -> Vec<u8> {
        let mut ring = vec![0; size];
        for (i, byte) in text.iter().enumerate() {
            ring[(start + i) % size] = *byte;
        }
        let sum: u32 = ring.iter().map(|b| u32::from(*b)).sum();
        let wseq = (start + text.len()) as u32;
        let mut tail = vec![0_u8; 72];
        for (at, value) in [
            (8, 0x063062),
            (12, size as u32),
            (16, wseq),
            (24, sum),
            (28, 16 * size as u32),
        ] {
            tail[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        [ring, tail].concat()
    }

    fn buffer(section: Vec<u8>, size: usize) -> MessageBuffer {
        MessageBuffer::new(section, size, ByteOrder::Little, 8, || None)
    }

    #[test]
    fn ring_is_unwrapped_at_its_write_sequence() {
        let whole = buffer(section(32, 0, b"one\ntwo\n"), 32);
        assert_eq!(whole.text(), b"one\ntwo\n");
        assert_eq!(
            (whole.origin(), whole.has_wrapped()),
            (RingOrigin::Trailing, false)
        );
        assert_eq!(whole.checksum_ok(), Some(true));
        let wrapped = buffer(section(16, 41, b"456\nabcdefghijk\n"), 16);
        assert_eq!(wrapped.text(), b"456\nabcdefghijk\n");
        assert!(wrapped.has_wrapped());
        let other = buffer(section(16, 60, b"x\ny\n"), 16);
        assert_eq!(other.text(), b"x\ny\n");
    }

    #[test]
    fn invalid_structure_after_the_ring_is_ignored() {
        let mut bytes = section(32, 20, b"one\ntwo\n");
        bytes[32 + 8] ^= 1;
        let guessed = buffer(bytes, 32);
        assert_eq!(guessed.origin(), RingOrigin::LongestNuls);
        assert_eq!(guessed.text(), b"one\ntwo\n");
        let full = buffer(vec![b'x'; 20], 20);
        assert_eq!(
            (full.origin(), full.text()),
            (RingOrigin::Unknown, vec![b'x'; 20])
        );
        let empty = buffer(vec![0; 20], 20);
        assert!(empty.text().is_empty() && empty.dmesg(false).is_empty());
        assert!(buffer(vec![], 100).dmesg(true).is_empty());
    }

    /// A live dump: the kernel logged its progress after it had copied the ring.
    #[test]
    fn sequence_number_ahead_of_the_ring_adds_no_nuls() {
        let bytes = section(32, 0, b"one\ntwo\n");
        let mut later = Msgbuf::parse(&bytes[32..], ByteOrder::Little, 8).unwrap();
        later.msg_wseq += 9;
        let ring = bytes[..32].to_vec();
        let buffer = MessageBuffer::new(ring, 32, ByteOrder::Little, 8, || Some(later));
        assert_eq!(buffer.text(), b"one\ntwo\n");
        assert_eq!(buffer.dmesg(false), b"one\ntwo\n");
    }

    #[test]
    fn symbol_is_used_if_no_structure_follows_the_ring() {
        let bytes = section(16, 3, b"0123456789abcde\n");
        let found = Msgbuf::parse(&bytes[16..], ByteOrder::Little, 8);
        let ring = bytes[..16].to_vec();
        let buffer = MessageBuffer::new(ring, 16, ByteOrder::Little, 8, || found);
        assert_eq!(buffer.origin(), RingOrigin::Symbol);
        assert_eq!(buffer.text(), b"0123456789abcde\n");
    }

    /// Rules of FreeBSD's `sbin/dmesg/dmesg.c`; facility 1 is `user`, 3 is `daemon`.
    #[test]
    fn priorities_are_removed_and_other_facilities_omitted() {
        let text = b"plain\n<6>kern info\n<14>user info\n<30>daemon\n<x>odd\n<>none\n<5 open\n\
                     <99999999999>big\nno newline";
        let buffer = buffer(section(256, 0, text), 256);
        assert_eq!(
            String::from_utf8(buffer.dmesg(false)).unwrap(),
            "plain\nkern info\n<x>odd\n<>none\n<5 open\n<99999999999>big\nno newline\n"
        );
        let all = String::from_utf8(buffer.dmesg(true)).unwrap();
        assert!(all.contains("\nuser info\ndaemon\n"), "{all}");
    }

    /// Encodings from the table of the default encoding in FreeBSD's vis(3).
    #[test]
    fn control_characters_are_escaped_as_vis_does() {
        let text = b"a\tb\x07\x1b[1m\\_SB \x00\x7f\x80\xa0\xc1\xff\n";
        let buffer = buffer(section(64, 0, text), 64);
        assert_eq!(
            String::from_utf8(buffer.dmesg(false)).unwrap(),
            "a\tb\\^G\\^[[1m\\134_SB \\^@\\^?\\M^@\\240\\M-A\\M^?\n"
        );
    }

    #[test]
    fn fields_of_32_bit_big_endian_kernels_are_parsed() {
        let mut bytes = [0_u8; 56];
        bytes[..4].copy_from_slice(&0xc000_0000_u32.to_be_bytes());
        bytes[4..8].copy_from_slice(&0x063062_u32.to_be_bytes());
        bytes[8..12].copy_from_slice(&100_u32.to_be_bytes());
        bytes[12..16].copy_from_slice(&7_u32.to_be_bytes());
        bytes[24..28].copy_from_slice(&1600_u32.to_be_bytes());
        bytes[28..32].copy_from_slice(&(-1_i32).to_be_bytes());
        let found = Msgbuf::parse(&bytes, ByteOrder::Big, 4).unwrap();
        assert_eq!(
            (found.msg_ptr, found.msg_size, found.msg_wseq),
            (0xc000_0000, 100, 7)
        );
        assert_eq!(found.msg_lastpri, -1);
        assert_eq!(Msgbuf::parse(&bytes[..30], ByteOrder::Big, 4), None);
        bytes[8] = 1;
        assert_eq!(Msgbuf::parse(&bytes, ByteOrder::Big, 4), None);
    }
}
