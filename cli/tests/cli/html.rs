//! `livecore triage --html`: the page is one safe and accessible file of limited size.
//!
//! If `chromium` is installed, it loads a page of a hostile dump: the content security policy permits
//! the script, and no text of the dump is executed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::harness::{Run, livecore, run, run_json};

const HOSTILE: &str = "</script><img src=x onerror=\\\"document.title='owned'\\\">&\\u202e\\u009b";

/// Dumps of two crashes with their kernels; the texts of the first are hostile.
struct Made {
    dir: TempDir,
}

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let text = |seed: u32, name: &str, panic: &str, count: u32| {
            format!(
                "seed = {seed}\n[memory]\nsize = \"256 MiB\"\n[kernel]\nhostname = \"<h{seed}>\"\n\
                 [state]\npanic = \"{panic}\"\n\
                 [[process]]\nname = \"{name}\"\npid = 1\nuser = true\n\
                 [[process.thread]]\ndoing = \"running\"\ncpu = 0\nfault = true\n\
                 [[process]]\nname = \"sh\"\npid = 1000\ncount = {count}\n\
                 [[process]]\nname = \"zzz\"\npid = 90000\n[[process.thread]]\nwait = \"swapin\"\n"
            )
        };
        let machines = [
            text(1, "<b onclick=x>", HOSTILE, 3),
            text(2, "sysctl", "double fault", 2500),
        ];
        for (number, text) in machines.into_iter().enumerate() {
            let machine = livecore_synth::Machine::parse(&text).unwrap();
            let at = |name: &str| dir.path().join(format!("{name}.{number}"));
            fs::write(at("toml"), &text).unwrap();
            fs::write(at("kernel"), machine.kernel()).unwrap();
            let (toml, dump) = (at("toml"), at("vmcore"));
            let [toml, dump] = [&toml, &dump].map(|path| path.to_str().unwrap());
            run(["take", "-q", "-Z", "--machine", toml, "-o", dump]).expect(0);
        }
        Made { dir }
    })
}

impl Made {
    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().into()
    }

    /// The page of a dump.
    fn page(&self, dump: &str, args: &[&str]) -> String {
        let kernels = ["kernel.0", "kernel.1"].map(|name| self.path(name));
        let places = kernels.iter().flat_map(|kernel| ["--kernel-path", kernel]);
        let all = ["triage", dump, "--html", "-"].into_iter().chain(places);
        let run = run(all.chain(args.iter().copied())).expect(0);
        String::from_utf8(run.out).unwrap()
    }
}

/// A tag with its attributes.
#[derive(Debug)]
struct Tag {
    name: String,
    attributes: BTreeMap<String, String>,
}

/// The tags of a page. Asserts that they are balanced, and that all markup is what the program writes.
fn tags(page: &str) -> Vec<Tag> {
    const VOID: [&str; 4] = ["meta", "br", "input", "rect"];
    const PAIRED: [&str; 42] = [
        "html", "head", "title", "style", "body", "a", "header", "h1", "h2", "h3", "p", "ul", "li",
        "nav", "main", "section", "div", "table", "caption", "thead", "tbody", "tr", "th", "td",
        "span", "ol", "code", "details", "summary", "strong", "label", "select", "option",
        "button", "svg", "text", "defs", "marker", "path", "pre", "footer", "script",
    ];
    let mut found = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let rest = page
        .strip_prefix("<!doctype html>\n")
        .expect("a document type");
    let mut rest = rest;
    while let Some(at) = rest.find('<') {
        let end = at + rest[at..].find('>').expect("the end of a tag");
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name));
            continue;
        }
        let is_closed = tag.ends_with('/');
        let (name, mut inner) = tag
            .trim_end_matches('/')
            .split_once(' ')
            .unwrap_or((tag, ""));
        let mut attributes = BTreeMap::new();
        while !inner.is_empty() {
            let (attribute, after) = match inner.split_once(['=', ' ']) {
                Some((name, after)) if inner.as_bytes()[name.len()] == b'=' => {
                    let after = after.strip_prefix('"').expect("a quote");
                    let (value, after) = after.split_once('"').expect("a quote");
                    ((name, value), after)
                }
                Some((name, after)) => ((name, ""), after),
                None => ((inner, ""), ""),
            };
            let (attribute, value) = attribute;
            assert!(
                !attribute.starts_with("on") && attribute != "style",
                "{tag}"
            );
            assert!(attribute != "src" && !value.contains("//"), "{tag}");
            let before = attributes.insert(attribute.to_owned(), value.to_owned());
            assert!(before.is_none(), "{tag}");
            inner = after.trim_start();
        }
        if PAIRED.contains(&name) && !is_closed {
            open.push(name.into());
            if name == "script" || name == "style" {
                // Its text is not markup.
                let end = rest.find(&format!("</{name}>")).unwrap();
                rest = &rest[end..];
            }
        } else {
            assert!(
                VOID.contains(&name) || is_closed && PAIRED.contains(&name),
                "{tag}"
            );
        }
        found.push(Tag {
            name: name.into(),
            attributes,
        });
    }
    assert!(open.is_empty(), "{open:?}");
    found
}

/// Asserts what makes a page safe and accessible.
fn check(page: &str) {
    let is_control = |c: char| livecore_defs::text::is_terminal_control(c) && c != '\n';
    assert!(!page.contains(is_control));
    assert!(page.len() <= 1_500_000, "{}", page.len());
    let tags = tags(page);
    let count = |name: &str| tags.iter().filter(|tag| tag.name == name).count();
    for one in [
        "html", "title", "style", "script", "header", "main", "footer", "h1",
    ] {
        assert_eq!(count(one), 1, "{one}");
    }
    let ids: Vec<_> = tags
        .iter()
        .filter_map(|tag| tag.attributes.get("id"))
        .collect();
    let unique: BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len());
    for tag in &tags {
        let of = |name: &str| tag.attributes.get(name);
        let targets = [
            of("href").map(|link| link.strip_prefix('#').expect("a link in the page")),
            of("for").map(String::as_str),
            of("aria-labelledby").map(String::as_str),
        ];
        for target in targets.into_iter().flatten() {
            assert!(ids.iter().any(|id| *id == target), "{tag:?}");
        }
        let is_named = of("aria-label").is_some_and(|label| !label.is_empty());
        match tag.name.as_str() {
            "th" => assert!(of("scope").is_some(), "{tag:?}"),
            "svg" => assert!(is_named && of("role").is_some() || of("aria-hidden").is_some()),
            "nav" | "pre" => assert!(is_named, "{tag:?}"),
            "section" => assert!(of("aria-labelledby").is_some()),
            "html" => assert_eq!(of("lang").map(String::as_str), Some("en")),
            _ => {}
        }
    }
    let labels: Vec<_> = tags
        .iter()
        .filter_map(|tag| tag.attributes.get("for"))
        .collect();
    for control in tags
        .iter()
        .filter(|tag| ["input", "select"].contains(&&*tag.name))
    {
        assert!(labels.contains(&&control.attributes["id"]), "{control:?}");
    }
    let policy = "default-src 'none'; style-src 'sha256-";
    assert!(page.contains(policy));
}

#[test]
fn hostile_texts_are_text_in_the_page() {
    let page = made().page(&made().path("vmcore.0"), &[]);
    check(&page);
    let escaped =
        "&lt;/script&gt;&lt;img src=x onerror=&quot;document.title=&#39;owned&#39;&quot;&gt;&amp;";
    assert!(page.contains(&format!("<h1>{escaped}")), "{page}");
    for part in [
        "&lt;b onclick=x&gt; (crashed)",
        "&lt;h1&gt;",
        "Signature</th><td>1:",
        "<h2 id=\"crash-heading\">Crashed thread</h2>",
        "copyin_nosmap_erms+0x",
        "<strong>3 threads</strong>, sleeping",
        "dump sound",
        "In the dump, mapped by the kernel map",
        "livecore verify has no findings.",
        "<caption>Processes, the newest first</caption>",
        "aria-label=\"Message buffer\"",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn comparison_shows_both_crashes() {
    let page = made().page(
        &made().path("vmcore.0"),
        &["--compare", &made().path("vmcore.1")],
    );
    check(&page);
    for part in [
        "The crashes have different signatures. Pages: ",
        "<caption>Properties of both dumps</caption>",
        "double fault",
        "Crashed thread of the other dump",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let page = made().page(
        &made().path("vmcore.1"),
        &["--compare", &made().path("vmcore.1")],
    );
    assert!(
        page.contains("The crashes have the same signature. The pages of the dumps are the same.")
    );
}

/// 2,500 processes; the page states what it omits.
#[test]
fn page_of_many_threads_is_bounded() {
    let page = made().page(&made().path("vmcore.1"), &[]);
    check(&page);
    assert!(page.contains("<strong>2500 threads</strong>"));
    assert!(
        page.contains(" more threads of this group are not on this page."),
        "{}",
        page.len()
    );
}

#[test]
fn findings_are_in_the_order_of_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().join("vmcore.0");
    let mut bytes = fs::read(made().path("vmcore.0")).unwrap();
    let len = bytes.len();
    for at in [len / 2, len / 3] {
        bytes[at] ^= 0xff;
    }
    fs::write(&dump, bytes).unwrap();
    let args = ["triage", dump.to_str().unwrap(), "--html", "-"];
    let run = run(args);
    let page = run.text();
    check(page);
    assert!(page.contains("dump broken"));
    let (_, rows) = page.split_once("by offset</caption>").unwrap();
    let offsets = rows
        .split("<tr><th scope=\"row\" class=\"n mono\">0x")
        .skip(1);
    let offsets: Vec<_> = offsets
        .filter(|row| row.contains("</th><td>file</td>"))
        .map(|row| u64::from_str_radix(row.split_once('<').unwrap().0, 16).unwrap())
        .collect();
    assert!(offsets.len() >= 2 && offsets.is_sorted(), "{offsets:?}");
}

#[test]
fn file_is_private_and_replaced_only_with_force() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("crash.html");
    let (dump, kernel) = (made().path("vmcore.0"), made().path("kernel.0"));
    let args = [
        "triage",
        &dump,
        "-k",
        &kernel,
        "--html",
        out.to_str().unwrap(),
    ];
    run(args).expect(0);
    let mode = out.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    check(&fs::read_to_string(&out).unwrap());
    fs::write(&out, "mine").unwrap();
    run_json(args).expect(1).error("exists");
    assert_eq!(fs::read_to_string(&out).unwrap(), "mine");
    run(args.into_iter().chain(["--force"])).expect(0);
    check(&fs::read_to_string(&out).unwrap());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    let directory = format!("{}/", dir.path().display());
    let args = ["triage", &dump, "--html", &directory];
    run_json(args).expect(64).error("output-is-directory");
}

/// The page is larger than the buffer of the output.
#[test]
fn full_standard_output_is_named() {
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = livecore()
        .args(["triage", &made().path("vmcore.1"), "--html", "-"])
        .stdout(full)
        .output()
        .unwrap();
    let run = Run::of(output).expect(1);
    assert!(run.err.contains("standard output"), "{}", run.err);
}

#[test]
fn inputs_are_not_replaced_and_standard_input_is_refused() {
    let (dump, kernel, other) = (
        made().path("vmcore.0"),
        made().path("kernel.0"),
        made().path("vmcore.1"),
    );
    let inputs = [&dump, &kernel, &other].map(|path| fs::read(path).unwrap());
    for option in ["--kernel", "--kernel-path"] {
        for output in [&dump, &kernel, &other] {
            let args = ["triage", &dump, option, &kernel, "--compare", &other];
            let args = args.into_iter().chain(["--force", "--html", output]);
            run_json(args).expect(64).error("invalid-value");
        }
    }
    assert!(inputs == [&dump, &kernel, &other].map(|path| fs::read(path).unwrap()));
    run_json(["triage", "-", "--html", "-"])
        .expect(64)
        .error("invalid-value");
    run(["triage", &dump, "--html", "-", "--sections", "all"]).expect(64);
}

/// Loads the page in a browser, if it is installed.
#[test]
fn browser_runs_only_the_script_of_the_page() {
    let Ok(found) = Command::new("chromium").arg("--version").output() else {
        crate::real::say("skipped: chromium is not installed");
        return;
    };
    assert!(found.status.success());
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("crash.html");
    fs::write(&page, made().page(&made().path("vmcore.0"), &[])).unwrap();
    let dom = rendered(dir.path(), &page);
    // The script has shown the filter and counted the threads.
    assert!(
        dom.contains("<p role=\"status\" id=\"shown\">5 threads shown</p>"),
        "{dom}"
    );
    assert!(dom.contains("<div class=\"controls\" id=\"controls\">"));
    assert!(!dom.contains("<img") && !dom.contains("<title>owned"));
}

/// The document after its script has run.
fn rendered(dir: &Path, page: &Path) -> String {
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!("--user-data-dir={}", dir.join("profile").display()))
        .arg(format!("file://{}", page.display()))
        .stderr(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

/// The page of a machine of the repository.
fn page_of(name: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let (to, dump) = (dir.path().join("machine"), dir.path().join("vmcore.0"));
    let text = crate::harness::machine(name);
    let [text, to, dump] = [&text, &to, &dump].map(|path| path.to_str().unwrap());
    run(["synth", "-q", text, "--out", to]).expect(0);
    run(["take", "-q", "-Z", "--machine", text, "-o", dump]).expect(0);
    let kernel = format!("{to}/kernel");
    let run = run(["triage", dump, "-k", &kernel, "--html", "-"]).expect(0);
    String::from_utf8(run.out).unwrap()
}

#[test]
fn page_shows_memory_by_state_and_consumer() {
    let page = page_of("deadlock");
    check(&page);
    let (_, section) = page.split_once("<section id=\"consumers\"").unwrap();
    let (section, _) = section.split_once("</section>").unwrap();
    // The machine has 8192 pages: 2048 wired, 3000 free, 100 to 103 in the queues.
    for (title, pages, share) in [
        ("Wired", 2048, "25.0"),
        ("Active queue", 101, "1.2"),
        ("Inactive queue", 100, "1.2"),
        ("Laundry queue", 102, "1.2"),
        ("Unswappable queue", 103, "1.3"),
        ("Free", 3000, "36.6"),
        ("In no queue", 2738, "33.4"),
    ] {
        let row = format!("</svg> {title}</th><td class=\"n\">{pages}</td>");
        assert!(section.contains(&row), "{row}: {section}");
        assert!(
            section.contains(&format!(" {title}: {share} %.")),
            "{title}"
        );
    }
    for row in [
        "mbuf</th><td>uma(9) zone</td><td class=\"n\">160 KiB</td><td class=\"n\">0.5 %</td>",
        "temp</th><td>malloc(9) type</td><td class=\"n\">62 KiB</td><td class=\"n\">0.2 %</td>",
    ] {
        assert!(section.contains(row), "{row}: {section}");
    }
    let width = |class: &str| {
        let (_, rect) = section
            .split_once(&format!("<rect class=\"{class}\" x="))
            .unwrap();
        let (_, rest) = rect.split_once("width=\"").unwrap();
        rest.split('"').next().unwrap().parse::<f64>().unwrap()
    };
    assert!((width("c1") - 240.0).abs() < 0.1);
    // Without type information, the states are unknown.
    assert!(
        !made()
            .page(&made().path("vmcore.0"), &[])
            .contains("id=\"consumers\"")
    );
}

#[test]
fn frames_of_a_kernel_with_debug_information_have_source_lines() {
    let page = page_of("inlined");
    check(&page);
    let frames = page.split("<li value=");
    let lines = frames.filter(|frame| frame.contains("/usr/src/sys/synth/functions.h:"));
    assert!(lines.count() > 20);
    for (function, mark) in [
        ("sleepq_wait+0x", "[tail call]"),
        ("kern_dump", "[inlined]"),
    ] {
        let marked = page.lines().any(|line| {
            let at = line.split_once(function);
            at.is_some_and(|(_, rest)| rest.contains(&format!(" {mark}</code>")))
        });
        assert!(marked, "{function} {mark}");
    }
}
