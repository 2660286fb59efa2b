//! The expected verdict in a recipe.
//!
//! ```text
//! # expect: sound
//! # expect: warning exit 3 region msgbuf
//! # expect: broken exit 2 region bitmap
//! # expect: unsupported exit 63
//! # expect: encrypted exit 3
//! # expect: text exit 0
//! ```
//!
//! A second line lists all rules of the verifier that the dump breaks, warnings and errors:
//!
//! ```text
//! # breaks: MD-ALIGNED BM-SIZE
//! ```
//!
//! The exit code defaults to that of the verdict (0, 3, 2, 63). The region is the section or
//! structure that is damaged; without it any region is accepted.

/// The verdict that `verify` must reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Sound,
    /// Usable, with warnings.
    Warning,
    /// Damaged.
    Broken,
    /// Not a dump, or of an unsupported kind.
    Unsupported,
    /// Encrypted: without the private key, only headers and key block are checked.
    Encrypted,
    /// A text dump, without errors.
    Text,
}

/// The expected result of verifying a recipe's dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The verdict.
    pub verdict: Verdict,
    /// The exit code.
    pub exit: u8,
    /// Where the damage is.
    pub region: Option<String>,
    /// Ids of the verifier's rules that the dump breaks, in alphabetical order.
    pub breaks: Vec<String>,
}

/// Reads the `# expect:` line of a recipe; `None` if it is missing or malformed.
#[must_use]
pub fn expectation(recipe: &str) -> Option<Expectation> {
    let line = recipe
        .lines()
        .find_map(|line| line.trim().strip_prefix("# expect:"))?;
    let mut words = line.split_whitespace();
    let (verdict, exit) = match words.next()? {
        "sound" => (Verdict::Sound, 0),
        "warning" => (Verdict::Warning, 3),
        "broken" => (Verdict::Broken, 2),
        "unsupported" => (Verdict::Unsupported, 63),
        "encrypted" => (Verdict::Encrypted, 3),
        "text" => (Verdict::Text, 0),
        _ => return None,
    };
    let breaks = recipe
        .lines()
        .find_map(|line| line.trim().strip_prefix("# breaks:"))
        .unwrap_or_default();
    let mut breaks: Vec<String> = breaks.split_whitespace().map(str::to_owned).collect();
    breaks.sort();
    let mut expectation = Expectation {
        verdict,
        exit,
        region: None,
        breaks,
    };
    while let Some(word) = words.next() {
        match word {
            "exit" => expectation.exit = words.next()?.parse().ok()?,
            "region" => expectation.region = Some(words.next()?.to_owned()),
            _ => return None,
        }
    }
    Some(expectation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_rules_are_read_in_alphabetical_order() {
        let read = |text| expectation(text).map(|e| e.breaks);
        assert_eq!(read("# expect: sound"), Some(Vec::new()));
        let text = "# expect: broken\n# breaks: MD-ALIGNED BM-SIZE\n";
        assert_eq!(
            read(text),
            Some(vec!["BM-SIZE".to_owned(), "MD-ALIGNED".to_owned()])
        );
    }

    #[test]
    fn exit_code_defaults_to_that_of_the_verdict() {
        let read = |text| expectation(text).map(|e| (e.verdict, e.exit, e.region));
        assert_eq!(
            read("# x\n# expect: sound\n"),
            Some((Verdict::Sound, 0, None))
        );
        let region = Some("bitmap".to_owned());
        assert_eq!(
            read("# expect: broken region bitmap"),
            Some((Verdict::Broken, 2, region))
        );
        assert_eq!(
            read("# expect: warning exit 0"),
            Some((Verdict::Warning, 0, None))
        );
        assert_eq!(read("# expect: perhaps"), None);
        assert_eq!(read("# expect: sound regoin x"), None);
    }
}
