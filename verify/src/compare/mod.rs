//! Two dumps side by side: do they hold the same state of a machine?
//!
//! Both are verified at the same time, each on a thread of its own with workers of its own, and
//! what they hold is compared while it goes by (`merge`): sections come first and data pages in
//! ascending physical address, on both sides, so two streams are merged as two sorted lists are.
//! Containers, codecs, versions and frame sizes play no part. Each side hands pages over in batches
//! through a bounded channel; a side that is ahead waits. Memory is what two verifications need,
//! and a few batches.
//!
//! Header fields are compared too. They are told, but do not make two dumps differ unless that is
//! asked for: a conversion may have had to rebuild a header.

mod meaning;
mod merge;
mod render;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use livecore_compress::{Progress, ReadAt};

use crate::codec::Content;
use crate::facts::Facts;
use crate::intake::Intake;
use crate::kdh::Kdh;
use crate::options::{Depth, Options};
use crate::report::{Report, Verdict};
use crate::run::{ScannedFile, verify_into};
use merge::{Merged, Pulled, WAITING, tap};

/// What comparing two dumps comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The same pages with the same contents, the same sections.
    Same,
    /// Not the same.
    Differ,
    /// One of them is broken or could not be read; which, and why.
    CouldNot(String),
}

impl Answer {
    /// qemu-img's exit codes: 0 same, 1 different, and 4 where it has "above 1".
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Same => 0,
            Self::Differ => 1,
            Self::CouldNot(_) => 4,
        }
    }

    /// `same`, `differ` or `could-not`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Differ => "differ",
            Self::CouldNot(_) => "could-not",
        }
    }
}

/// A value that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it is: `message buffer`, `hostname`.
    pub what: &'static str,
    /// What the first dump has.
    pub a: String,
    /// What the second dump has.
    pub b: String,
}

/// A section whose bytes differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionDifference {
    /// Its name.
    pub what: &'static str,
    /// The first byte that differs, from the section's beginning.
    pub offset: u64,
    /// At most 16 bytes of the first dump from there on; none if it has no such page.
    pub a: Vec<u8>,
    /// And of the second.
    pub b: Vec<u8>,
    /// Pages of the section that differ or that only one dump has.
    pub pages: u64,
    /// What lies there: the first kernel address that a page-table entry maps.
    pub meaning: Option<String>,
}

/// A page whose contents differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageDifference {
    /// Its physical address.
    pub pa: u64,
    /// The first byte that differs, from the page's beginning.
    pub offset: usize,
    /// At most 16 bytes of the first dump from there on.
    pub a: Vec<u8>,
    /// And of the second.
    pub b: Vec<u8>,
    /// Where that byte is in the direct map, if there is one.
    pub direct: Option<u64>,
    /// Where it is in the kernel's image, and the symbol it lies in or behind, if a kernel was
    /// given and its image has the page: `0xffffffff81c9a2f0 hz+0x4`.
    pub symbol: Option<String>,
}

/// Pages: how many, and the first of them as ranges of physical addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pages {
    /// How many.
    pub count: u64,
    /// The first ranges, `start..end`.
    pub ranges: Vec<(u64, u64)>,
    /// How many of the pages are in these ranges.
    pub shown: u64,
}

impl Pages {
    fn add(&mut self, pa: u64, page: u64, keep: usize) {
        self.count += 1;
        let room = self.ranges.len() < keep;
        // The last page that an address can have ends behind the last address.
        let end = pa.saturating_add(page);
        match self.ranges.last_mut() {
            // Pages come in ascending order, so a range that is not the last one kept stays.
            Some(last) if last.1 == pa && self.shown + 1 == self.count => last.1 = end,
            _ if room => self.ranges.push((pa, end)),
            _ => return,
        }
        self.shown += 1;
    }
}

/// What comparing two dumps found.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The first dump, verified.
    pub a: Report,
    /// The second.
    pub b: Report,
    /// What it comes to.
    pub answer: Answer,
    /// Pages that are the same on both sides.
    pub same: u64,
    /// Pages whose contents differ.
    pub differ: Pages,
    /// The first of them.
    pub pages: Vec<PageDifference>,
    /// Pages that only the first dump has.
    pub only_a: Pages,
    /// Pages that only the second dump has.
    pub only_b: Pages,
    /// Sections that differ.
    pub sections: Vec<SectionDifference>,
    /// What the minidump headers say of the machine and differ in.
    pub machine: Vec<Difference>,
    /// Header fields that differ, which does not make the dumps differ unless under `strict`.
    pub headers: Vec<Difference>,
}

/// What is left of a side when its pages have gone by.
struct Side {
    report: Report,
    header: Option<Kdh>,
    scanned: Option<ScannedFile>,
    intake: Intake,
}

impl Side {
    /// A side that could not be looked at.
    fn without_thread(name: &str, error: &std::io::Error) -> Self {
        let report = Report {
            name: name.into(),
            time: Duration::ZERO,
            depth: Depth::Default,
            strict: false,
            facts: Facts::default(),
            findings: Vec::new(),
            outcomes: BTreeMap::new(),
            verdict: Verdict::Failed(format!("no thread to look at it: {error}")),
            liveness: None,
        };
        Self {
            report,
            header: None,
            scanned: None,
            intake: Intake::new(0, false),
        }
    }
}

/// Compares two dumps. `options` are for both, their names aside: under `strict` headers have to
/// be the same, `kernel` tells what differing pages hold, `per_rule` is how many of each kind of
/// difference are kept, and filters apply to the reports alone.
pub fn compare(
    sources: [Arc<dyn ReadAt>; 2],
    names: [&str; 2],
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Comparison {
    let (merged, a, b) = look(&sources, names, options, progress, [None; 2]);
    // Whether 32-bit arm's page tables are padded only the length tells, which a compressed dump
    // says at its end.
    let lens = [&a, &b].map(|side| side.intake.padded_len());
    let (merged, a, b) = match lens {
        [None, None] => (merged, a, b),
        lens => look(&sources, names, options, progress, lens),
    };
    finish(merged, a, b, options)
}

/// Goes through both dumps at the same time. `lens` are the payloads' lengths, where they have to be
/// known from the beginning.
fn look(
    sources: &[Arc<dyn ReadAt>; 2],
    names: [&str; 2],
    options: &Options<'_>,
    progress: &dyn Progress,
    lens: [Option<u64>; 2],
) -> (Merged, Side, Side) {
    let (give_a, take_a) = sync_channel(WAITING);
    let (give_b, take_b) = sync_channel(WAITING);
    let side = |number: usize, give| {
        let (source, name) = (Arc::clone(&sources[number]), names[number]);
        let options = Options {
            name: name.into(),
            depth: Depth::Default,
            strict: false,
            kernel: None,
            info: None,
            ..options.clone()
        };
        let mut intake = Intake::tapped(options.memory, tap(give));
        if let Some(len) = lens[number] {
            intake.expect_exactly(len);
        }
        let examined = verify_into(source, &options, progress, &mut intake);
        // The last batch is given when the tap is dropped.
        intake.untap();
        Side {
            report: examined.report,
            header: examined.header,
            scanned: examined.scanned,
            intake,
        }
    };
    let mut merged = Merged::new(options.per_rule);
    let sides = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new;
        let a = thread().spawn_scoped(scope, || side(0, give_a));
        let b = thread().spawn_scoped(scope, || side(1, give_b));
        // Of a side without a thread nothing comes.
        merged.merge(Pulled::new(take_a), Pulled::new(take_b));
        [(a, names[0]), (b, names[1])].map(|(side, name)| match side {
            Ok(side) => (side.join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(error) => Side::without_thread(name, &error),
        })
    });
    let [a, b] = sides;
    (merged, a, b)
}

fn finish(merged: Merged, a: Side, b: Side, options: &Options<'_>) -> Comparison {
    let mut pages = merged.pages;
    // Either side's page tables will do; a page that differs is in both dumps.
    let described = if a.intake.header().is_some() { &a } else { &b };
    meaning::of_pages(&mut pages, described, options);
    let mut sections = merged.sections;
    sections.retain(|found| comparable(found.what, &a.intake, &b.intake));
    for found in &mut sections {
        found.meaning = meaning::of_section(found, &a);
    }
    let machine = machine(&a, &b);
    let headers = headers(&a, &b);
    let count = merged.differ.count + merged.only_a.count + merged.only_b.count;
    let same = count == 0
        && sections.is_empty()
        && machine.is_empty()
        && (headers.is_empty() || !options.strict);
    let answer = match broken([&a.report, &b.report]) {
        Some(why) => Answer::CouldNot(why),
        None if same => Answer::Same,
        None => Answer::Differ,
    };
    Comparison {
        answer,
        same: merged.same,
        differ: merged.differ,
        pages,
        only_a: merged.only_a,
        only_b: merged.only_b,
        sections,
        machine,
        headers,
        a: a.report,
        b: b.report,
    }
}

/// Why one of the dumps cannot be compared.
fn broken(reports: [&Report; 2]) -> Option<String> {
    reports.into_iter().find_map(|report| {
        let why = match &report.verdict {
            Verdict::Sound | Verdict::Warnings => return None,
            Verdict::Broken => report.findings.first().map_or_else(
                || "it is broken".to_string(),
                |f| format!("{}, {}", f.rule.id, crate::render::line(f)),
            ),
            Verdict::NotADump(why) | Verdict::Failed(why) => why.clone(),
        };
        Some(format!("{}: {}: {why}", report.name, report.verdict.name()))
    })
}

/// Whether the section `what` says the same thing in both dumps' versions: those without a
/// `dump_avail` say less of memory and nothing else, and amd64's first version has another kind of
/// page tables.
fn comparable(what: &str, a: &Intake, b: &Intake) -> bool {
    let (Some(one), Some(two)) = (a.header(), b.header()) else {
        return false;
    };
    match what {
        "dump_avail" => one.has_avail() && two.has_avail(),
        "page tables" => {
            one.architecture() == two.architecture() && (one.version == 1) == (two.version == 1)
        }
        _ => true,
    }
}

/// Gathers values that are not the same.
#[derive(Default)]
struct Differences(Vec<Difference>);

impl Differences {
    fn note(&mut self, what: &'static str, a: String, b: String) {
        if a != b {
            self.0.push(Difference { what, a, b });
        }
    }
}

fn machine(a: &Side, b: &Side) -> Vec<Difference> {
    let mut found = Differences::default();
    let architecture = |side: &Side| side.report.facts.architecture.unwrap_or("unknown").into();
    found.note("architecture", architecture(a), architecture(b));
    let (Some(one), Some(two)) = (a.intake.header(), b.intake.header()) else {
        return found.0;
    };
    let order = |big| if big { "big" } else { "little" }.to_string();
    found.note("byte order", order(one.big), order(two.big));
    for (what, x, y) in [
        ("page size", one.page, two.page),
        ("msgbufsize", one.msgbufsize, two.msgbufsize),
        ("kernbase", one.kernbase, two.kernbase),
        ("dmapphys", one.dmapphys, two.dmapphys),
        ("dmapbase", one.dmapbase, two.dmapbase),
        ("dmapend", one.dmapend, two.dmapend),
    ] {
        found.note(what, format!("{x:#x}"), format!("{y:#x}"));
    }
    found.0
}

fn headers(a: &Side, b: &Side) -> Vec<Difference> {
    let mut found = Differences::default();
    if let (Some(one), Some(two)) = (a.intake.header(), b.intake.header()) {
        let versions = (one.version.to_string(), two.version.to_string());
        found.note("minidump version", versions.0, versions.1);
    }
    let (Some(one), Some(two)) = (&a.header, &b.header) else {
        let word = |h: &Option<Kdh>| if h.is_some() { "present" } else { "absent" };
        let words = (word(&a.header).into(), word(&b.header).into());
        found.note("kerneldumpheader", words.0, words.1);
        return found.0;
    };
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    for (what, x, y) in [
        ("architecture", one.architecture(), two.architecture()),
        ("hostname", one.hostname(), two.hostname()),
        ("versionstring", one.versionstring(), two.versionstring()),
        ("panicstring", one.panicstring(), two.panicstring()),
    ] {
        found.note(what, text(x), text(y));
    }
    let times = (one.dumptime().to_string(), two.dumptime().to_string());
    found.note("dumptime", times.0, times.1);
    found.0
}
