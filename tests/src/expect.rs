//! The verdict a recipe announces for itself.
//!
//! ```text
//! # expect: sound
//! # expect: warning exit 3 region msgbuf
//! # expect: broken exit 2 region bitmap
//! # expect: unsupported exit 63
//! ```
//!
//! A further line names the verifier's rules that the dump breaks, warnings and errors,
//! and no others:
//!
//! ```text
//! # breaks: MD-ALIGNED BM-SIZE
//! ```
//!
//! The exit code follows from the verdict (0, 3, 2, 63) when it is left out. The
//! region is the section or structure where the damage is; it is left out where any
//! answer is right.

/// What an examiner of the dump must conclude.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Sound,
    /// Usable, with something to say.
    Warning,
    /// Damaged.
    Broken,
    /// Not a dump, or not one that can be read.
    Unsupported,
}

/// A recipe's announcement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The conclusion.
    pub verdict: Verdict,
    /// The exit code of a program that says so.
    pub exit: u8,
    /// Where the damage is.
    pub region: Option<String>,
    /// Ids of the verifier's rules that the dump breaks, in alphabetical order.
    pub breaks: Vec<String>,
}

/// Reads the `# expect:` line of a recipe; `None` without one or with a wrong one.
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
    fn rules_are_listed_on_a_line_of_their_own() {
        let read = |text| expectation(text).map(|e| e.breaks);
        assert_eq!(read("# expect: sound"), Some(Vec::new()));
        let text = "# expect: broken\n# breaks: MD-ALIGNED BM-SIZE\n";
        assert_eq!(
            read(text),
            Some(vec!["BM-SIZE".to_owned(), "MD-ALIGNED".to_owned()])
        );
    }

    #[test]
    fn a_verdict_brings_its_exit_code() {
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
