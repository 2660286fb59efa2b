//! Normalizes panic messages.

/// The number of bytes of a message that are used. Every kerneldumpheader has at least 175 bytes for
/// the message, so that a header and the kernel's memory give the same signature.
pub(super) const LENGTH: usize = 160;

/// Replaces what differs from crash to crash: numbers and addresses (`N`), quoted text (`'*'`),
/// directories of source files, and white space. The result has printable ASCII characters only.
pub(super) fn normalised(message: &[u8]) -> String {
    let message = &message[..message.len().min(LENGTH)];
    let shown: String = message.iter().copied().map(shown).collect();
    let unquoted = without_quoted(&shown);
    let words: Vec<String> = unquoted.split_ascii_whitespace().map(word).collect();
    words.join(" ")
}

/// A byte as a printable ASCII character or a space.
fn shown(byte: u8) -> char {
    match byte {
        b'!'..=b'~' => char::from(byte),
        b' ' | b'\t' | b'\n' | b'\r' => ' ',
        _ => '?',
    }
}

/// Replaces quoted text with `*`. An apostrophe in or after a word begins no quotation.
fn without_quoted(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['\'', '"', '`']) {
        let (before, quoted) = rest.split_at(at);
        out += before;
        let (open, inner) = quoted.split_at(1);
        let close = if open == "\"" { '"' } else { '\'' };
        let begins = open != "'" || !out.ends_with(|c: char| c.is_ascii_alphanumeric());
        match inner.find(close).filter(|_| begins) {
            Some(end) => {
                out += "'*'";
                rest = &inner[end + 1..];
            }
            None => {
                out += open;
                rest = inner;
            }
        }
    }
    out + rest
}

/// Normalizes a word without white space.
fn word(word: &str) -> String {
    let path = word.trim_start_matches(['(', '[', '<']);
    let is_path = ["/", "./", "../"].iter().any(|p| path.starts_with(p));
    let (before, rest) = match path.rfind('/').filter(|_| is_path) {
        Some(at) => (&word[..word.len() - path.len()], &path[at + 1..]),
        None => ("", word),
    };
    let mut out = before.to_owned();
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = rest;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        out += &numbers(name);
        let end = after.find(is_part).unwrap_or(after.len());
        out += &after[..end];
        rest = &after[end..];
    }
    out
}

/// Replaces a number, or the numbers in a name, with `N`.
fn numbers(name: &str) -> String {
    let is_hex = |digits: &str| digits.bytes().all(|b| b.is_ascii_hexdigit());
    let prefixed = ["0x", "0X"].iter().find_map(|p| name.strip_prefix(p));
    let begins = name.starts_with(|c: char| c.is_ascii_digit());
    let has_digit = name.contains(|c: char| c.is_ascii_digit());
    if prefixed.is_some_and(is_hex) || is_hex(name) && has_digit && (begins || name.len() >= 8) {
        return "N".into();
    }
    let mut out = String::new();
    let mut in_number = false;
    for c in name.chars() {
        match (c.is_ascii_digit(), in_number) {
            (true, false) => out.push('N'),
            (true, true) => {}
            (false, _) => out.push(c),
        }
        in_number = c.is_ascii_digit();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(message: &str) -> String {
        normalised(message.as_bytes())
    }

    /// Messages in the form of FreeBSD's kernel.
    #[test]
    fn numbers_addresses_and_names_do_not_matter() {
        for (message, expected) in [
            ("page fault", "page fault"),
            (
                "vm_fault_lookup: fault on nofault entry, addr: 0xfffffe0045b11c00",
                "vm_fault_lookup: fault on nofault entry, addr: N",
            ),
            (
                "vm_fault failed: ffff0000004a1234 error 1",
                "vm_fault failed: N error N",
            ),
            ("bad pte va 7f00 pte 0", "bad pte va N pte N"),
            (
                "mutex em0 not owned at /usr/local/src/sys/dev/e1000/if_em.c:4321",
                "mutex emN not owned at if_em.c:N",
            ),
            (
                "Lock (sleep mutex) Giant not locked @ ../../../kern/kern_mutex.c:12.",
                "Lock (sleep mutex) Giant not locked @ kern_mutex.c:N.",
            ),
            (
                "I/O to pool 'tank' appears to be hung on vdev guid 123 at '/dev/da0'",
                "I/O to pool '*' appears to be hung on vdev guid N at '*'",
            ),
            ("VERIFY3(0 == 0x5)\tfailed\n", "VERIFYN(N == N) failed"),
            ("can't find `root' (\"ufs:/dev/x\")", "can't find '*' ('*')"),
            ("the vnodes' lock isn't held", "the vnodes' lock isn't held"),
            (
                "bad effaced 64-bit ext2fs word deadc0de",
                "bad effaced N-bit extNfs word N",
            ),
        ] {
            assert_eq!(of(message), expected);
        }
    }

    #[test]
    fn hostile_bytes_and_long_messages_are_bounded() {
        assert_eq!(normalised(b"a\x1b[2J\xff\0b"), "a?[NJ??b");
        assert_eq!(normalised(&[b'x'; 5000]).len(), LENGTH);
        assert_eq!(of("'"), "'");
        assert_eq!(of("\"a"), "\"a");
        assert_eq!(of("/"), "");
    }

    #[test]
    fn a_message_cut_by_the_header_is_the_same() {
        let long = format!("{} {}", "w".repeat(155), "123456789");
        assert_eq!(of(&long), of(&long[..165]));
    }
}
