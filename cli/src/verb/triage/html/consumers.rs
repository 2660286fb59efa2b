//! Memory by the state of its pages, as a bar and a table, and the largest consumers.

use livecore_kernel::{Cell, Section};

use super::tags::{escaped, put, table};
use crate::text::Short;

/// The states of pages in the bar, with their colors. The others of the section are consumers.
const STATES: [(&str, &str, &str); 6] = [
    ("wired", "c1", "Wired"),
    ("active", "c2", "Active queue"),
    ("inactive", "c4", "Inactive queue"),
    ("laundry", "c5", "Laundry queue"),
    ("unswappable", "c6", "Unswappable queue"),
    ("free", "c3", "Free"),
];

/// A row of the section: its name, bytes and pages.
fn numbers(row: &[Cell]) -> Option<(String, u64, Option<u64>)> {
    let [name, Cell::Number(bytes), pages] = row else {
        return None;
    };
    let pages = match pages {
        Cell::Number(pages) => Some(*pages),
        _ => None,
    };
    Some((name.to_string(), *bytes, pages))
}

/// The section for the rows of `memory`; `None` if the kernel does not show the states of pages.
pub(super) fn html(section: &Section) -> Option<String> {
    let rows: Vec<_> = section.rows.iter().filter_map(|row| numbers(row)).collect();
    let of = |wanted: &str| rows.iter().find(|(name, ..)| name == wanted);
    let (_, total, total_pages) = of("total").filter(|(_, total, _)| *total > 0)?;
    let mut parts = Vec::new();
    let (mut bytes_left, mut pages_left) = (*total, total_pages.unwrap_or(0));
    for (name, color, title) in STATES {
        let Some((_, bytes, pages)) = of(name) else {
            continue;
        };
        // The counts of a running or damaged kernel can exceed the total.
        let (bytes, pages) = ((*bytes).min(bytes_left), pages.unwrap_or(0).min(pages_left));
        bytes_left -= bytes;
        pages_left -= pages;
        parts.push((color, title, bytes, pages));
    }
    parts.push(("c7", "In no queue", bytes_left, pages_left));
    let share = |bytes: u64| format!("{:.1}", bytes as f64 * 100.0 / *total as f64);
    let mut label = String::from("Memory by the state of its pages.");
    for (_, title, bytes, _) in &parts {
        put!(label, " {title}: {} %.", share(*bytes));
    }
    let mut out = format!(
        "<svg viewBox=\"0 0 960 40\" shape-rendering=\"crispEdges\" role=\"img\" aria-label=\"{label}\">\n"
    );
    let mut x = 0.0;
    for (color, _, bytes, _) in parts.iter().filter(|(_, _, bytes, _)| *bytes > 0) {
        let width = 960.0 * *bytes as f64 / *total as f64;
        put!(
            out,
            "<rect class=\"{color}\" x=\"{x:.1}\" y=\"0\" width=\"{width:.1}\" height=\"40\"/>"
        );
        x += width;
    }
    out.push_str("</svg>\n");
    let mut body = String::new();
    for (color, title, bytes, pages) in &parts {
        put!(
            body,
            "<tr><th scope=\"row\"><svg class=\"swatch\" viewBox=\"0 0 10 10\" aria-hidden=\"true\">\
             <rect class=\"{color}\" width=\"10\" height=\"10\"/></svg> {title}</th>\
             <td class=\"n\">{pages}</td><td class=\"n\">{}</td><td class=\"n\">{} %</td></tr>\n",
            Short(*bytes),
            share(*bytes)
        );
    }
    let columns = [
        ("State", false),
        ("Pages", true),
        ("Size", true),
        ("Share", true),
    ];
    out += &table("Pages by state", &columns, &body);
    let mut body = String::new();
    for (name, bytes, pages) in &rows {
        if pages.is_some() {
            continue;
        }
        let kind = match name.split_once(' ') {
            Some(("zone", name)) => ("uma(9) zone", name),
            Some(("malloc", name)) => ("malloc(9) type", name),
            _ => continue,
        };
        put!(
            body,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{} %</td></tr>\n",
            escaped(kind.1),
            kind.0,
            Short(*bytes),
            share(*bytes)
        );
    }
    if !body.is_empty() {
        let columns = [
            ("Consumer", false),
            ("Kind", false),
            ("Size", true),
            ("Share", true),
        ];
        out += &table("The largest consumers", &columns, &body);
    }
    Some(out)
}
