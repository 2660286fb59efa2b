//! Two dumps side by side: do they hold the same state of a machine?
//!
//! Both are verified at the same time, each on a thread of its own, and what they hold is compared
//! while it goes by: data pages come in ascending physical address on both sides, so two streams are
//! merged as two sorted lists are. Containers, codecs, versions and frame sizes play no part. Each
//! side hands pages over in batches through a bounded channel; a side that is ahead waits. Memory is
//! what two verifications need, and a few batches.
//!
//! Sections are compared by digest. Headers are compared field by field and are told, but do not
//! make two dumps differ: a conversion may have had to rebuild one.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use compress::{Progress, ReadAt};
use serde_json::{Value, json};

use crate::intake::{Intake, Tap};
use crate::kdh::Kdh;
use crate::options::{Depth, Options};
use crate::report::{Report, Verdict};
use crate::run::verify_into;

/// Pages handed over at a time.
const BATCH: usize = 64;
/// Batches that wait for the other side.
const WAITING: usize = 4;
/// Bytes of a page that are shown where two begin to differ.
const SHOWN: usize = 16;

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

/// A page whose contents differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageDifference {
    /// Its physical address.
    pub pa: u64,
    /// Where it is in the direct map, if there is one.
    pub direct: Option<u64>,
    /// The first byte that differs, from the page's beginning.
    pub offset: usize,
    /// At most 16 bytes of the first dump from there on.
    pub a: Vec<u8>,
    /// And of the second.
    pub b: Vec<u8>,
}

/// Pages: how many, and the first of them as ranges of physical addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pages {
    /// How many.
    pub count: u64,
    /// The first ranges, `start..end`.
    pub ranges: Vec<(u64, u64)>,
}

impl Pages {
    fn add(&mut self, pa: u64, page: u64, keep: usize) {
        self.count += 1;
        let room = self.ranges.len() < keep;
        match self.ranges.last_mut() {
            Some(last) if last.1 == pa => last.1 = pa + page,
            _ if room => self.ranges.push((pa, pa + page)),
            _ => {}
        }
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
    pub sections: Vec<Difference>,
    /// Header fields that differ, which does not make the dumps differ.
    pub headers: Vec<Difference>,
}

type Batch = Vec<(u64, Vec<u8>)>;

/// What is left of a side when its pages have gone by.
struct Side {
    report: Report,
    header: Option<Kdh>,
    intake: Intake,
}

/// Compares two dumps. `options` are for both, their names aside; no kernel is used, and filters
/// apply to the reports alone.
pub fn compare(
    sources: [Arc<dyn ReadAt>; 2],
    names: [&str; 2],
    options: &Options<'_>,
    progress: &dyn Progress,
) -> Comparison {
    let [source_a, source_b] = sources;
    let (give_a, take_a) = sync_channel(WAITING);
    let (give_b, take_b) = sync_channel(WAITING);
    let side = |source, name: &str, give| {
        let options = Options {
            name: name.into(),
            depth: Depth::Default,
            memory: options.memory / 2,
            kernel: None,
            info: None,
            ..options.clone()
        };
        let mut intake = Intake::tapped(options.memory, tap(give));
        let (report, header) = verify_into(source, &options, progress, &mut intake);
        // The last batch is given when the tap is dropped.
        intake.untap();
        Side {
            report,
            header,
            intake,
        }
    };
    let mut merged = Merged::new(options.per_rule);
    let sides = std::thread::scope(|scope| {
        let a = scope.spawn(|| side(source_a, names[0], give_a));
        let b = scope.spawn(|| side(source_b, names[1], give_b));
        merged.merge(Pulled::new(take_a), Pulled::new(take_b));
        (a.join(), b.join())
    });
    let [a, b] = [sides.0, sides.1]
        .map(|side| side.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
    merged.finish(a, b)
}

/// A tap that gives batches of pages.
fn tap(give: SyncSender<Batch>) -> Tap {
    struct Giver {
        batch: Batch,
        give: SyncSender<Batch>,
    }
    impl Drop for Giver {
        fn drop(&mut self) {
            // Nobody listens any more if the other side has failed.
            let _ = self.give.send(std::mem::take(&mut self.batch));
        }
    }
    let mut giver = Giver {
        batch: Vec::with_capacity(BATCH),
        give,
    };
    Box::new(move |pa, bytes| {
        giver.batch.push((pa, bytes.to_vec()));
        giver.batch.len() < BATCH || giver.give.send(std::mem::take(&mut giver.batch)).is_ok()
    })
}

/// The pages of one side, one at a time.
struct Pulled {
    take: Receiver<Batch>,
    batch: std::vec::IntoIter<(u64, Vec<u8>)>,
}

impl Pulled {
    fn new(take: Receiver<Batch>) -> Self {
        Self {
            take,
            batch: Vec::new().into_iter(),
        }
    }
}

impl Iterator for Pulled {
    type Item = (u64, Vec<u8>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(page) = self.batch.next() {
                return Some(page);
            }
            self.batch = self.take.recv().ok()?.into_iter();
        }
    }
}

struct Merged {
    keep: usize,
    same: u64,
    differ: Pages,
    pages: Vec<PageDifference>,
    only_a: Pages,
    only_b: Pages,
}

impl Merged {
    fn new(keep: usize) -> Self {
        Self {
            keep,
            same: 0,
            differ: Pages::default(),
            pages: Vec::new(),
            only_a: Pages::default(),
            only_b: Pages::default(),
        }
    }

    /// Goes through both lists of pages, which ascend.
    fn merge(&mut self, mut a: Pulled, mut b: Pulled) {
        let (mut left, mut right) = (a.next(), b.next());
        loop {
            match (&left, &right) {
                (None, None) => return,
                (Some((pa, bytes)), other) if other.as_ref().is_none_or(|o| *pa < o.0) => {
                    self.only_a.add(*pa, bytes.len() as u64, self.keep);
                    left = a.next();
                }
                (other, Some((pa, bytes))) if other.as_ref().is_none_or(|o| *pa < o.0) => {
                    self.only_b.add(*pa, bytes.len() as u64, self.keep);
                    right = b.next();
                }
                (Some((pa, one)), Some((_, two))) => {
                    self.page(*pa, one, two);
                    left = a.next();
                    right = b.next();
                }
                // The two arms above take every side that has a page.
                _ => return,
            }
        }
    }

    fn page(&mut self, pa: u64, a: &[u8], b: &[u8]) {
        if a == b {
            self.same += 1;
            return;
        }
        self.differ.add(pa, a.len() as u64, self.keep);
        if self.pages.len() < self.keep {
            let first = a.iter().zip(b).position(|(a, b)| a != b);
            let offset = first.unwrap_or(a.len().min(b.len()));
            let shown = |bytes: &[u8]| bytes[offset..bytes.len().min(offset + SHOWN)].to_vec();
            self.pages.push(PageDifference {
                pa,
                direct: None,
                offset,
                a: shown(a),
                b: shown(b),
            });
        }
    }

    fn finish(mut self, a: Side, b: Side) -> Comparison {
        let sections = sections(&a.intake, &b.intake);
        if let Some(header) = a.intake.header().filter(|h| h.is_amd64()) {
            for page in &mut self.pages {
                let at = header.dmapbase.checked_add(page.pa);
                page.direct = at.filter(|at| *at < header.dmapend);
            }
        }
        let pages = self.differ.count + self.only_a.count + self.only_b.count;
        let broken = [&a.report, &b.report].into_iter().find_map(|report| {
            let why = match &report.verdict {
                Verdict::Sound | Verdict::Warnings => return None,
                Verdict::Broken if report.count(crate::Severity::Error) == 0 => return None,
                Verdict::Broken => report
                    .findings
                    .first()
                    .map_or("it is broken", |f| f.rule.claim),
                Verdict::NotADump(why) | Verdict::Failed(why) => why.as_str(),
            };
            Some(format!("{}: {}: {why}", report.name, report.verdict.name()))
        });
        let answer = match broken {
            Some(why) => Answer::CouldNot(why),
            None if pages == 0 && sections.is_empty() => Answer::Same,
            None => Answer::Differ,
        };
        Comparison {
            answer,
            same: self.same,
            differ: self.differ,
            pages: self.pages,
            only_a: self.only_a,
            only_b: self.only_b,
            sections,
            headers: headers(&a, &b),
            a: a.report,
            b: b.report,
        }
    }
}

/// Sections that differ. Versions that have no `dump_avail` say less of memory, and nothing else.
fn sections(a: &Intake, b: &Intake) -> Vec<Difference> {
    let (Some(one), Some(two)) = (a.header(), b.header()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut note = |what, a: String, b: String| {
        if a != b {
            found.push(Difference { what, a, b });
        }
    };
    let (architecture_a, architecture_b) = (one.architecture(), two.architecture());
    note("architecture", architecture_a.into(), architecture_b.into());
    let (digests_a, digests_b) = (a.digests(), b.digests());
    let hash = |digest: u64| format!("{digest:016x}");
    note("message buffer", hash(digests_a[1]), hash(digests_b[1]));
    if one.has_avail() && two.has_avail() {
        note("dump_avail", hash(digests_a[2]), hash(digests_b[2]));
    }
    if (one.version == 1) == (two.version == 1) {
        note("page tables", hash(digests_a[4]), hash(digests_b[4]));
    }
    found
}

fn headers(a: &Side, b: &Side) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut note = |what, a: String, b: String| {
        if a != b {
            found.push(Difference { what, a, b });
        }
    };
    if let (Some(one), Some(two)) = (a.intake.header(), b.intake.header()) {
        let versions = (one.version.to_string(), two.version.to_string());
        note("minidump version", versions.0, versions.1);
    }
    let (Some(one), Some(two)) = (&a.header, &b.header) else {
        let word = |h: &Option<Kdh>| if h.is_some() { "present" } else { "absent" };
        note(
            "kerneldumpheader",
            word(&a.header).into(),
            word(&b.header).into(),
        );
        return found;
    };
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    note("hostname", text(one.hostname()), text(two.hostname()));
    note(
        "versionstring",
        text(one.versionstring()),
        text(two.versionstring()),
    );
    note(
        "panicstring",
        text(one.panicstring()),
        text(two.panicstring()),
    );
    note(
        "dumptime",
        one.dumptime().to_string(),
        two.dumptime().to_string(),
    );
    found
}

impl Comparison {
    /// As JSON, `livecore.compare/1`.
    pub fn value(&self) -> Value {
        let pages = |pages: &Pages| {
            let ranges: Vec<_> = pages
                .ranges
                .iter()
                .map(|(start, end)| json!([format!("{start:#x}"), format!("{end:#x}")]))
                .collect();
            json!({ "count": pages.count, "ranges": ranges })
        };
        let differences = |list: &[Difference]| -> Vec<_> {
            list.iter()
                .map(|d| json!({ "what": d.what, "a": d.a, "b": d.b }))
                .collect()
        };
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        let shown: Vec<_> = self
            .pages
            .iter()
            .map(|page| {
                json!({
                    "pa": format!("{:#x}", page.pa),
                    "direct": page.direct.map(|at| format!("{at:#x}")),
                    "offset": page.offset,
                    "a": hex(&page.a),
                    "b": hex(&page.b),
                })
            })
            .collect();
        let why = match &self.answer {
            Answer::CouldNot(why) => Some(why),
            _ => None,
        };
        json!({
            "schema": "livecore.compare/1",
            "a": self.a.name,
            "b": self.b.name,
            "answer": self.answer.name(),
            "reason": why,
            "exit_code": self.answer.exit_code(),
            "pages_same": self.same,
            "pages_differ": pages(&self.differ),
            "pages_only_a": pages(&self.only_a),
            "pages_only_b": pages(&self.only_b),
            "differences": shown,
            "sections": differences(&self.sections),
            "headers": differences(&self.headers),
        })
    }

    /// For people.
    pub fn write_text(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        let (a, b) = (&self.a.name, &self.b.name);
        match &self.answer {
            Answer::Same => writeln!(out, "{a} and {b} are the same: {} pages", self.same)?,
            Answer::Differ => writeln!(
                out,
                "{a} and {b} differ: {} pages are the same, {} differ",
                self.same, self.differ.count
            )?,
            Answer::CouldNot(why) => writeln!(out, "{a} and {b} could not be compared: {why}")?,
        }
        for (name, pages) in [(a, &self.only_a), (b, &self.only_b)] {
            if pages.count > 0 {
                writeln!(out, "  {} pages are only in {name}", pages.count)?;
                for (start, end) in &pages.ranges {
                    writeln!(out, "    {start:#x}..{end:#x}")?;
                }
            }
        }
        for page in &self.pages {
            let direct = page.direct.map(|at| format!(" ({at:#x})"));
            let hex = |bytes: &[u8]| crate::input::hex(bytes);
            writeln!(
                out,
                "  page {:#x}{} differs at {:#x}:",
                page.pa,
                direct.unwrap_or_default(),
                page.offset
            )?;
            writeln!(out, "    {}\n    {}", hex(&page.a), hex(&page.b))?;
        }
        for (kind, list) in [("section", &self.sections), ("header", &self.headers)] {
            for d in list {
                writeln!(out, "  {kind} {}: {}, {}", d.what, d.a, d.b)?;
            }
        }
        Ok(())
    }
}
