//! The pages of section 5, from the Markdown that the documentation contains.
//!
//! The subset: headings, paragraphs, points, code blocks, tables.

use super::inline::{self, Mark, Piece};
use super::mdoc::{Mdoc, code, marked, plain};

/// Writes the text of a page of the documentation. Its title and `skipped` sections are left out; a
/// section `Examples` comes last.
pub(crate) fn write(page: &mut Mdoc, text: &str, skipped: &[&str]) {
    let mut sections = text.split("\n## ");
    if let Some(introduction) = sections.next() {
        page.section("DESCRIPTION");
        blocks(page, &lines(introduction));
    }
    let mut examples = None;
    for section in sections {
        let (title, body) = section.split_once('\n').unwrap_or((section, ""));
        if title == "Examples" {
            examples = Some(body);
        } else if !skipped.contains(&title) {
            page.section(&title.to_uppercase());
            blocks(page, &lines(body));
        }
    }
    if let Some(body) = examples {
        page.section("EXAMPLES");
        blocks(page, &lines(body));
    }
}

fn lines(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| !line.starts_with("# "))
        .collect()
}

/// Writes blocks: each starts with a line that shows its kind.
fn blocks(page: &mut Mdoc, mut lines: &[&str]) {
    while let Some((first, rest)) = lines.split_first() {
        if first.is_empty() {
            lines = rest;
            continue;
        }
        if let Some(title) = first.strip_prefix("### ") {
            page.subsection(title);
            lines = rest;
            continue;
        }
        if first.starts_with("```") {
            let end = rest
                .iter()
                .position(|line| line.starts_with("```"))
                .unwrap_or(rest.len());
            page.literal(rest[..end].iter().copied());
            lines = rest.get(end + 1..).unwrap_or_default();
            continue;
        }
        let length = match () {
            () if first.starts_with('|') => lines
                .iter()
                .take_while(|line| line.starts_with('|'))
                .count(),
            () if first.starts_with("* ") => points_length(lines),
            () => 1 + rest.iter().take_while(|line| !starts_block(line)).count(),
        };
        let (block, after) = lines.split_at(length);
        match () {
            () if first.starts_with('|') => table(page, block),
            () if first.starts_with("* ") => points(page, block),
            () => page.prose(&inline::markdown(&block.join(" "))),
        }
        lines = after;
    }
}

fn starts_block(line: &str) -> bool {
    line.is_empty()
        || ["|", "* ", "```", "#"]
            .iter()
            .any(|start| line.starts_with(start))
}

/// The number of lines of a list: points, and what is indented below them.
fn points_length(lines: &[&str]) -> usize {
    let belongs =
        |line: &&&str| line.is_empty() || line.starts_with("* ") || line.starts_with("  ");
    lines.iter().take_while(belongs).count()
}

fn points(page: &mut Mdoc, lines: &[&str]) {
    page.paragraph();
    page.begin_points();
    let mut point: Vec<&str> = Vec::new();
    let mut write = |point: &mut Vec<&str>| {
        if !point.is_empty() {
            page.item("");
            blocks(page, &std::mem::take(point));
        }
    };
    for line in lines {
        if let Some(text) = line.strip_prefix("* ") {
            write(&mut point);
            point.push(text);
        } else {
            point.push(line.strip_prefix("  ").unwrap_or(line));
        }
    }
    write(&mut point);
    page.end_list();
}

/// The cells of a row.
fn cells(row: &str) -> Vec<String> {
    let row = row.trim().trim_start_matches('|').trim_end_matches('|');
    let row = row.replace("\\|", "\u{0}");
    row.split('|')
        .map(|cell| cell.trim().replace('\u{0}', "|"))
        .collect()
}

/// A table. Two columns, or three with a default value in the second, become a list of terms. In
/// such a list, a row with a first cell only is a heading.
fn table(page: &mut Mdoc, lines: &[&str]) {
    let rows: Vec<_> = lines.iter().map(|line| cells(line)).collect();
    let is_rule = |row: &&Vec<String>| {
        row.iter()
            .all(|cell| cell.trim_matches(['-', ':']).is_empty())
    };
    let header = rows.first().cloned().unwrap_or_default();
    let body: Vec<_> = rows.iter().skip(1).filter(|row| !is_rule(row)).collect();
    match &header[..] {
        [_, _] => terms(page, &header, &body, None),
        [_, default, _] if default == "default" => terms(page, &header, &body, Some("default")),
        _ => columns(page, &header, &body),
    }
}

fn terms(page: &mut Mdoc, header: &[String], body: &[&Vec<String>], default: Option<&str>) {
    let begin = |page: &mut Mdoc| {
        page.paragraph();
        page.raw(".Bl -tag -width \"000..000\" -compact");
    };
    let mut is_open = false;
    if default.is_none() && header.iter().any(|cell| !cell.is_empty()) {
        begin(page);
        is_open = true;
        page.item(&item(&format!("*{}*", header[0])));
        page.prose(&[Piece::Mark(Mark::Emphasis, header[1].clone())]);
    }
    for row in body {
        let text = |index: usize| row.get(index).map_or("", String::as_str);
        if row.iter().skip(2).all(String::is_empty) && text(0).starts_with("**") {
            if std::mem::take(&mut is_open) {
                page.end_list();
            }
            let note = match text(1) {
                "" => String::new(),
                default => format!(" [default: {default}]"),
            };
            page.prose(&inline::markdown(&format!("{}{note}", text(0))));
            continue;
        }
        if !is_open {
            begin(page);
            is_open = true;
        }
        page.item(&item(text(0)));
        let explanation = match default {
            None => text(1).to_owned(),
            Some(_) if matches!(text(1), "" | "none") => text(2).to_owned(),
            Some(word) => format!("{} [{word}: {}]", text(2), text(1))
                .trim()
                .to_owned(),
        };
        page.prose(&inline::markdown(&explanation));
    }
    if is_open {
        page.end_list();
    }
}

/// The term of an item: a line of macros.
fn item(text: &str) -> String {
    let pieces = inline::markdown(text);
    let terms: Vec<String> = pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Mark(Mark::Code, text) => Some(marked(Mark::Keyword, text)),
            Piece::Mark(mark, text) => Some(marked(*mark, text)),
            Piece::Text(text) if text == "," => Some(text.clone()),
            Piece::Text(text) => Some(format!("No {}", plain(text))),
            Piece::Space => None,
        })
        .collect();
    terms.join(" ")
}

/// A table for tbl(1), without macros in its cells. The columns with long cells share the width.
fn columns(page: &mut Mdoc, header: &[String], body: &[&Vec<String>]) {
    const LONG: usize = 20;
    let rows = || std::iter::once(header).chain(body.iter().map(|row| &row[..]));
    let is_long = |column: usize| {
        let mut cells = rows().filter_map(|row| row.get(column));
        cells.any(|cell| cell.chars().count() > LONG)
    };
    let formats = |font: &str| {
        let columns = (0..header.len()).map(|column| match is_long(column) {
            true => format!("l{font}x"),
            false => format!("l{font}"),
        });
        columns.collect::<Vec<_>>().join(" ")
    };
    page.paragraph();
    page.raw(".TS");
    page.raw(&formats("i"));
    page.raw(&format!("{}.", formats("")));
    for row in rows() {
        let cells = row
            .iter()
            .enumerate()
            .map(|(column, cell)| match is_long(column) {
                true => format!("T{{\n{}\nT}}", cell_text(cell)),
                false => cell_text(cell),
            });
        page.raw(&cells.collect::<Vec<_>>().join("\t"));
    }
    page.raw(".TE");
}

fn cell_text(cell: &str) -> String {
    let text: String = inline::markdown(cell)
        .iter()
        .map(|piece| match piece {
            Piece::Space => " ".to_owned(),
            Piece::Text(text) => plain(text),
            Piece::Mark(Mark::Emphasis, text) => format!("\\fI{}\\fR", plain(text)),
            Piece::Mark(_, text) => format!("\\fB{}\\fR", code(text)),
        })
        .collect();
    match text.is_empty() {
        true => "\\&".to_owned(),
        false => text,
    }
}
