//! Two dumps: their properties, their crashed threads, and the comparison of their pages.

use livecore_verify::compare::{Answer, Comparison};

use super::super::facts::Triage;
use super::tags::{Bounded, escaped, put, table};
use super::{facts, property, threads};

/// The size of the list of differences in bytes.
const LIMIT: usize = 30_000;

/// The section.
pub(super) fn html(triage: &Triage, other: &Triage, found: &Comparison) -> String {
    let mut out = String::new();
    let same = match (&triage.signature, &other.signature) {
        (Some(a), Some(b)) if a.id == b.id => "The crashes have the same signature.",
        (Some(_), Some(_)) => "The crashes have different signatures.",
        _ => "The signature of a crash is not known.",
    };
    put!(out, "<p>{same} ");
    match &found.answer {
        Answer::CouldNot(why) => put!(out, "The dumps were not compared: {}.</p>\n", escaped(why)),
        Answer::Same => out.push_str("The pages of the dumps are the same.</p>\n"),
        Answer::Differ => put!(
            out,
            "Pages: {} are the same, {} differ, {} are only in this dump, {} only in the other.</p>\n",
            found.same,
            found.differ.count,
            found.only_a.count,
            found.only_b.count
        ),
    }
    let mut rows = String::new();
    for ((name, a), (_, b)) in facts(triage).into_iter().zip(facts(other)) {
        let differs = if a == b { "" } else { "differs" };
        let [a, b] = [a, b].map(property);
        put!(
            rows,
            "<tr><th scope=\"row\">{name}</th><td>{a}</td><td>{b}</td><td class=\"warn\">{differs}</td></tr>\n"
        );
    }
    let columns = [
        ("Property", false),
        ("This dump", false),
        ("Other dump", false),
        ("Difference", false),
    ];
    out += &table("Properties of both dumps", &columns, &rows);
    let differences = found.machine.iter().chain(&found.headers);
    let mut rows = Bounded::new(LIMIT);
    for difference in differences {
        let [what, a, b] = [difference.what, &difference.a, &difference.b].map(escaped);
        rows.add(
            &format!("<tr><th scope=\"row\">{what}</th><td>{a}</td><td>{b}</td></tr>\n"),
            1,
        );
    }
    if !rows.html.is_empty() {
        out += &table("Header fields that differ", &columns[..3], &rows.html);
        out += &rows.note("fields");
    }
    let crashed = |triage: &Triage| {
        let thread = triage.cpus.iter().find(|thread| thread.crashed);
        thread.map_or("<p class=\"dim\">unknown</p>".into(), |thread| {
            threads::frames(&thread.frames, triage.digits)
        })
    };
    put!(
        out,
        "<div class=\"cols\"><div><h3>Crashed thread of this dump</h3>\n{}</div>\
         <div><h3>Crashed thread of the other dump</h3>\n{}</div></div>\n",
        crashed(triage),
        crashed(other)
    );
    out
}
