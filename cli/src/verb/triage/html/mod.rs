//! `livecore triage --html`: the report as one HTML file, without links to other files.
//!
//! A content security policy in the file permits its own script and style sheet by their digests, and
//! nothing else. Without the script, the page has everything but the filter of threads.

mod compared;
mod consumers;
mod findings;
mod locks;
mod make;
mod memory;
mod tags;
mod threads;

use livecore_verify::Report;
use livecore_verify::compare::Comparison;

use super::facts::Triage;
use super::text::uptime;
use crate::text::{Bytes, Short};
use memory::Memory;
use tags::{Bounded, escaped, put, source, table};

/// The sizes of sections in bytes.
const PROCESSES: usize = 150_000;
const MESSAGES: usize = 280_000;
const MISSING: usize = 20_000;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The contents of a page.
struct Page<'a> {
    triage: &'a Triage,
    report: &'a Report,
    memory: Option<Memory>,
    /// Another dump and the comparison of both.
    other: Option<(&'a Triage, &'a Comparison)>,
}

pub(super) use make::{Request, write};

/// A section: its id, its heading and its content.
type Section = (&'static str, &'static str, String);

impl Page<'_> {
    /// The page.
    fn html(&self) -> serde_json::Result<String> {
        let sections = self.sections()?;
        let title = match &self.triage.panic {
            Some(panic) if !panic.is_empty() => escaped(panic.lines().next().unwrap_or_default()),
            _ if self.triage.no_panic => "no panic".into(),
            _ => "unknown panic".into(),
        };
        let name = escaped(&self.triage.dump);
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
             style-src {}; script-src {}; base-uri 'none'; form-action 'none'\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>{title} - {name}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
             <a class=\"skip\" href=\"#main\">Skip to the report</a>\n<header>\n\
             <h1>{title}</h1>\n<p class=\"mono\">{name}</p>\n<ul class=\"badges\">{}",
            source(STYLE),
            source(SCRIPT),
            findings::badge(&self.report.verdict)
        );
        let triage = self.triage;
        let deadlocks = triage.locks.as_ref();
        let deadlocks = deadlocks.map_or(0, |locks| locks.deadlocks.len());
        if deadlocks > 0 {
            put!(page, "<li class=\"bad\">deadlocks: {deadlocks}</li>");
        }
        put!(
            page,
            "<li>{} {}</li><li>{}</li></ul>\n</header>\n<nav aria-label=\"Sections\"><ul>\n",
            escaped(triage.architecture),
            escaped(triage.kind),
            Short(triage.file_size)
        );
        for (id, heading, _) in &sections {
            put!(page, "<li><a href=\"#{id}\">{heading}</a></li>\n");
        }
        page.push_str("</ul></nav>\n<main id=\"main\">\n");
        for (id, heading, content) in &sections {
            put!(
                page,
                "<section id=\"{id}\" aria-labelledby=\"{id}-heading\">\n\
                 <h2 id=\"{id}-heading\">{heading}</h2>\n{content}</section>\n"
            );
        }
        put!(
            page,
            "</main>\n<footer><p>livecore {} triage --html</p></footer>\n\
             <script>{SCRIPT}</script>\n</body>\n</html>\n",
            env!("CARGO_PKG_VERSION")
        );
        Ok(page)
    }

    fn sections(&self) -> serde_json::Result<Vec<Section>> {
        let triage = self.triage;
        let mut sections: Vec<Section> = vec![("summary", "Summary", self.summary())];
        if let Some(thread) = triage.cpus.iter().find(|thread| thread.crashed) {
            let mut out = format!(
                "<p>{} <span class=\"dim\">tid {}</span></p>\n",
                escaped(&thread.title),
                thread.tid
            );
            out += &threads::frames(&thread.frames, triage.digits);
            sections.push(("crash", "Crashed thread", out));
        }
        if let Some((other, found)) = self.other {
            let out = compared::html(triage, other, found);
            sections.push(("comparison", "Comparison", out));
        }
        if let Some(locks) = locks::html(&serde_json::to_value(&triage.locks)?) {
            sections.push(("locks", "Locks", locks));
        }
        if triage.threads.is_some() {
            sections.push(("threads", "Threads", threads::html(triage)));
        }
        if let Some(memory) = &self.memory {
            sections.push(("memory", "Physical memory", memory.html()));
        }
        let consumers = triage.sections.iter().map(|facts| facts.section());
        let mut consumers = consumers.filter(|section| section.kind.name == "memory");
        if let Some(out) = consumers.next().and_then(consumers::html) {
            sections.push(("consumers", "Memory by state and consumer", out));
        }
        sections.push(("findings", "Findings", findings::html(self.report)));
        if triage.processes.is_some() {
            sections.push(("processes", "Processes", self.processes()));
        }
        if let Some(lines) = &triage.message_buffer {
            sections.push(("messages", "Message buffer", messages(lines)));
        }
        if !triage.missing.is_empty() {
            let mut items = Bounded::new(MISSING);
            for what in &triage.missing {
                items.add(&format!("<li>{}</li>\n", escaped(what)), 1);
            }
            let out = format!("<ul>\n{}</ul>\n{}", items.html, items.note("messages"));
            sections.push(("missing", "Not found", out));
        }
        Ok(sections)
    }

    fn summary(&self) -> String {
        let rows = facts(self.triage).into_iter().map(|(name, value)| {
            let value = property(value);
            format!("<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>\n")
        });
        let rows: String = rows.collect();
        table(
            "Properties of the dump and its kernel",
            &[("Property", false), ("Value", false)],
            &rows,
        )
    }

    fn processes(&self) -> String {
        let mut rows = Bounded::new(PROCESSES);
        for process in self.triage.processes.iter().flatten() {
            let ppid = process.ppid.map_or("-".into(), |ppid| ppid.to_string());
            rows.add(
                &format!(
                    "<tr><th scope=\"row\" class=\"n\">{}</th><td class=\"n\">{ppid}</td>\
                     <td class=\"n\">{}</td><td>{}</td><td>{}</td></tr>\n",
                    process.pid,
                    process.threads,
                    escaped(&process.command),
                    process.state
                ),
                1,
            );
        }
        let columns = [
            ("PID", true),
            ("PPID", true),
            ("Threads", true),
            ("Command", false),
            ("State", false),
        ];
        table("Processes, the newest first", &columns, &rows.html) + &rows.note("processes")
    }
}

/// The last lines of the message buffer, as many as fit.
fn messages(lines: &[String]) -> String {
    let mut size = 0;
    let escaped: Vec<String> = lines
        .iter()
        .rev()
        .map(|line| escaped(line))
        .take_while(|line| {
            size += line.len() + 1;
            size <= MESSAGES
        })
        .collect();
    let omitted = lines.len() - escaped.len();
    let mut out = String::new();
    if omitted > 0 {
        put!(
            out,
            "<p class=\"dim\">{omitted} earlier lines are not on this page.</p>\n"
        );
    }
    out.push_str("<pre role=\"region\" tabindex=\"0\" aria-label=\"Message buffer\">");
    for line in escaped.iter().rev() {
        put!(out, "{line}\n");
    }
    out + "</pre>\n"
}

/// The value of a property, which can have several lines.
fn property(value: Option<String>) -> String {
    let unknown = || "<span class=\"dim\">unknown</span>".into();
    value.map_or_else(unknown, |value| {
        let lines: Vec<_> = value.lines().map(escaped).collect();
        lines.join("<br>")
    })
}

/// Names and values of the properties of a dump.
fn facts(triage: &Triage) -> [(&'static str, Option<String>); 14] {
    let number = |value: Option<usize>| value.map(|value| value.to_string());
    let panic = match &triage.panic {
        None if triage.no_panic => Some("none".into()),
        panic => panic.clone(),
    };
    let kind = format!("{}, {}, {}", triage.kind, triage.container, triage.codec);
    [
        ("Panic", panic),
        (
            "Signature",
            triage.signature.as_ref().map(|found| found.id.clone()),
        ),
        ("Host name", triage.hostname.clone()),
        ("Version", triage.version.clone()),
        ("Dumped", triage.dumped.clone()),
        ("Uptime", triage.uptime_seconds.map(uptime)),
        ("Dump", Some(triage.dump.clone())),
        ("Kind", Some(kind)),
        ("Architecture", Some(triage.architecture.into())),
        ("File size", Some(Bytes(triage.file_size).to_string())),
        (
            "Payload",
            triage.payload_size.map(|size| Bytes(size).to_string()),
        ),
        ("Pages", triage.pages.map(|pages| pages.to_string())),
        ("Processes", number(triage.processes.as_ref().map(Vec::len))),
        ("Threads", number(triage.threads)),
    ]
}
