//! Words with a meaning in help texts and Markdown: options, paths, variables, other manual pages.

use super::facts;

/// The delimiters that a macro of mdoc(7) accepts after its arguments.
pub(crate) const CLOSING: [char; 8] = ['.', ',', ':', ';', ')', ']', '?', '!'];

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text without white space.
    Text(String),
    /// Text with a meaning.
    Mark(Mark, String),
    /// White space.
    Space,
}

/// The meaning of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// `savecore(8)`
    Page,
    /// `--kernel`
    Option,
    /// A command, or anything else between backquotes.
    Code,
    /// A word of a list of keywords.
    Keyword,
    /// `/var/crash`
    Path,
    /// `LIVECORE_KEY`
    Variable,
    /// A value that the user chooses.
    Value,
    /// `FreeBSD`, which has a macro of its own.
    FreeBsd,
    /// `*text*`
    Emphasis,
    /// `**text**`
    Strong,
}

/// The pieces of a help text.
pub(crate) fn help(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (index, part) in text.split('`').enumerate() {
        match index % 2 {
            0 => classified(part, &mut pieces),
            _ => pieces.push(Piece::Mark(Mark::Code, part.to_owned())),
        }
    }
    pieces
}

/// The pieces of a text in Markdown: code, emphasis, links.
pub(crate) fn markdown(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['`', '*', '[']) {
        classified(&rest[..at], &mut pieces);
        let found = &rest[at..];
        let end = |open: &str, close: &str| {
            let inner = found.strip_prefix(open)?;
            Some((&inner[..inner.find(close)?], open.len() + close.len()))
        };
        rest = if let Some((code, marks)) = end("`", "`") {
            pieces.push(Piece::Mark(Mark::Code, code.to_owned()));
            &found[code.len() + marks..]
        } else if let Some((strong, marks)) = end("**", "**") {
            let name = strong.trim_end_matches(CLOSING);
            pieces.push(Piece::Mark(Mark::Strong, name.replace('`', "")));
            if name != strong {
                pieces.push(Piece::Text(strong[name.len()..].to_owned()));
            }
            &found[strong.len() + marks..]
        } else if let Some((emphasis, marks)) = end("*", "*") {
            pieces.push(Piece::Mark(Mark::Emphasis, emphasis.to_owned()));
            &found[emphasis.len() + marks..]
        } else if let Some((link, target, length)) = link(found) {
            match target.split('#').next() {
                Some(page) if page.ends_with(".md") => {
                    classified(&format!("docs/{page}"), &mut pieces)
                }
                _ => pieces.extend(markdown(link)),
            }
            &found[length..]
        } else {
            // The character has no special meaning here.
            let (alone, after) = found.split_at(1);
            pieces.push(Piece::Text(alone.to_owned()));
            after
        };
    }
    classified(rest, &mut pieces);
    pieces
}

/// The text, the target and the length of a link at the start of `text`.
fn link(text: &str) -> Option<(&str, &str, usize)> {
    let close = text.find("](")?;
    let inner = text.get(1..close)?;
    let end = close + text[close..].find(')')?;
    let is_nested = inner.contains(['[', ']']);
    (!is_nested).then(|| (inner, &text[close + 2..end], end + 1))
}

/// Pieces grouped by the white space between them.
pub(crate) fn words(pieces: &[Piece]) -> Vec<Vec<Piece>> {
    let mut words: Vec<Vec<Piece>> = vec![Vec::new()];
    for piece in pieces {
        let Some(word) = words.last_mut() else {
            break;
        };
        match (piece, word.last_mut()) {
            (Piece::Space, _) => words.push(Vec::new()),
            (Piece::Text(more), Some(Piece::Text(text))) => text.push_str(more),
            _ => word.push(piece.clone()),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Appends the words of a text without marks.
fn classified(text: &str, pieces: &mut Vec<Piece>) {
    for (index, word) in text.split(char::is_whitespace).enumerate() {
        if index > 0 {
            pieces.push(Piece::Space);
        }
        let start = word.len() - word.trim_start_matches(['(', '[']).len();
        let (before, core) = word.split_at(start);
        let mut end = core.len();
        while let Some(last) = core[..end]
            .chars()
            .next_back()
            .filter(|c| CLOSING.contains(c))
        {
            let open = core[..end].matches('(').count();
            if last == ')' && open >= core[..end].matches(')').count() {
                break;
            }
            end -= last.len_utf8();
        }
        let (core, after) = core.split_at(end);
        if let Some(rest) = core.strip_prefix("FreeBSD") {
            let texts =
                [before, &format!("{rest}{after}")].map(|text| Piece::Text(text.to_owned()));
            let [before, after] = texts;
            let system = Piece::Mark(Mark::FreeBsd, "FreeBSD".to_owned());
            let all = [before, system, after].into_iter();
            pieces.extend(all.filter(|piece| *piece != Piece::Text(String::new())));
            continue;
        }
        let Some((mark, core)) = meaning(core) else {
            if !word.is_empty() {
                pieces.push(Piece::Text(word.to_owned()));
            }
            continue;
        };
        let texts =
            [before, after].map(|text| (!text.is_empty()).then(|| Piece::Text(text.into())));
        let [before, after] = texts;
        pieces.extend(before);
        pieces.push(Piece::Mark(mark, core));
        pieces.extend(after);
    }
}

/// The meaning of a word.
fn meaning(word: &str) -> Option<(Mark, String)> {
    if let Some(page) = facts::page_of(word) {
        return Some((Mark::Page, page.to_owned()));
    }
    let is_name = |name: &str| {
        let mut bytes = name.bytes();
        bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
            && bytes.all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let mark = match word.as_bytes() {
        [name @ .., b'(', b'1'..=b'9', b')'] if is_name(std::str::from_utf8(name).ok()?) => {
            Mark::Page
        }
        [b'-', b'-'] => Mark::Option,
        [b'-', letter] if letter.is_ascii_alphabetic() => Mark::Option,
        [b'-', b'-', first, ..] if first.is_ascii_alphabetic() => Mark::Option,
        [b'/', first, ..] if first.is_ascii_alphabetic() => Mark::Path,
        _ if word.starts_with("docs/") => Mark::Path,
        _ if facts::is_variable(word) => Mark::Variable,
        _ => return None,
    };
    Some((mark, word.to_owned()))
}
