//! Packets of the GDB remote protocol: bytes cut into packets, and put into them.
//!
//! A packet is `$body#cs`, `cs` the sum of the body's bytes in two hexadecimal digits. Unless both
//! sides agreed to do without, each packet is answered with `+` or, if its sum is wrong, with `-`.
//! In a body `}` escapes the next byte, which is xor 0x20.
//!
//! GDB manual, appendix "GDB Remote Serial Protocol", "Overview" and "Packet Acknowledgment".

/// The most bytes of a packet's body that is taken, told to debuggers as `PacketSize`; and of one
/// that goes out, but for lldb's list of threads: that is one packet, however many there are.
pub const PACKET_MAX: usize = 0x20000;

/// What a byte has completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// A packet with the right sum.
    Packet(Vec<u8>),
    /// A packet with another sum, or with more bytes than a packet may have.
    Damaged,
    /// A packet was longer than any may be; its sum may have been right.
    TooLong,
    /// The last packet of ours did not arrive well.
    Again,
    /// An interrupt (Ctrl-C), outside of packets.
    Interrupt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Between,
    Body,
    Sum,
    SumEnd(u8),
}

/// Cuts a stream of bytes into packets.
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

    /// Takes the next byte.
    pub(crate) fn push(&mut self, byte: u8) -> Option<Event> {
        match (self.state, byte) {
            (State::Between, b'-') => return Some(Event::Again),
            (State::Between, 3) => return Some(Event::Interrupt),
            // Neither a body nor a sum has a bare `$`: the packet before was cut.
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
                let told = digit(high).zip(digit(low)).map(|(h, l)| h << 4 | l);
                let body = std::mem::take(&mut self.body);
                return Some(match told {
                    Some(told) if told == self.sum && self.too_long => Event::TooLong,
                    Some(told) if told == self.sum => Event::Packet(body),
                    _ => Event::Damaged,
                });
            }
        }
        None
    }
}

/// Puts `body`, escaped, into a packet.
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

/// How many bytes of `data` fit a body with `room` for them once they are escaped.
pub(crate) fn fitting(data: &[u8], room: usize) -> usize {
    let mut used = 0;
    for (at, byte) in data.iter().enumerate() {
        used += 1 + usize::from(matches!(byte, b'$' | b'#' | b'}' | b'*'));
        if used > room {
            return at;
        }
    }
    data.len()
}

fn digit(byte: u8) -> Option<u8> {
    // Below 16.
    char::from(byte).to_digit(16).map(|d| d as u8)
}

/// A hexadecimal number of a packet: up to 16 digits and nothing else.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 16 {
        return None;
    }
    text.iter()
        .try_fold(0, |n, b| Some(n << 4 | u64::from(digit(*b)?)))
}

/// Two numbers with `between` between them.
pub(crate) fn two_numbers(text: &[u8], between: u8) -> Option<(u64, u64)> {
    let at = text.iter().position(|b| *b == between)?;
    Some((number(&text[..at])?, number(&text[at + 1..])?))
}

/// The bytes that pairs of hexadecimal digits stand for.
pub(crate) fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    text.chunks_exact(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of an escaped body.
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

    /// The sum is that of the manual's example, `$g#67`.
    #[test]
    fn packet_is_what_stands_between_dollar_and_its_sum() {
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
    fn packet_longer_than_any_may_be_is_no_packet_and_takes_no_memory() {
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
    fn bytes_that_mean_something_are_escaped_and_come_back() {
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
    fn numbers_are_hexadecimal_and_whole() {
        assert_eq!(number(b"ffffffffffffffff"), Some(u64::MAX));
        assert_eq!(two_numbers(b"10,4", b','), Some((16, 4)));
        for bad in [&b""[..], b"g", b"-1", b"10000000000000000", b"1 "] {
            assert_eq!(number(bad), None);
        }
        assert_eq!(unhex(b"0aFF"), Some(vec![10, 255]));
        assert_eq!(unhex(b"0a0"), None);
    }
}
