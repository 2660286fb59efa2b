//! A writer of mdoc(7), the language of FreeBSD's manual pages.
//!
//! [`Mdoc`] is independent of the content: it escapes text, starts each sentence on a new line as
//! mandoc(1) recommends, and writes marked words as macros. Sources: mdoc(7), roff(7), mandoc_char(7).

use super::inline::{CLOSING, Mark, Piece, words};

/// The text of a page so far.
#[derive(Debug, Default)]
pub(crate) struct Mdoc {
    text: String,
    /// The text line that is being filled.
    line: String,
    /// Whether the next paragraph follows a heading, or starts an item or the page.
    fresh: bool,
}

/// The width at which text lines of the source are broken.
const WIDTH: usize = 78;

impl Mdoc {
    /// The finished page.
    pub(crate) fn finish(mut self) -> String {
        self.flush();
        self.text
    }

    /// A macro with arguments that are escaped.
    pub(crate) fn line(&mut self, name: &str, arguments: &[&str]) {
        self.flush();
        self.text.push('.');
        self.text.push_str(name);
        for argument in arguments {
            self.text.push(' ');
            self.text.push_str(&code_argument(argument));
        }
        self.text.push('\n');
    }

    /// A line as it is.
    pub(crate) fn raw(&mut self, line: &str) {
        self.flush();
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// A section.
    pub(crate) fn section(&mut self, title: &str) {
        self.line("Sh", &title.split(' ').collect::<Vec<_>>());
        self.fresh = true;
    }

    /// A subsection.
    pub(crate) fn subsection(&mut self, title: &str) {
        self.line("Ss", &title.split(' ').collect::<Vec<_>>());
        self.fresh = true;
    }

    /// Starts a list of terms with explanations. A wide term is on a line of its own.
    pub(crate) fn begin_terms(&mut self, width: &str) {
        self.raw(&format!(".Bl -tag -width {width}"));
    }

    /// Starts a list of points.
    pub(crate) fn begin_points(&mut self) {
        self.raw(".Bl -bullet -compact");
    }

    /// Starts an item with a term, written with macros, or with nothing.
    pub(crate) fn item(&mut self, term: &str) {
        self.raw(format!(".It {term}").trim_end());
        self.fresh = true;
    }

    /// Ends a list.
    pub(crate) fn end_list(&mut self) {
        self.raw(".El");
        self.fresh = false;
    }

    /// The start of a paragraph.
    pub(crate) fn paragraph(&mut self) {
        self.flush();
        if !std::mem::take(&mut self.fresh) {
            self.raw(".Pp");
        }
    }

    /// A paragraph of `pieces`.
    pub(crate) fn prose(&mut self, pieces: &[Piece]) {
        self.paragraph();
        self.fill(pieces);
    }

    /// Lines that are not filled.
    pub(crate) fn literal<'a>(&mut self, lines: impl IntoIterator<Item = &'a str>) {
        self.raw(".Bd -literal -offset indent");
        for line in lines {
            let escaped = code(line);
            self.raw(&guarded(&escaped));
        }
        self.raw(".Ed");
        self.fresh = false;
    }

    /// Adds `pieces` to the current paragraph.
    pub(crate) fn fill(&mut self, pieces: &[Piece]) {
        for word in words(pieces) {
            match &word[..] {
                [Piece::Text(text)] => self.word(text),
                _ => {
                    let line = macro_line(&word);
                    self.raw(&format!(".{line}"));
                }
            }
        }
        self.flush();
    }

    /// Adds a word to the text line. The end of a sentence ends the line.
    fn word(&mut self, word: &str) {
        let word = plain(word);
        if !self.line.is_empty() {
            if self.line.len() + 1 + word.len() > WIDTH {
                self.flush();
            } else {
                self.line.push(' ');
            }
        }
        if self.line.is_empty() {
            self.line = guarded(&word);
        } else {
            self.line.push_str(&word);
        }
        if word
            .trim_end_matches([')', '"', ']'])
            .ends_with(['.', '?', '!'])
        {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.line.is_empty() {
            self.text.push_str(&self.line);
            self.text.push('\n');
            self.line.clear();
        }
    }
}

/// A word with marks as one line of macros, without the leading dot.
fn macro_line(word: &[Piece]) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (index, piece) in word.iter().enumerate() {
        let is_last = index + 1 == word.len();
        match piece {
            Piece::Space => {}
            Piece::Mark(mark, text) => {
                if index > 0 {
                    parts.push("Ns".into());
                }
                // `Ql` encloses the rest of its line.
                let is_end = word[index + 1..].iter().all(is_closing);
                parts.push(match mark {
                    Mark::Code if !is_end => format!("So {} Sc", code_argument(text)),
                    _ => marked(*mark, text),
                });
            }
            Piece::Text(text) => {
                // Delimiters need no macro: they attach to the macro before them.
                let rest = match is_last {
                    true => text.trim_end_matches(CLOSING),
                    false => text,
                };
                if !rest.is_empty() {
                    if index > 0 {
                        parts.push("Ns".into());
                    }
                    parts.push("No".into());
                    parts.push(argument(&plain(rest)));
                }
                parts.extend(text[rest.len()..].chars().map(String::from));
            }
        }
    }
    parts.join(" ")
}

/// Whether a piece needs no macro at the end of a line.
fn is_closing(piece: &Piece) -> bool {
    matches!(piece, Piece::Text(text) if text.trim_end_matches(CLOSING).is_empty())
}

/// A macro with its argument.
pub(crate) fn marked(mark: Mark, text: &str) -> String {
    match mark {
        Mark::Page => {
            let (name, section) = text.split_once('(').unwrap_or((text, "1)"));
            format!("Xr {name} {}", section.trim_end_matches(')'))
        }
        Mark::Option => match text.strip_prefix('-') {
            Some(option) => format!("Fl {}", code_argument(option)),
            None => code_argument(text),
        },
        Mark::Keyword => format!("Cm {}", code_argument(text)),
        Mark::Code => format!("Ql {}", code_argument(text)),
        Mark::Path => format!("Pa {}", code_argument(text)),
        Mark::Variable => format!("Ev {}", code_argument(text)),
        Mark::FreeBsd => "Fx".to_owned(),
        Mark::Value => format!("Ar {}", code_argument(text)),
        Mark::Emphasis => format!("Em {}", argument(&plain(text))),
        Mark::Strong => format!("Sy {}", argument(&plain(text))),
    }
}

/// Escapes text of a sentence.
pub(crate) fn plain(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\e"),
            ' '..='~' => escaped.push(c),
            c => escaped.push_str(&format!("\\[u{:04X}]", u32::from(c))),
        }
    }
    escaped
}

/// Escapes text that people type or copy: roff otherwise replaces these characters by typographic
/// ones.
pub(crate) fn code(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '-' => escaped.push_str("\\-"),
            '\'' => escaped.push_str("\\(aq"),
            '`' => escaped.push_str("\\(ga"),
            '~' => escaped.push_str("\\(ti"),
            '^' => escaped.push_str("\\(ha"),
            c => escaped.push_str(&plain(c.encode_utf8(&mut [0; 4]))),
        }
    }
    escaped
}

fn code_argument(text: &str) -> String {
    argument(&code(text))
}

/// An escaped text as one argument of a macro: quoted if needed, and not a macro itself.
fn argument(escaped: &str) -> String {
    let is_macro = (2..=3).contains(&escaped.len())
        && escaped.starts_with(|c: char| c.is_ascii_uppercase())
        && escaped.bytes().skip(1).all(|b| b.is_ascii_lowercase());
    let is_delimiter = escaped.len() == 1 && !escaped.starts_with(char::is_alphanumeric);
    let escaped = escaped.replace('"', "\\(dq");
    if escaped.is_empty() || escaped.contains(' ') {
        format!("\"{escaped}\"")
    } else if is_macro || is_delimiter {
        format!("\\&{escaped}")
    } else {
        escaped
    }
}

/// Keeps a text line from being read as a macro.
fn guarded(line: &str) -> String {
    match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::inline;
    use super::*;

    fn filled(text: &str) -> String {
        let mut page = Mdoc::default();
        page.fill(&inline::help(text));
        page.finish()
    }

    #[test]
    fn sentences_start_on_new_lines() {
        assert_eq!(
            filled("One. Two (three.) Four"),
            "One.\nTwo (three.)\nFour\n"
        );
    }

    #[test]
    fn marked_words_are_macros_and_keep_their_punctuation() {
        for (text, expected) in [
            ("see savecore(8).", "see\n.Xr savecore 8 .\n"),
            ("(`a b`), c", ".No \\&( Ns Ql \"a b\" ) ,\nc\n"),
            ("--keep N", ".Fl \\-keep\nN\n"),
            ("`x`s", ".So x Sc Ns No s\n"),
            ("in /var/crash", "in\n.Pa /var/crash\n"),
            ("LIVECORE_KEY is", ".Ev LIVECORE_KEY\nis\n"),
            ("`No` and `.`", ".Ql \\&No\nand\n.Ql \\&.\n"),
        ] {
            assert_eq!(filled(text), expected, "{text}");
        }
    }

    #[test]
    fn text_is_never_read_as_roff() {
        assert_eq!(filled(".Sh x"), "\\&.Sh x\n");
        assert_eq!(filled("'x \\n"), "\\&'x \\en\n");
        assert_eq!(filled("`a\"b'-`"), ".Ql a\\(dqb\\(aq\\-\n");
        assert_eq!(filled("2 × 3"), "2 \\[u00D7] 3\n");
    }
}
