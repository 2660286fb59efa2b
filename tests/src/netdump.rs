//! A client of netdump(4), as a panicking kernel is one.
//!
//! Written from FreeBSD `sys/net/debugnet.c` and `sys/netinet/netdump/netdump_client.c` (15.0). It has no
//! sockets: a test takes its packets with [`Client::outgoing`] and gives it the answers.

/// `mh_type` of a herald.
pub const HERALD: u32 = 1;
/// `mh_type` of the last message.
pub const FINISHED: u32 = 2;
/// `mh_type` of data.
pub const VMCORE: u32 = 3;
/// `mh_type` of the kerneldumpheader.
pub const KDH: u32 = 4;
/// `mh_type` of the key block.
pub const KEY: u32 = 5;

/// What a kernel sends in one call of `debugnet_send`: at most this much of the dump.
const BUFFER: usize = 64 << 10;

/// Builds a message.
#[must_use]
pub fn message(kind: u32, seqno: u32, offset: u64, data: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(kind.to_be_bytes());
    packet.extend(seqno.to_be_bytes());
    packet.extend(offset.to_be_bytes());
    packet.extend((data.len() as u32).to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(data);
    packet
}

/// A dump, as a kernel sends it.
#[derive(Debug, Clone)]
pub struct Dump {
    /// The data, padded to blocks of 4096 bytes.
    pub data: Vec<u8>,
    /// The size of the data without padding.
    pub len: usize,
    /// The kerneldumpheader.
    pub header: Vec<u8>,
    /// The key block; empty if the dump is not encrypted.
    pub key: Vec<u8>,
}

impl Dump {
    /// The dump on a device with sectors of 4096 bytes, as [`crate::mkdump`] builds one.
    ///
    /// # Panics
    ///
    /// If the device has no dump.
    #[must_use]
    pub fn of_device(device: &[u8]) -> Self {
        let header = &device[device.len() - 4096..][..512];
        assert!(header.starts_with(b"FreeBSD Kernel Dump\0"));
        let number = |at: usize, len: usize| {
            let bytes = &header[at..at + len];
            bytes.iter().fold(0, |n, b| n << 8 | usize::from(*b))
        };
        let (len, key, extent) = (number(40, 8), number(56, 4), number(496, 8));
        let start = device.len() - 4096 - extent;
        let mut data = device[start..start + len].to_vec();
        data.resize(len.next_multiple_of(4096), 0);
        Self {
            data,
            len,
            header: header.to_vec(),
            key: device[start - key..start].to_vec(),
        }
    }
}

/// The order of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Kernels since 13.0: the key before the data.
    KeyFirst,
    /// 12.x: the key after the kerneldumpheader, and at most 4096 bytes in a message.
    KeyLast,
}

/// A message that is being sent.
#[derive(Debug, Clone)]
struct Part {
    kind: u32,
    offset: u64,
    data: Vec<u8>,
}

/// A client.
#[derive(Debug, Clone)]
pub struct Client {
    batches: Vec<Vec<Part>>,
    current: usize,
    /// The sequence number of the first message of the batch.
    seqno: u32,
    acked: u64,
    /// Whether acknowledgements of later messages count for the first, as in the kernel.
    aliases: bool,
}

impl Client {
    /// A client that sends `dump`, with at most `packet` bytes of data in a message.
    #[must_use]
    pub fn new(dump: &Dump, path: &[u8], packet: usize, order: Order) -> Self {
        let packet = match order {
            Order::KeyFirst => packet,
            Order::KeyLast => packet.min(4096),
        };
        let parts = |kind: u32, start: usize, data: &[u8]| {
            let mut parts: Vec<_> = data
                .chunks(packet)
                .zip(0..)
                .map(|(data, n)| Part {
                    kind,
                    offset: (start + n * packet) as u64,
                    data: data.to_vec(),
                })
                .collect();
            if parts.is_empty() {
                let data = Vec::new();
                parts.push(Part {
                    kind,
                    offset: 0,
                    data,
                });
            }
            parts
        };
        let data = dump.data.chunks(BUFFER).zip(0..);
        let data = data.map(|(data, n)| parts(VMCORE, n * BUFFER, data));
        let header = parts(KDH, 0, &dump.header);
        let key = (!dump.key.is_empty()).then(|| parts(KEY, 0, &dump.key));
        let mut batches = vec![parts(HERALD, 0, path)];
        if order == Order::KeyFirst {
            batches.extend(key.clone());
        }
        batches.extend(data);
        batches.push(header);
        if order == Order::KeyLast {
            batches.extend(key);
        }
        batches.push(parts(FINISHED, 0, &[]));
        Self {
            batches,
            current: 0,
            seqno: 1,
            acked: 0,
            aliases: false,
        }
    }

    /// Tracks acknowledgements as the kernel does: with a shifted 32-bit 1.
    #[must_use]
    pub fn with_aliases(mut self) -> Self {
        self.aliases = true;
        self
    }

    /// Stops after so many batches, as a client that loses power.
    #[must_use]
    pub fn truncated(mut self, batches: usize) -> Self {
        self.batches.truncate(batches);
        self
    }

    /// The number of batches.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.batches.len()
    }

    /// The number of the batch that is being sent.
    #[must_use]
    pub fn batch(&self) -> usize {
        self.current
    }

    /// Whether everything was sent and acknowledged.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.current >= self.batches.len()
    }

    /// The messages of the batch that are not acknowledged.
    #[must_use]
    pub fn outgoing(&self) -> Vec<Vec<u8>> {
        let batch = self.batches.get(self.current).into_iter().flatten();
        batch
            .zip(0..)
            .filter(|(_, n)| self.acked & self.bit(*n) == 0)
            .map(|(part, n)| message(part.kind, self.seqno + n, part.offset, &part.data))
            .collect()
    }

    /// Takes an answer. Goes to the next batch if all messages are acknowledged.
    ///
    /// # Panics
    ///
    /// If the answer is not an acknowledgement, or of a message that was not sent.
    pub fn answer(&mut self, packet: &[u8]) {
        let Some(batch) = self.batches.get(self.current) else {
            return;
        };
        let seqno = u32::from_be_bytes(packet.try_into().expect("an answer has four bytes"));
        let sent = self.seqno + batch.len() as u32;
        assert!(seqno < sent, "message {seqno} was not sent");
        if seqno >= self.seqno {
            self.acked |= self.bit(seqno - self.seqno);
        }
        let wanted = (0..batch.len() as u32).fold(0, |bits, n| bits | self.bit(n));
        if self.acked == wanted {
            self.seqno = sent;
            self.acked = 0;
            self.current += 1;
        }
    }

    fn bit(&self, n: u32) -> u64 {
        match self.aliases {
            // `1 << n` is an int, which is then extended with its sign.
            true => i64::from(1_i32.wrapping_shl(n)) as u64,
            false => 1 << n,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_takes_a_lost_late_message_for_acknowledged() {
        let dump = Dump {
            data: vec![7; 65536],
            len: 65536,
            header: vec![1; 512],
            key: Vec::new(),
        };
        let client = Client::new(&dump, b"", 1448, Order::KeyFirst);
        for (mut client, lost) in [(client.clone(), 1), (client.with_aliases(), 0)] {
            client.answer(&1_u32.to_be_bytes());
            assert_eq!(client.outgoing().len(), 46);
            // The answer to the message 40 of the batch is lost.
            for n in (0..46).filter(|n| *n != 40) {
                client.answer(&(2_u32 + n).to_be_bytes());
            }
            let left = client.outgoing();
            assert_eq!(left.iter().filter(|m| m[3] == 3).count(), lost);
        }
    }
}
