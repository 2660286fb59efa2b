//! Packets of the protocol: `$`, the data, `#`, and two hexadecimal digits of the sum of the data.

/// Maximum size of a received packet, in bytes. Both stubs send at most 16 KiB or a little more.
const PACKET_MAX: usize = 64 << 10;

/// Maximum size of the data after its runs are expanded, in bytes.
const DATA_MAX: usize = 64 << 10;

/// The packet with this data, which has no character that must be escaped.
pub(super) fn encode(data: &str) -> Vec<u8> {
    format!("${data}#{:02x}", sum(data.as_bytes())).into_bytes()
}

fn sum(data: &[u8]) -> u8 {
    data.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// A unit that the stub has sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// `+`, or `-`, which requests the last packet again.
    Acknowledged(bool),
    /// The data of a packet.
    Packet(Vec<u8>),
    /// A packet with a wrong sum or invalid data. The client requests it again.
    Damaged,
}

/// Removes the next unit from the received bytes. `None` if it is incomplete.
///
/// # Errors
///
/// Describes the bytes, if they do not begin a packet or the packet is too long.
pub(super) fn next(bytes: &mut Vec<u8>) -> Result<Option<Received>, String> {
    match bytes.first() {
        None => return Ok(None),
        Some(b'+' | b'-') => {
            let sign = bytes.remove(0);
            return Ok(Some(Received::Acknowledged(sign == b'+')));
        }
        Some(b'$') => {}
        Some(other) => return Err(format!("byte {other:#04x}")),
    }
    let Some(hash) = bytes.iter().position(|byte| *byte == b'#') else {
        return match bytes.len() > PACKET_MAX {
            true => Err(format!("more than {PACKET_MAX} bytes without '#'")),
            false => Ok(None),
        };
    };
    let Some(digits) = bytes.get(hash + 1..hash + 3) else {
        return Ok(None);
    };
    let expected = std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| u8::from_str_radix(digits, 16).ok());
    let is_sound = expected == Some(sum(&bytes[1..hash]));
    let data = expand(&bytes[1..hash]);
    bytes.drain(..hash + 3);
    Ok(Some(match data.filter(|_| is_sound) {
        Some(data) => Received::Packet(data),
        None => Received::Damaged,
    }))
}

/// Expands `}`, which is followed by a byte XOR 0x20, and runs: `*` and the number of repetitions plus 29.
fn expand(raw: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::with_capacity(raw.len());
    let mut rest = raw.iter();
    while let Some(byte) = rest.next() {
        match byte {
            b'}' => data.push(rest.next()? ^ 0x20),
            b'*' => {
                let count = usize::from(*rest.next()?).checked_sub(29)?;
                let last = *data.last()?;
                data.resize(data.len() + count, last);
            }
            byte => data.push(*byte),
        }
        if data.len() > DATA_MAX {
            return None;
        }
    }
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(bytes: &[u8]) -> Result<Option<Received>, String> {
        next(&mut bytes.to_vec())
    }

    #[test]
    fn packets_of_gdbs_manual_are_read() {
        assert_eq!(encode("m4000,8"), b"$m4000,8#95");
        let packet = |data: &[u8]| Ok(Some(Received::Packet(data.to_vec())));
        assert_eq!(received(b"$OK#9a"), packet(b"OK"));
        assert_eq!(received(b"$#00"), packet(b""));
        // "0* " is "0000"; "}\x03" is "#".
        assert_eq!(received(b"$0* #7a"), packet(b"0000"));
        assert_eq!(received(b"$}\x03#80"), packet(b"#"));
        assert_eq!(received(b"+"), Ok(Some(Received::Acknowledged(true))));
        assert_eq!(received(b"-"), Ok(Some(Received::Acknowledged(false))));
        for incomplete in [&b""[..], b"$", b"$OK", b"$OK#", b"$OK#9"] {
            assert_eq!(received(incomplete), Ok(None));
        }
    }

    #[test]
    fn damaged_packets_are_rejected() {
        // A wrong sum, no digits, a run without a byte, a run or an escape without an end, a short run.
        for damaged in [
            &b"$OK#9b"[..],
            b"$OK#zz",
            b"$* #4a",
            b"$0*#5a",
            b"$}#7d",
            b"$0*\x01#5b",
        ] {
            assert_eq!(
                received(damaged),
                Ok(Some(Received::Damaged)),
                "{damaged:?}"
            );
        }
        assert!(received(b"x").is_err());
        let mut long = b"$".to_vec();
        long.resize(PACKET_MAX + 2, b'0');
        assert!(received(&long).is_err());
        // Runs that expand to more than the limit.
        let data = [&b"0"[..], &b"*~".repeat(2000)].concat();
        let packet = [
            b"$".as_slice(),
            &data,
            format!("#{:02x}", sum(&data)).as_bytes(),
        ]
        .concat();
        assert_eq!(received(&packet), Ok(Some(Received::Damaged)));
    }
}
