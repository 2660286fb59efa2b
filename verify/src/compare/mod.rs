//! The comparison of two dumps: whether they contain the same state of a machine.
//!
//! Both dumps are verified at the same time, each on a thread with its own workers. Their pages are
//! compared as they are decoded (`merge`): both streams have the sections first, then data pages in
//! ascending physical address, so they are merged like sorted lists. Containers, codecs, versions
//! and frame sizes do not matter. Each thread sends pages in batches through a bounded channel, and
//! waits if it is ahead. Memory is that of two verifications and a few batches.
//!
//! Header fields are compared and reported. They make dumps differ only under `strict`, because a
//! conversion may have had to rebuild a header.

mod meaning;
mod merge;
mod render;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use livecore_compress::{Progress, ReadAt};
use livecore_defs::{PhysAddr, VirtAddr};

use crate::codec::Content;
use crate::facts::Facts;
use crate::finding::Finding;
use crate::intake::Intake;
use crate::kdh::Kdh;
use crate::options::{Depth, Options};
use crate::report::{Report, Verdict};
use crate::rule::Severity;
use crate::rules;
use crate::run::{ScannedFile, verify_into};
use merge::{Merged, PageStream, QUEUE_LEN, tap};

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Both have the same sections, and the same pages with the same contents.
    Same,
    /// They differ.
    Differ,
    /// A dump is broken or could not be read; which, and why.
    CouldNot(String),
}

impl Answer {
    /// The exit code: 0 same, 1 different, as qemu-img has them; 4 could not compare.
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

/// A value that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The value's name: `kernbase`, `hostname`.
    pub what: &'static str,
    /// The first dump's value.
    pub a: String,
    /// The second dump's value.
    pub b: String,
}

/// A section whose bytes differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SectionDifference {
    /// The section's name.
    pub what: &'static str,
    /// Offset in the section of the first byte that differs.
    pub offset: u64,
    /// Up to 16 bytes of the first dump at `offset`; empty if the dump lacks the page.
    pub a: Vec<u8>,
    /// Up to 16 bytes of the second dump at `offset`; empty if the dump lacks the page.
    pub b: Vec<u8>,
    /// Number of pages of the section that differ or are in one dump only.
    pub pages: u64,
    /// What is at `offset`: the page-table entry, and the kernel address that it maps.
    pub meaning: Option<String>,
}

/// A page whose contents differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageDifference {
    /// The page.
    pub pa: PhysAddr,
    /// Offset in the page of the first byte that differs.
    pub offset: usize,
    /// Up to 16 bytes of the first dump at `offset`.
    pub a: Vec<u8>,
    /// Up to 16 bytes of the second dump at `offset`.
    pub b: Vec<u8>,
    /// Direct-map address of that byte, if there is a direct map.
    pub direct: Option<VirtAddr>,
    /// Address of that byte in the kernel image, and the symbol at or before it, if a kernel was
    /// given and its image contains the page: `0xffffffff81c9a2f0 hz+0x4`.
    pub symbol: Option<String>,
}

/// A number of pages, and the first of them as ranges of physical addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pages {
    /// Number of pages.
    pub count: u64,
    /// The first ranges.
    pub ranges: Vec<Range<PhysAddr>>,
    /// Number of pages in these ranges.
    pub shown: u64,
}

impl Pages {
    fn add(&mut self, pa: u64, page: u64, keep: usize) {
        self.count += 1;
        let may_grow = self.ranges.len() < keep;
        let pa = PhysAddr(pa);
        // The end of the last page of the address space overflows.
        let end = pa.saturating_add(page);
        match self.ranges.last_mut() {
            // Pages are in ascending order: only the last range can grow.
            Some(last) if last.end == pa && self.shown + 1 == self.count => last.end = end,
            _ if may_grow => self.ranges.push(pa..end),
            _ => return,
        }
        self.shown += 1;
    }
}

/// The comparison of two dumps.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The first dump's report.
    pub a: Report,
    /// The second dump's report.
    pub b: Report,
    /// The result.
    pub answer: Answer,
    /// Number of equal pages.
    pub same: u64,
    /// Pages whose contents differ.
    pub differ: Pages,
    /// The first pages whose contents differ.
    pub pages: Vec<PageDifference>,
    /// Pages that only the first dump has.
    pub only_a: Pages,
    /// Pages that only the second dump has.
    pub only_b: Pages,
    /// Sections that differ.
    pub sections: Vec<SectionDifference>,
    /// Properties of the machine that differ, from the minidump headers.
    pub machine: Vec<Difference>,
    /// Header fields that differ; they make the dumps differ only under `strict`.
    pub headers: Vec<Difference>,
}

impl Comparison {
    /// The verifier's warnings about each dump: its name, and the first warning with the number
    /// of the others.
    pub fn warnings(&self) -> Vec<(&str, String)> {
        let reports = [&self.a, &self.b].into_iter();
        let warned = reports.filter_map(|report| {
            let is_warning = |finding: &&Finding| finding.rule.severity == Severity::Warning;
            let mut warnings = report.findings.iter().filter(is_warning);
            let first = warnings
                .next()
                .filter(|_| report.verdict == Verdict::Warnings)?;
            let (id, line) = (first.rule.id, crate::render::line(first));
            let more = match warnings.count() {
                0 => String::new(),
                more => format!("; {more} more, see `livecore verify`"),
            };
            Some((&*report.name, format!("{id}, {line}{more}")))
        });
        warned.collect()
    }
}

/// The result of verifying one of the dumps.
struct Side {
    report: Report,
    header: Option<Kdh>,
    scanned: Option<ScannedFile>,
    intake: Intake,
}

impl Side {
    /// Why the pages could not be compared, if the dump is encrypted and there is no private key.
    fn unread(&self) -> Option<String> {
        let is_usable = matches!(self.report.verdict, Verdict::Sound | Verdict::Warnings);
        let name = &self.report.name;
        let is_text = self.report.outcomes.contains_key(rules::TD_MEMBER.id);
        (is_usable && self.scanned.is_none()).then(|| match is_text {
            true => format!("{name}: a text dump, which contains no memory"),
            false => format!("{name}: encrypted; use --key PRIVATE.pem"),
        })
    }

    /// A dump that could not be verified because no thread could be created.
    fn without_thread(name: &str, error: &std::io::Error) -> Self {
        let report = Report {
            name: name.into(),
            time: Duration::ZERO,
            depth: Depth::Default,
            strict: false,
            facts: Facts::default(),
            findings: Vec::new(),
            outcomes: BTreeMap::new(),
            verdict: Verdict::Failed(format!("cannot create a thread: {error}")),
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

/// Compares two dumps. `options` apply to both, except for `name`. Under `strict` headers must be
/// equal; `kernel` supplies symbols of pages that differ; `per_rule` limits the differences of each
/// kind to store; filters apply only to the reports.
pub fn compare(
    sources: [Arc<dyn ReadAt>; 2],
    names: [&str; 2],
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Comparison {
    let (merged, a, b) = verify_both(&sources, names, options, progress, [None; 2]);
    // Only the length shows whether the page tables of 32-bit arm are padded, and the length of a
    // compressed dump is known at its end.
    let lens = [&a, &b].map(|side| side.intake.padded_len());
    let (merged, a, b) = match lens {
        [None, None] => (merged, a, b),
        lens => verify_both(&sources, names, options, progress, lens),
    };
    finish(merged, a, b, options)
}

/// Verifies both dumps and compares their pages at the same time. `lens` are the payloads' lengths,
/// where they must be known in advance.
fn verify_both(
    sources: &[Arc<dyn ReadAt>; 2],
    names: [&str; 2],
    options: &Options<'_>,
    progress: &dyn Progress,
    lens: [Option<u64>; 2],
) -> (Merged, Side, Side) {
    let (give_a, take_a) = sync_channel(QUEUE_LEN);
    let (give_b, take_b) = sync_channel(QUEUE_LEN);
    let side = |number: usize, give| {
        let (source, name) = (Arc::clone(&sources[number]), names[number]);
        let options = options
            .clone()
            .name(name)
            .depth(Depth::Default)
            .strict(false)
            .kernel(None)
            .info(None);
        let mut intake = Intake::tapped(options.memory, tap(give));
        if let Some(len) = lens[number] {
            intake.expect_exactly(len);
        }
        let examined = verify_into(source, &options, progress, &mut intake);
        // Dropping the tap sends the last batch.
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
        // A side without a thread sends no pages.
        merged.merge(PageStream::new(take_a), PageStream::new(take_b));
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
    // A page that differs is in both dumps, so the page tables of either describe it.
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
    let unread = [&a, &b].into_iter().find_map(Side::unread);
    let answer = match broken([&a.report, &b.report]).or(unread) {
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

/// The reason why one of the dumps cannot be compared.
fn broken(reports: [&Report; 2]) -> Option<String> {
    reports.into_iter().find_map(|report| {
        let why = match &report.verdict {
            Verdict::Sound | Verdict::Warnings => return None,
            Verdict::Broken => report.findings.first().map_or_else(
                || "no finding was selected".to_string(),
                |f| format!("{}, {}", f.rule.id, crate::render::line(f)),
            ),
            Verdict::NotADump(why) | Verdict::Failed(why) => why.clone(),
        };
        Some(format!("{}: {}: {why}", report.name, report.verdict.name()))
    })
}

/// Whether the section `what` can be compared: versions without `dump_avail` describe less memory,
/// and version 1 of amd64 has page tables of another format.
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

/// Collects values that differ.
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
