//! The graph of threads that wait for locks, from the report's JSON.

use std::f64::consts::TAU;

use serde_json::Value;

use super::tags::{Bounded, escaped, put, table};

/// The size of the section in bytes.
const LIMIT: usize = 120_000;
/// Threads of a deadlock that are drawn; longer cycles are in the table only.
const DRAWN: usize = 12;

/// The section; `None` if the kernel does not show its locks.
pub(super) fn html(locks: &Value) -> Option<String> {
    let list = |name: &str| locks[name].as_array();
    let mut out = String::new();
    for (number, deadlock) in list("deadlocks")?.iter().enumerate() {
        out += &deadlock_html(number + 1, deadlock);
    }
    let mut rows = Bounded::new(LIMIT);
    for lock in list("locks")? {
        let waiters = lock["waiters"].as_array().map_or(0, Vec::len);
        let owner = match &lock["owner"] {
            Value::Null => text(&lock["owner_address"]),
            owner => format!("{} tid {}", text(&owner["name"]), owner["tid"]),
        };
        let ids = lock["waiters"].as_array().into_iter().flatten().take(64);
        let ids: Vec<String> = ids.map(Value::to_string).collect();
        rows.add(
            &format!(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"mono\">{}</td><td>{}</td>\
                 <td>{owner}</td><td class=\"n\">{waiters}</td><td>{}</td></tr>\n",
                text(&lock["name"]),
                text(&lock["class"]),
                text(&lock["address"]),
                text(&lock["state"]),
                ids.join(", ")
            ),
            1,
        );
    }
    if rows.html.is_empty() && rows.omitted == 0 {
        out.push_str("<p>No thread waits for a lock.</p>\n");
        return Some(out);
    }
    let columns = [
        ("Lock", false),
        ("Class", false),
        ("Address", false),
        ("State", false),
        ("Owner", false),
        ("Waiters", true),
        ("tid of waiters", false),
    ];
    out += &table("Locks that threads wait for", &columns, &rows.html);
    Some(out + &rows.note("locks"))
}

/// A string, escaped; other values as nothing.
fn text(value: &Value) -> String {
    value.as_str().map_or(String::new(), escaped)
}

/// A label of limited length, escaped.
fn label(value: &Value) -> String {
    let full = value.as_str().unwrap_or_default();
    match full.char_indices().nth(26) {
        Some((at, _)) => escaped(&full[..at]) + "…",
        None => escaped(full),
    }
}

/// A deadlock: a circle of threads, each with an arrow to the next one, and the same as a list.
fn deadlock_html(number: usize, deadlock: &Value) -> String {
    let cycle = deadlock["cycle"].as_array().map_or(&[][..], Vec::as_slice);
    let mut out = format!(
        "<h3 class=\"bad\">Deadlock {number}: {} threads</h3>\n",
        deadlock["length"]
    );
    if (2..=DRAWN).contains(&cycle.len()) {
        out += &circle(number, cycle);
    }
    out.push_str("<ol>\n");
    for (i, link) in cycle.iter().enumerate() {
        let next = &cycle[(i + 1) % cycle.len()]["thread"];
        put!(
            out,
            "<li>{} tid {} waits for {} <code>{}</code> ({}), which {} tid {} owns</li>\n",
            text(&link["thread"]["title"]),
            link["thread"]["tid"],
            text(&link["class"]),
            text(&link["name"]),
            text(&link["lock"]),
            text(&next["title"]),
            next["tid"]
        );
    }
    out + "</ol>\n"
}

fn circle(number: usize, cycle: &[Value]) -> String {
    let count = cycle.len() as f64;
    let (height, rx, ry) = (420.0, 340.0, 160.0);
    let at = |i: f64| {
        let angle = TAU * i / count - TAU / 4.0;
        (480.0 + rx * angle.cos(), height / 2.0 + ry * angle.sin())
    };
    let mut out = format!(
        "<svg viewBox=\"0 0 960 {height}\" role=\"img\" \
         aria-label=\"Threads of deadlock {number}; the list below has the same content\">\n\
         <defs><marker id=\"arrow{number}\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" \
         markerWidth=\"8\" markerHeight=\"8\" orient=\"auto\">\
         <path class=\"arrow\" d=\"M0 0L10 5L0 10z\"/></marker></defs>\n"
    );
    for (i, link) in cycle.iter().enumerate() {
        // Arrows begin and end outside of the boxes.
        let ((x0, y0), (x1, y1)) = (at(i as f64 + 0.3), at(i as f64 + 0.7));
        let (x, y) = at(i as f64 + 0.5);
        put!(
            out,
            "<path class=\"edge\" marker-end=\"url(#arrow{number})\" \
             d=\"M{x0:.0} {y0:.0}Q{x:.0} {y:.0} {x1:.0} {y1:.0}\"/>\
             <text x=\"{x:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>\n",
            y - 8.0,
            label(&link["name"])
        );
    }
    for (i, link) in cycle.iter().enumerate() {
        let (x, y) = at(i as f64);
        put!(
            out,
            "<rect class=\"box\" x=\"{:.0}\" y=\"{:.0}\" width=\"210\" height=\"44\" rx=\"6\"/>\
             <text x=\"{x:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>\
             <text x=\"{x:.0}\" y=\"{:.0}\" text-anchor=\"middle\">tid {}</text>\n",
            x - 105.0,
            y - 22.0,
            y - 4.0,
            label(&link["thread"]["title"]),
            y + 14.0,
            link["thread"]["tid"]
        );
    }
    out + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The form of docs/schemas/triage.schema.json.
    fn deadlock(threads: u32) -> Value {
        let link = |tid: u32| {
            json!({
                "lock": format!("0xfffff800000010{tid:02x}"), "class": "sx", "name": format!("<l{tid}>"),
                "thread": { "title": format!("(pid {tid}) a thread with a long <name>"), "tid": tid },
            })
        };
        let cycle: Vec<Value> = (1..=threads).map(link).collect();
        let locks = json!({
            "address": "0xfffff80000001001", "class": "sx", "name": "<l1>", "state": "owned",
            "owner_address": "0xfffff80000002000", "owner": { "name": "<b>", "tid": 2 },
            "sharers": null, "waiters": [1],
        });
        json!({ "deadlocks": [{ "length": threads, "cycle": cycle }], "locks": [locks], "waits": [] })
    }

    #[test]
    fn deadlock_is_a_drawing_and_a_list() {
        let page = html(&deadlock(2)).unwrap();
        assert_eq!(page.matches("<path class=\"edge\"").count(), 2);
        assert_eq!(page.matches("<rect class=\"box\"").count(), 2);
        let first = "<li>(pid 1) a thread with a long &lt;name&gt; tid 1 waits for sx <code>&lt;l1&gt;</code> \
                     (0xfffff80000001001), which (pid 2) a thread with a long &lt;name&gt; tid 2 owns</li>";
        assert!(page.contains(first), "{page}");
        assert!(page.contains("<td>&lt;b&gt; tid 2</td><td class=\"n\">1</td><td>1</td>"));
        let many = html(&deadlock(40)).unwrap();
        assert!(!many.contains("<svg") && many.contains("40 threads</h3>"));
    }

    #[test]
    fn missing_locks_are_no_section() {
        assert_eq!(html(&Value::Null), None);
        let none = json!({ "deadlocks": [], "locks": [], "waits": [] });
        assert_eq!(html(&none).unwrap(), "<p>No thread waits for a lock.</p>\n");
    }
}
