//! Sections: what the programs that crashinfo(8) runs report.

use std::io::{self, Write};

use clap::builder::PossibleValuesParser;
use livecore_defs::text::printable;
use livecore_kernel::{Cell, Kernel, Process, SECTIONS, Section};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::json::Hex;

/// The value of `--sections` for all sections.
pub(super) const ALL: &str = "all";

/// The values of `--sections`.
pub(super) fn names() -> PossibleValuesParser {
    let names = SECTIONS.iter().map(|kind| kind.name);
    names.chain([ALL]).collect::<Vec<_>>().into()
}

/// Reads the sections in `asked`, each once, in the order of [`SECTIONS`].
pub(super) fn read(kernel: &Kernel<'_>, list: &[Process], asked: &[String]) -> Vec<SectionFacts> {
    let wanted = |name: &str| asked.iter().any(|asked| asked == ALL || asked == name);
    let kinds = SECTIONS.iter().filter(|kind| wanted(kind.name));
    let sections = kinds.filter_map(|kind| kernel.section(kind.name, list));
    sections.map(SectionFacts).collect()
}

/// A section as JSON and as text.
#[derive(Debug)]
pub(super) struct SectionFacts(Section);

impl Serialize for SectionFacts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rows = self.0.rows.iter().map(|row| Row(self.0.kind.columns, row));
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("name", self.0.kind.name)?;
        map.serialize_entry("title", self.0.kind.title)?;
        map.serialize_entry("rows", &rows.collect::<Vec<_>>())?;
        map.serialize_entry("problems", &self.0.problems)?;
        map.end()
    }
}

/// A row: an object with the columns' names.
struct Row<'a>(&'static [&'static str], &'a [Cell]);

impl Serialize for Row<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (column, cell) in self.0.iter().zip(self.1) {
            match cell {
                Cell::Number(number) => map.serialize_entry(column, number)?,
                Cell::Address(at) => map.serialize_entry(column, &Hex(*at))?,
                Cell::Text(text) => map.serialize_entry(column, text)?,
                Cell::Unknown => map.serialize_entry(column, &None::<u64>)?,
            }
        }
        map.end()
    }
}

impl SectionFacts {
    pub(super) fn section(&self) -> &Section {
        &self.0
    }

    /// Prints the section as a table. Numbers are right-aligned.
    pub(super) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let Section {
            kind,
            rows,
            problems,
        } = &self.0;
        writeln!(out, "\n{} ({}):", kind.title, kind.name)?;
        for problem in problems {
            writeln!(out, "  not found: {}", printable(problem))?;
        }
        if rows.is_empty() {
            return match problems.is_empty() {
                true => writeln!(out, "  none"),
                false => Ok(()),
            };
        }
        if let ["line"] = kind.columns {
            for cell in rows.iter().flatten() {
                writeln!(out, "  {}", printable(&cell.to_string()))?;
            }
            return Ok(());
        }
        let header: Vec<String> = kind
            .columns
            .iter()
            .map(|column| column.to_uppercase())
            .collect();
        let mut widths: Vec<usize> = header.iter().map(String::len).collect();
        let mut numbers = vec![true; header.len()];
        for row in rows {
            for (i, cell) in row.iter().enumerate().take(widths.len()) {
                widths[i] = widths[i].max(shown(cell).chars().count());
                numbers[i] &= !matches!(cell, Cell::Text(_));
            }
        }
        let mut line = |cells: Vec<String>| {
            let last = cells.len().saturating_sub(1);
            for (i, cell) in cells.iter().enumerate() {
                let (width, space) = (widths[i], if i == 0 { "  " } else { " " });
                match (numbers[i], i == last) {
                    (true, _) => write!(out, "{space}{cell:>width$}")?,
                    (false, true) => write!(out, "{space}{cell}")?,
                    (false, false) => write!(out, "{space}{cell:width$}")?,
                }
            }
            writeln!(out)
        };
        line(header)?;
        for row in rows {
            line(row.iter().map(shown).collect())?;
        }
        Ok(())
    }
}

/// A cell without control characters.
fn shown(cell: &Cell) -> String {
    printable(&cell.to_string())
}
