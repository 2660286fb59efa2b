//! The packet format of the GDB remote protocol.
//!
//! A packet is `$body#cs`, where `cs` is the sum of the body's bytes as two hexadecimal digits.
//! Each packet is acknowledged with `+`, or `-` if its sum is wrong, unless both sides turn this
//! off. In a body `}` escapes the next byte, which is xored with 0x20.
//!
//! GDB manual, appendix "GDB Remote Serial Protocol", "Overview" and "Packet Acknowledgment".

/// The largest body that is accepted, which debuggers get as `PacketSize`. Also the largest body
/// that is sent, except for lldb's list of threads, which is always one packet.
pub const PACKET_MAX: usize = 0x20000;

/// The result of parsing a byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A packet with a correct sum.
    Packet(Vec<u8>),
    /// A packet with a wrong sum, or with more than [`PACKET_MAX`] bytes.
    Damaged,
    /// A packet with more than [`PACKET_MAX`] bytes and a correct sum.
    TooLong,
    /// A request to send the last packet again.
    Again,
    /// An interrupt (Ctrl-C) between packets.
    Interrupt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    Body,
    Sum,
    SumEnd(u8),
}

/// Parses a stream of bytes into packets.
#[derive(Debug)]
pub(crate) struct Framing {
    state: State,
    body: Vec<u8>,
    sum: u8,
    too_long: bool,
}

impl Framing {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Between,
            body: Vec::new(),
            sum: 0,
            too_long: false,
        }
    }

    /// Parses the next byte.
    pub(crate) fn push(&mut self, byte: u8) -> Option<Event> {
        match (self.state, byte) {
            (State::Between, b'-') => return Some(Event::Again),
            (State::Between, 3) => return Some(Event::Interrupt),
            // Neither a body nor a sum contains an unescaped `$`, so the packet before was cut off.
            (_, b'$') => {
                self.state = State::Body;
                self.body.clear();
                self.sum = 0;
                self.too_long = false;
            }
            (State::Between, _) => {}
            (State::Body, b'#') => self.state = State::Sum,
            (State::Body, _) => {
                self.sum = self.sum.wrapping_add(byte);
                if self.body.len() < PACKET_MAX {
                    self.body.push(byte);
                } else {
                    self.too_long = true;
                }
            }
            (State::Sum, _) => self.state = State::SumEnd(byte),
            (State::SumEnd(high), low) => {
                self.state = State::Between;
                let expected = digit(high).zip(digit(low)).map(|(h, l)| h << 4 | l);
                let body = std::mem::take(&mut self.body);
                return Some(match expected {
                    Some(expected) if expected == self.sum && self.too_long => Event::TooLong,
                    Some(expected) if expected == self.sum => Event::Packet(body),
                    _ => Event::Damaged,
                });
            }
        }
        None
    }
}

/// Appends `body` as a packet, escaped.
pub fn frame(body: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'$');
    let start = out.len();
    for &byte in body {
        if matches!(byte, b'$' | b'#' | b'}' | b'*') {
            out.extend([b'}', byte ^ 0x20]);
        } else {
            out.push(byte);
        }
    }
    let sum = out[start..]
        .iter()
        .fold(0_u8, |sum, b| sum.wrapping_add(*b));
    // Both halves of a byte are below 16.
    let [high, low] = [sum >> 4, sum & 15].map(|half| HEX[usize::from(half)]);
    out.extend([b'#', high, low]);
}

/// The number of bytes of `data` that fit `space` bytes after escaping.
pub(crate) fn fitting(data: &[u8], space: usize) -> usize {
    let mut used = 0;
    for (at, byte) in data.iter().enumerate() {
        used += 1 + usize::from(matches!(byte, b'$' | b'#' | b'}' | b'*'));
        if used > space {
            return at;
        }
    }
    data.len()
}

fn digit(byte: u8) -> Option<u8> {
    // Below 16.
    char::from(byte).to_digit(16).map(|d| d as u8)
}

/// Parses a hexadecimal number of up to 16 digits.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    text.iter()
        .try_fold(0, |n, b| Some(n << 4 | u64::from(digit(*b)?)))
}

/// Parses two numbers separated by `between`.
pub(crate) fn two_numbers(text: &[u8], between: u8) -> Option<(u64, u64)> {
    let at = text.iter().position(|b| *b == between)?;
    Some((number(&text[..at])?, number(&text[at + 1..])?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Removes the escapes of a body.
    fn unescape(body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(body.len());
        let mut escaped = false;
        for &byte in body {
            match (escaped, byte) {
                (false, b'}') => escaped = true,
                (false, _) => bytes.push(byte),
                (true, _) => {
                    bytes.push(byte ^ 0x20);
                    escaped = false;
                }
            }
        }
        bytes
    }

    fn events(bytes: &[u8]) -> Vec<Event> {
        let mut framing = Framing::new();
        bytes.iter().filter_map(|b| framing.push(*b)).collect()
    }

    /// The sum is from the example in GDB's manual, `$g#67`.
    #[test]
    fn packet_is_the_body_between_dollar_and_sum() {
        let packet = |body: &[u8]| Event::Packet(body.to_vec());
        assert_eq!(events(b"+$g#67"), [packet(b"g")]);
        assert_eq!(events(b"$g#68$?#3f"), [Event::Damaged, packet(b"?")]);
        assert_eq!(events(b"noise$qC$?#3f"), [packet(b"?")]);
        assert_eq!(
            events(b"\x03-$#00"),
            [Event::Interrupt, Event::Again, packet(b"")]
        );
        assert_eq!(events(b"$g#6"), []);
        assert_eq!(events(b"$g#$?#3f"), [packet(b"?")]);
        assert_eq!(events(b"$g#6$?#3f"), [packet(b"?")]);
        assert_eq!(events(b"$g#xy"), [Event::Damaged]);
    }

    #[test]
    fn too_long_packet_is_dropped_without_taking_memory() {
        let mut framing = Framing::new();
        let long = vec![b'a'; 3 * PACKET_MAX];
        assert_eq!(framing.push(b'$'), None);
        assert!(long.iter().all(|b| framing.push(*b).is_none()));
        assert!(framing.body.capacity() <= 2 * PACKET_MAX);
        let sum = long.iter().fold(0_u8, |sum, b| sum.wrapping_add(*b));
        let end: Vec<_> = format!("#{sum:02x}")
            .bytes()
            .filter_map(|b| framing.push(b))
            .collect();
        assert_eq!(end, [Event::TooLong]);
    }

    #[test]
    fn special_bytes_are_escaped_and_unescaped() {
        let body = b"a}b$c#d*e\x00\xff";
        let mut framed = Vec::new();
        frame(body, &mut framed);
        let found = events(&framed);
        let [Event::Packet(escaped)] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(unescape(escaped), body);
        assert_eq!(escaped.len(), body.len() + 4);
        assert_eq!(fitting(body, escaped.len()), body.len());
        assert_eq!(fitting(body, 3), 2);
    }

    #[test]
    fn numbers_are_hexadecimal_digits_only() {
        assert_eq!(number(b"ffffffffffffffff"), Some(u64::MAX));
        assert_eq!(two_numbers(b"10,4", b','), Some((16, 4)));
        for bad in [&b""[..], b"g", b"-1", b"10000000000000000", b"1 "] {
            assert_eq!(number(bad), None);
        }
    }
}
