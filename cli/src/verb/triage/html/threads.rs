//! Threads with their backtraces; those with the same backtrace together.

use std::collections::BTreeMap;

use super::super::facts::Triage;
use super::super::thread::{FrameFacts, ThreadFacts};
use super::tags::{Bounded, escaped, put};

/// The size of the section in bytes.
const LIMIT: usize = 520_000;
/// The size of one thread or group in bytes.
const ITEM: usize = 60_000;

/// The section: the threads on a CPU, then the others.
pub(super) fn html(triage: &Triage) -> String {
    let mut list = Bounded::new(LIMIT);
    for thread in &triage.cpus {
        if list.has_space() {
            list.add(&single(thread, triage.digits), 1);
        } else {
            list.omitted += 1;
        }
    }
    let mut groups: BTreeMap<_, Vec<&ThreadFacts>> = BTreeMap::new();
    for thread in &triage.chains {
        let names: Vec<_> = thread
            .frames
            .iter()
            .map(|f| f.function.as_deref())
            .collect();
        groups
            .entry((thread.state, names))
            .or_default()
            .push(thread);
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    for group in &groups {
        match &group[..] {
            _ if !list.has_space() => list.omitted += group.len(),
            [thread] => list.add(&single(thread, triage.digits), 1),
            several => list.add(&together(several, triage.digits), several.len()),
        }
    }
    let mut states: Vec<&str> = triage
        .cpus
        .iter()
        .chain(&triage.chains)
        .map(|t| t.state)
        .collect();
    states.sort_unstable();
    states.dedup();
    let mut out = String::from(
        "<div class=\"controls\" id=\"controls\" hidden>\
         <div><label for=\"filter\">Name, tid or function contains</label>\
         <input id=\"filter\" type=\"search\" autocomplete=\"off\" spellcheck=\"false\"></div>\
         <div><label for=\"state\">State</label><select id=\"state\"><option value=\"\">all</option>",
    );
    for state in states {
        let state = escaped(state);
        put!(out, "<option value=\"{state}\">{state}</option>");
    }
    out.push_str(
        "</select></div><div><button type=\"button\" id=\"open\">Open all</button> \
         <button type=\"button\" id=\"close\">Close all</button></div>\
         <p role=\"status\" id=\"shown\"></p></div>\n",
    );
    let note = list.note("threads");
    out + &list.html + &note
}

fn begin(state: &str, count: usize) -> String {
    let state = escaped(state);
    format!("<details class=\"thread\" data-state=\"{state}\" data-count=\"{count}\"><summary>")
}

/// A thread.
fn single(thread: &ThreadFacts, digits: usize) -> String {
    let mut out = begin(thread.state, 1);
    let crashed = if thread.crashed { " class=\"bad\"" } else { "" };
    put!(
        out,
        "<strong{crashed}>{}</strong> <span class=\"dim\">tid {}, {}</span></summary>\n",
        escaped(&thread.title),
        thread.tid,
        escaped(thread.state)
    );
    out += &frames(&thread.frames, digits);
    let saved: Vec<_> = thread
        .registers
        .iter()
        .filter_map(|(name, value)| Some((name, value.as_ref()?)))
        .collect();
    if saved.is_empty() {
        out.push_str("<p class=\"dim\">Its registers were not saved.</p>\n");
    } else {
        let width = digits + 2;
        out.push_str("<details><summary>Registers</summary><p class=\"mono\">");
        for (name, value) in saved {
            put!(out, "{} {:#0width$x}<br>", escaped(name), value.0);
        }
        out.push_str("</p></details>\n");
    }
    out + "</details>\n"
}

/// Threads with the same functions in their backtraces.
fn together(threads: &[&ThreadFacts], digits: usize) -> String {
    let first = threads[0];
    let mut out = begin(first.state, threads.len());
    let names = first
        .frames
        .iter()
        .map(|f| f.function.as_deref().unwrap_or("?"));
    let names: Vec<_> = names.take(4).map(escaped).collect();
    put!(
        out,
        "<strong>{} threads</strong>, {}: <code>{}</code></summary>\n<p>",
        threads.len(),
        escaped(first.state),
        names.join(" &lt; ")
    );
    let mut names = Bounded::new(ITEM);
    for thread in threads {
        names.add(
            &format!("{} tid {}; ", escaped(&thread.title), thread.tid),
            1,
        );
    }
    out += names.html.trim_end_matches("; ");
    out.push_str("</p>\n");
    out += &names.note("threads of this group");
    out += &frames(&first.frames, digits);
    out + "</details>\n"
}

/// A backtrace.
pub(super) fn frames(frames: &[FrameFacts], digits: usize) -> String {
    if frames.is_empty() {
        return "<p class=\"dim\">No backtrace.</p>\n".into();
    }
    let width = digits + 2;
    let mut list = Bounded::new(ITEM);
    let mut number = 0;
    for frame in frames {
        let mut item = String::new();
        if frame.omitted > 0 {
            put!(
                item,
                "<li class=\"note\">({} frames omitted)</li>",
                frame.omitted
            );
            number += frame.omitted;
        }
        let place = match (&frame.function, frame.offset) {
            (Some(function), Some(offset)) => format!("{}+{offset:#x}", escaped(function)),
            (Some(function), None) => escaped(function),
            (None, _) => "?".into(),
        };
        let mark = match frame.by {
            "inlined" => " [inlined]",
            "tail-call" => " [tail call]",
            _ => "",
        };
        let source = frame.source.as_ref().map_or_else(String::new, |source| {
            let at = escaped(&format!("{}:{}", source.file, source.line));
            format!(" <code class=\"dim\">at {at}</code>")
        });
        put!(
            item,
            "<li value=\"{number}\"><code>{place}{mark}</code> <code class=\"dim\">{:#0width$x}</code>{source}</li>\n",
            frame.pc.0
        );
        number += 1;
        let ends = frame.ends.as_ref();
        let ends = ends.map(|why| format!("end of backtrace: {why}"));
        for note in [&frame.trap, &ends].into_iter().flatten() {
            put!(
                item,
                "<li class=\"note\"><code>{}</code></li>\n",
                escaped(note)
            );
        }
        list.add(&item, 1);
    }
    let note = list.note("frames");
    format!(
        "<ol class=\"frames\" start=\"0\">\n{}</ol>\n{note}",
        list.html
    )
}
