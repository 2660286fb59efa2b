//! netdump(4): how a panicking kernel sends its dump over UDP.
//!
//! FreeBSD `sys/net/debugnet.h` and `sys/netinet/netdump/netdump.h` (15.0).
//!
//! All integers are big-endian. A message is a [`Header`] and `len` bytes of data. The server answers
//! each message with its sequence number alone ([`ack`]).
//!
//! | kernel       | order of the messages                              |
//! |--------------|----------------------------------------------------|
//! | 13.0 and newer | herald, key, data, kerneldumpheader, finished    |
//! | 12.x         | herald, data, kerneldumpheader, key, finished      |

use crate::{Field, at};

/// The server's port for heralds, `NETDUMP_PORT`.
pub const PORT: u16 = 20023;
/// The client's port, `NETDUMP_ACKPORT`.
pub const ACK_PORT: u16 = 20024;

/// Size of `struct debugnet_msg_hdr`.
pub const HEADER_SIZE: usize = 24;
/// Type of the message, `mh_type`.
pub const TYPE: Field = at(0, 4);
/// Sequence number, `mh_seqno`. The first message has 1.
pub const SEQNO: Field = at(4, 4);
/// Offset of the data in the dump, in the key block or in the kerneldumpheader, `mh_offset`.
pub const OFFSET: Field = at(8, 8);
/// Size of the data, `mh_len`.
pub const LEN: Field = at(16, 4);
/// Unused by netdump, `mh_aux2`.
pub const AUX2: Field = at(20, 4);

/// Size of `struct debugnet_ack`. Clients recognize it by this size.
pub const ACK_SIZE: usize = 4;

/// Maximum size of a UDP packet over IPv4. A client with jumbo frames sends more than 4096 bytes of
/// data in a message.
pub const PACKET_MAX: usize = 65_507;
/// Maximum size of the path in a herald, with its NUL (`MAXPATHLEN`).
pub const PATH_MAX: usize = 1024;
/// Maximum size of the key block: the client's buffer, `MAXDUMPPGS * PAGE_SIZE`.
pub const KEY_MAX: u64 = 64 << 10;
/// Maximum number of messages that a client sends before it waits, `DEBUGNET_MAX_IN_FLIGHT`.
pub const IN_FLIGHT_MAX: usize = 64;
/// Messages of which a client tracks the acknowledgements without error. It records them by shifting
/// a 32-bit 1, so later ones share a bit with the first, and a lost one is not sent again.
pub const TRACKED: usize = 32;

/// The type of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The first message. Its data is the path for the dump, with its NUL, or empty.
    Herald,
    /// The last message, without data.
    Finished,
    /// A part of the dump.
    Vmcore,
    /// A part of the kerneldumpheader.
    Kdh,
    /// A part of the key block of an encrypted dump.
    EkcdKey,
}

impl Kind {
    /// The value of [`TYPE`].
    pub fn number(self) -> u32 {
        match self {
            Self::Herald => 1,
            Self::Finished => 2,
            Self::Vmcore => 3,
            Self::Kdh => 4,
            Self::EkcdKey => 5,
        }
    }

    fn of_number(number: u32) -> Option<Self> {
        let all = [
            Self::Herald,
            Self::Finished,
            Self::Vmcore,
            Self::Kdh,
            Self::EkcdKey,
        ];
        all.into_iter().find(|kind| kind.number() == number)
    }
}

/// Why a packet is not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// It is shorter than a header.
    Short,
    /// Its data has another size than its header states.
    Length,
    /// Its type is unknown.
    Type,
}

/// `struct debugnet_msg_hdr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The type.
    pub kind: Kind,
    /// The sequence number.
    pub seqno: u32,
    /// The offset of the data.
    pub offset: u64,
}

impl Header {
    /// Parses a packet. Returns the header and the data.
    ///
    /// # Errors
    ///
    /// The packet is not a message.
    pub fn parse(packet: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let (head, data) = packet
            .split_first_chunk::<HEADER_SIZE>()
            .ok_or(Malformed::Short)?;
        let number = |field: Field| {
            let bytes = &head[field.offset..field.offset + field.len];
            bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b))
        };
        if number(LEN) != data.len() as u64 {
            return Err(Malformed::Length);
        }
        // Fields of 4 bytes.
        let kind = Kind::of_number(number(TYPE) as u32).ok_or(Malformed::Type)?;
        let header = Self {
            kind,
            seqno: number(SEQNO) as u32,
            offset: number(OFFSET),
        };
        Ok((header, data))
    }
}

/// The acknowledgement of the message `seqno`.
pub fn ack(seqno: u32) -> [u8; ACK_SIZE] {
    seqno.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Laid out by hand from `struct debugnet_msg_hdr`.
    const VMCORE: [u8; 26] = [
        0, 0, 0, 3, 0, 0, 1, 2, 0, 0, 0, 1, 0, 0, 0x10, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0xaa, 0xbb,
    ];

    #[test]
    fn messages_have_big_endian_headers() {
        let (header, data) = Header::parse(&VMCORE).unwrap();
        let expected = Header {
            kind: Kind::Vmcore,
            seqno: 0x102,
            offset: 0x1_0000_1000,
        };
        assert_eq!((header, data), (expected, &[0xaa, 0xbb][..]));
        assert_eq!(ack(header.seqno), [0, 0, 1, 2]);
    }

    #[test]
    fn packets_that_are_not_messages_are_malformed() {
        let mut packet = VMCORE;
        assert_eq!(Header::parse(&packet[..23]), Err(Malformed::Short));
        assert_eq!(Header::parse(&packet[..25]), Err(Malformed::Length));
        for kind in [0, 6, 0xff] {
            packet[3] = kind;
            assert_eq!(Header::parse(&packet), Err(Malformed::Type));
        }
    }
}
