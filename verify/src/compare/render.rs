//! A comparison as text and as JSON.

use std::io::{self, Write};
use std::ops::Range;

use serde_json::{Value, json};

use super::{Answer, Comparison, Difference, Pages};
use crate::finding::printable;
use crate::input::{count, hex};
use crate::render::Style;

impl Comparison {
    /// The comparison as JSON, as in `docs/schemas/compare.schema.json`.
    pub fn value(&self) -> Value {
        let sections: Vec<_> = self
            .sections
            .iter()
            .map(|s| {
                json!({
                    "section": s.what,
                    "offset": s.offset,
                    "a": digits(&s.a),
                    "b": digits(&s.b),
                    "pages": s.pages,
                    "meaning": s.meaning,
                })
            })
            .collect();
        let shown: Vec<_> = self
            .pages
            .iter()
            .map(|page| {
                json!({
                    "pa": format!("{:#x}", page.pa),
                    "offset": page.offset,
                    "a": digits(&page.a),
                    "b": digits(&page.b),
                    "direct": page.direct.map(|at| format!("{at:#x}")),
                    "symbol": page.symbol,
                })
            })
            .collect();
        let why = match &self.answer {
            Answer::CouldNot(why) => Some(why),
            _ => None,
        };
        json!({
            "schema": crate::render::SCHEMA,
            "a": self.a.name,
            "b": self.b.name,
            "answer": self.answer.name(),
            "reason": why,
            "exit_code": self.answer.exit_code(),
            "pages_same": self.same,
            "pages_differ": ranges(&self.differ),
            "pages_only_a": ranges(&self.only_a),
            "pages_only_b": ranges(&self.only_b),
            "differences": shown,
            "sections": sections,
            "machine": differences(&self.machine),
            "headers": differences(&self.headers),
        })
    }

    /// Writes the comparison as text.
    ///
    /// # Errors
    ///
    /// The error of `out`.
    pub fn write_text(&self, style: Style, out: &mut dyn Write) -> io::Result<()> {
        let (a, b) = (&printable(&self.a.name), &printable(&self.b.name));
        match &self.answer {
            Answer::Same => {
                let word = style.painted("the same", "32");
                writeln!(out, "{a} and {b} are {word}: {}", count(self.same, "page"))?;
            }
            Answer::Differ => {
                let word = style.painted("differ", "31");
                let (same, differ) = (self.same, self.differ.count);
                let only = self.only_a.count + self.only_b.count;
                writeln!(
                    out,
                    "{a} and {b} {word}: {same} pages are the same, {differ} differ, {only} are \
                     in one dump only"
                )?;
            }
            Answer::CouldNot(why) => {
                let why = printable(why);
                let word = style.painted("cannot be compared", "31");
                return writeln!(out, "{a} and {b} {word}: {why}");
            }
        }
        for difference in &self.machine {
            writeln!(
                out,
                "  {}: {} in the first, {} in the second",
                difference.what, difference.a, difference.b
            )?;
        }
        for s in &self.sections {
            let meaning = s.meaning.as_ref().map(|m| format!(" ({m})"));
            writeln!(
                out,
                "  {}: {} {}, first at offset {:#x}{}",
                s.what,
                count(s.pages, "page"),
                if s.pages == 1 { "differs" } else { "differ" },
                s.offset,
                meaning.unwrap_or_default()
            )?;
            bytes(out, style, &s.a, &s.b)?;
        }
        for (name, pages) in [(a, &self.only_a), (b, &self.only_b)] {
            if pages.count > 0 {
                writeln!(out, "  only in {name}: {}", count(pages.count, "page"))?;
                list(out, pages)?;
            }
        }
        for page in &self.pages {
            let direct = page.direct.map(|at| format!(", direct map {at:#x}"));
            let symbol = page.symbol.as_ref().map(|s| format!(", kernel {s}"));
            writeln!(
                out,
                "  page {:#x} differs at {:#x}{}{}",
                page.pa,
                page.offset,
                direct.unwrap_or_default(),
                symbol.unwrap_or_default()
            )?;
            bytes(out, style, &page.a, &page.b)?;
        }
        let more = self.differ.count - self.pages.len() as u64;
        if more > 0 {
            let more = count(more, "page");
            if self.differ.ranges.is_empty() {
                writeln!(out, "  {more} not shown")?;
            } else {
                writeln!(out, "  {more} not shown; all pages that differ:")?;
                list(out, &self.differ)?;
            }
        }
        for d in &self.headers {
            writeln!(
                out,
                "  header {}: \"{}\" in the first, \"{}\" in the second",
                d.what, d.a, d.b
            )?;
        }
        Ok(())
    }
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn ranges(pages: &Pages) -> Value {
    let ranges: Vec<_> = pages
        .ranges
        .iter()
        .map(|Range { start, end }| json!({ "start": start.to_string(), "end": end.to_string() }))
        .collect();
    json!({ "count": pages.count, "shown": pages.shown, "ranges": ranges })
}

fn differences(list: &[Difference]) -> Vec<Value> {
    list.iter()
        .map(|d| json!({ "what": d.what, "a": d.a, "b": d.b }))
        .collect()
}

fn list(out: &mut dyn Write, pages: &Pages) -> io::Result<()> {
    for Range { start, end } in &pages.ranges {
        writeln!(out, "    {start:#x}..{end:#x}")?;
    }
    let more = pages.count - pages.shown;
    if more > 0 && !pages.ranges.is_empty() {
        writeln!(out, "    and {more} more")?;
    }
    Ok(())
}

/// Writes the bytes of both dumps, with differences in colour.
fn bytes(out: &mut dyn Write, style: Style, a: &[u8], b: &[u8]) -> io::Result<()> {
    for (label, own, other) in [("first ", a, b), ("second", b, a)] {
        let words: Vec<_> = own
            .iter()
            .enumerate()
            .map(|(i, byte)| {
                let word = hex(&[*byte]);
                match other.get(i) == Some(byte) {
                    true => word,
                    false => style.painted(&word, "33"),
                }
            })
            .collect();
        let line = match own.is_empty() {
            true => "(no such page)".to_string(),
            false => words.join(" "),
        };
        writeln!(out, "    {label}  {line}")?;
    }
    Ok(())
}
