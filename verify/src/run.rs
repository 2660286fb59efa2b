//! The verification of one dump, from its bytes to its report.
//!
//! The order is: container and header; the frames, decoded and passed to the intake in one pass; the
//! seal, compared with the frames; checks that need lengths from several sources; last, if there is
//! a kernel, its variables, read through the page tables.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use livecore_compress::seal::format::MAGIC as SEAL_MAGIC;
use livecore_compress::{Codec, Progress, ReadAt};
use livecore_defs::kerneldump::{DEVICE_METADATA, DUMPLENGTH};

use crate::codec::{self, Content, Context, Walked};
use crate::container::{self, Layout};
use crate::encryption::{self, Cipher, Encrypted, KeyBytes, KeyLocation, Opaque, View};
use crate::facts::{Container, Facts};
use crate::finding::{Location, Sink};
use crate::header::Refusal;
use crate::info::Info;
use crate::input::{Input, quoted};
use crate::intake::{Intake, Stated};
use crate::kdh::{Kdh, port_matches};
use crate::liveness::{self, Liveness};
use crate::memory::Memory;
use crate::options::{Depth, Options};
use crate::records::ProducerRecords;
use crate::report::{Report, Stop, Verdict};
use crate::rule::{Group, Rule, Severity};
use crate::tables::{Lookup, Tables};
use crate::{kernel, probe, rules, seal, textdump};

/// Verifies the dump in `source`.
///
/// Never panics and never fails: the report's verdict states what went wrong. `options.memory`
/// bounds the memory used, whatever sizes the dump states.
pub fn verify(source: Arc<dyn ReadAt>, options: &Options<'_>, progress: &dyn Progress) -> Report {
    let new = || Intake::new(options.memory, options.depth > Depth::Quick);
    let mut intake = new();
    let found = verify_into(Arc::clone(&source), options, progress, &mut intake);
    // Only the length shows whether the page tables of 32-bit arm are padded, and the length of a
    // compressed dump is known at its end.
    match intake.padded_len() {
        None => found.report,
        Some(len) => {
            let mut intake = new();
            intake.expect_exactly(len);
            verify_into(source, options, progress, &mut intake).report
        }
    }
}

/// A report, with the header and layout that `compare` needs.
pub(crate) struct Examined {
    pub(crate) report: Report,
    /// The kerneldumpheader.
    pub(crate) header: Option<Kdh>,
    /// The scanned file, if the verification completed.
    pub(crate) scanned: Option<ScannedFile>,
}

/// A file, its layout and its frames.
pub(crate) struct ScannedFile {
    pub(crate) input: Input,
    pub(crate) layout: Layout,
    pub(crate) walked: Walked,
}

/// As [`verify`], with the caller's intake.
pub(crate) fn verify_into(
    source: Arc<dyn ReadAt>,
    options: &Options<'_>,
    progress: &dyn Progress,
    intake: &mut Intake,
) -> Examined {
    let started = Instant::now();
    let mut sink = Sink::new(options.filter.clone(), options.per_rule);
    let mut facts = Facts::default();
    let (mut header, mut live) = (None, None);
    let ran = Run {
        options,
        progress,
        sink: &mut sink,
        facts: &mut facts,
        header: &mut header,
        live: &mut live,
    }
    .run(source, intake);
    let (scanned, stop) = match ran {
        Ok(scanned) => (Some(scanned), None),
        Err(stop) => (None, Some(stop)),
    };
    let (errors, warnings) = (sink.count(Severity::Error), sink.count(Severity::Warning));
    // Even under `strict`, inconsistencies of a live dump do not make it broken.
    let unexplained =
        sink.count_of(|rule| rule.severity >= Severity::Warning && !liveness::excuses(live, rule));
    let stream = |rule: &Rule| rule.group == Group::Codec && rule.severity == Severity::Error;
    let damaged = sink.broke(&rules::KDH_PARITY) || sink.count_of(stream) > 0;
    let verdict = match stop {
        // The header or the stream is damaged, so the start of the payload may be too.
        Some(Stop::NotADump(_)) if damaged => Verdict::Broken,
        Some(Stop::NotADump(why)) => Verdict::NotADump(why),
        Some(Stop::Failed(why)) => Verdict::Failed(why),
        Some(Stop::Encrypted) if errors == 0 && !options.strict => Verdict::Warnings,
        Some(Stop::Encrypted) => Verdict::Broken,
        None | Some(Stop::TextDump) if errors > 0 || options.strict && unexplained > 0 => {
            Verdict::Broken
        }
        None | Some(Stop::TextDump) if warnings > 0 => Verdict::Warnings,
        None | Some(Stop::TextDump) => Verdict::Sound,
    };
    let (mut findings, outcomes) = sink.into_parts();
    let liveness = Liveness::new(live, &facts, &outcomes);
    findings.sort_by_key(|f| (std::cmp::Reverse(f.rule.severity), f.space as u8, f.offset));
    let report = Report {
        name: options.name.clone(),
        time: started.elapsed(),
        depth: options.depth,
        strict: options.strict,
        facts,
        findings,
        outcomes,
        verdict,
        liveness,
    };
    Examined {
        report,
        header,
        scanned,
    }
}

/// The encrypted file around decrypted data.
struct Outer {
    /// The header of the encrypted sealed file.
    header: Option<Kdh>,
    /// Size of the encrypted data.
    len: u64,
}

/// Passes on the request to stop, but no progress: for bytes that are read again later.
struct Uncounted<'a>(&'a dyn Progress);

impl Progress for Uncounted<'_> {
    fn advance(&self, _: u64, _: u64) {}

    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }
}

struct Run<'a> {
    options: &'a Options<'a>,
    progress: &'a dyn Progress,
    sink: &'a mut Sink,
    facts: &'a mut Facts,
    header: &'a mut Option<Kdh>,
    /// Whether the machine was running during the dump, if that is known.
    live: &'a mut Option<bool>,
}

impl Run<'_> {
    fn run(self, source: Arc<dyn ReadAt>, intake: &mut Intake) -> Result<ScannedFile, Stop> {
        let input = Input::new(source)?;
        let size = input.size();
        self.facts.size = size;
        if textdump::check(&input, self.options.memory, self.facts, self.sink)? {
            return Err(Stop::TextDump);
        }
        match encryption::find(&input, self.options.key_file)? {
            None => self.plain(input, None, intake),
            Some(found) => self.encrypted(&input, found, intake),
        }
    }

    /// Verifies an encrypted dump: what is not encrypted, then, with the private key, the data.
    fn encrypted(
        mut self,
        input: &Input,
        found: Encrypted,
        intake: &mut Intake,
    ) -> Result<ScannedFile, Stop> {
        let Encrypted {
            mut data,
            header,
            place,
        } = found;
        let (key, outer, cipher, end) = match place {
            KeyLocation::Here(key) => (key, None, None, input.size()),
            KeyLocation::Seal(start) => {
                let sealed = self.outer_seal(input, start, &mut data)?;
                let (bytes, at) = sealed.key.unwrap_or((Vec::new(), data.end));
                let key = KeyBytes {
                    reserved: sealed.header.as_ref().map(Kdh::dumpkeysize),
                    blocksize: sealed.header.as_ref().map(Kdh::blocksize),
                    ..KeyBytes::new(bytes, "key block", at)
                };
                // The data is a complete file.
                (key, sealed.header, Some(sealed.cipher), data.end)
            }
        };
        let block = key.check(self.sink).filter(|block| {
            let same = cipher.is_none_or(|number| Cipher::of_number(number) == Some(block.cipher));
            self.sink.check(&rules::KEY_CIPHER, same, &key.place, |f| {
                f.found("another cipher than in the seal's header")
                    .expected("the same cipher")
            })
        });
        let keys = self.options.keys;
        if header.is_some() && (keys.is_none() || block.is_none()) {
            // With a key, this is a part of verifying the decrypted file.
            let layout = container::detect(input)?;
            self.facts.container = Some(layout.container);
            self.facts.codec = header.as_ref().and_then(Kdh::codec);
            layout.check(input, self.sink)?;
        }
        let Some(block) = block else {
            return Err(Stop::Encrypted);
        };
        let stated = header.as_ref().or(outer.as_ref());
        let len = data.end - data.start;
        encryption::check_data(&block, stated, len, &key.place, self.sink);
        let one_time = encryption::one_time_key(&block, keys, &key.place, self.sink)?;
        let (size, sealed) = (self.facts.size, outer.is_some());
        let view = View::new(input.source(), data, end, block, one_time);
        let input = Input::new(Arc::new(view))?;
        let parts = (&mut *self.sink, &mut *self.facts);
        let outer = Outer { header: outer, len };
        let inner = Run {
            options: self.options,
            progress: self.progress,
            sink: parts.0,
            facts: parts.1,
            header: self.header,
            live: self.live,
        };
        let scanned = inner.plain(input, Some(outer), intake);
        self.facts.size = size;
        if sealed {
            self.facts.container = Some(Container::Sealed);
        }
        let is_dump = !matches!(scanned, Err(Stop::NotADump(_)));
        self.sink
            .check(&rules::KEY_CONTENT, is_dump, &key.place, |f| {
                f.found("data that does not begin like a dump after decryption")
                    .expected("a minidump or a full dump")
            });
        match is_dump {
            true => scanned,
            false => Err(Stop::Encrypted),
        }
    }

    /// Verifies the seal of an encrypted file, whose content it does not decrypt. Sets the range of the
    /// encrypted data.
    fn outer_seal(
        &mut self,
        input: &Input,
        start: u64,
        data: &mut Range<u64>,
    ) -> Result<seal::Sealed, Stop> {
        let layout = Layout {
            container: Container::Sealed,
            header: None,
            leading: None,
            start: 0,
            end: input.size(),
            codec: Codec::None,
            footer: true,
        };
        self.facts.container = Some(Container::Sealed);
        let walked = codec::walk(
            &layout,
            &mut Context {
                input,
                options: self.options,
                progress: &Uncounted(self.progress),
                sink: self.sink,
                intake: &mut Opaque,
            },
        )?;
        let sealed = seal::check(input, Codec::None, start, &walked, self.sink)?;
        *data = 0..walked.end;
        if let Some(header) = &sealed.header {
            header.check_sealed(true, self.sink);
            let (stated, place) = (header.dumplength(), header.at(DUMPLENGTH.offset));
            let right = stated == walked.end;
            self.sink.check(&rules::KDH_DUMPLENGTH, right, &place, |f| {
                f.found(format!("dumplength {stated:#x}"))
                    .expected(format!("{:#x}, the length of the data", walked.end))
            });
        }
        Ok(sealed)
    }

    /// Verifies a dump whose data is not encrypted, or decrypted by `input`. `outer` describes the
    /// encrypted file around it.
    fn plain(
        self,
        input: Input,
        outer: Option<Outer>,
        intake: &mut Intake,
    ) -> Result<ScannedFile, Stop> {
        let layout = container::detect(&input)?;
        self.facts.container = Some(layout.container);
        self.facts.codec = Some(layout.codec);
        layout.check(&input, self.sink)?;
        if let Some(header) = &layout.header
            && let len @ 1.. = stated_content(header, &layout)
        {
            intake.expect_exactly(len);
        }
        let walked = codec::walk(
            &layout,
            &mut Context {
                input: &input,
                options: self.options,
                progress: self.progress,
                sink: self.sink,
                intake,
            },
        )?;
        self.after(&input, &layout, &walked, outer, intake)?;
        Ok(ScannedFile {
            input,
            layout,
            walked,
        })
    }

    fn after(
        mut self,
        input: &Input,
        layout: &Layout,
        walked: &Walked,
        outer: Option<Outer>,
        intake: &mut Intake,
    ) -> Result<(), Stop> {
        let stored = walked.end.saturating_sub(layout.start);
        match intake.refusal() {
            Some(Refusal::Unsupported(why)) => return Err(Stop::NotADump(why)),
            Some(Refusal::Foreign) if walked.seal.is_none() && layout.header.is_none() => {
                let what = intake.other().unwrap_or("the payload is not a minidump");
                return Err(Stop::NotADump(what.into()));
            }
            // A payload in another codec than the header states cannot be read: KDH-CODEC reports it.
            Some(Refusal::Foreign) if !stored_as_stated(layout) => {}
            // The seal or the kerneldumpheader shows that the file is a dump.
            Some(Refusal::Foreign) => {
                let place = Location::payload("minidump header", 0);
                self.sink.broken(&rules::MD_MAGIC, &place, |f| {
                    f.found("an unknown magic").expected("a minidump")
                });
            }
            Some(Refusal::Broken) | None => {}
        }
        let info = self.options.info.map(Info::parse);
        let mut header = layout.header.clone();
        let (mut producer, mut receipt) = (None, None);
        let mut stated = header.as_ref().map(|h| Stated {
            by: "the kerneldumpheader",
            len: stated_content(h, layout),
            may_be_short: false,
        });
        if let Some(start) = walked.seal {
            self.facts.container = Some(Container::Sealed);
            if let Some(at) = walked.without_length {
                let place = Location::file("gzip member", at);
                self.sink.broken(&rules::GZIP_LENGTH, &place, |f| {
                    f.found("no extra field with its length")
                        .expected("the subfield `LC` of a sealed file's members")
                });
            }
            let sealed = seal::check(input, layout.codec, start, walked, self.sink)?;
            stated = Some(Stated {
                by: "the seal",
                len: sealed.content_len,
                may_be_short: true,
            });
            self.facts.torn_pages = sealed.producer.torn;
            producer = Some((sealed.producer, sealed.attachment_at));
            receipt = Some((sealed.receipt, sealed.attachment_at));
            if let Some(sealed) = &sealed.header {
                sealed.check_sealed(false, self.sink);
            }
            header = header.or(sealed.header);
        }
        let encrypted_len = outer.as_ref().map(|outer| outer.len);
        let header = header.or(outer.and_then(|outer| outer.header));
        let info_len = match &info {
            Some(Some(info)) if layout.codec == Codec::None => info.length(),
            _ => None,
        };
        // savecore(8) drops zeros at the end of a dump, and states the full length.
        let sparse = stated.is_none()
            && walked.whole
            && walked.content_len.is_multiple_of(SPARSE_UNIT)
            && info_len.is_some_and(|len| walked.content_len < len)
            && info_len == intake.formula();
        if let (None, Some(len)) = (stated, info_len.filter(|_| !sparse)) {
            let may_be_short = false;
            stated = Some(Stated {
                by: "info.N",
                len,
                may_be_short,
            });
        }
        intake.finish(walked.content_len, walked.is_measured(), stated, self.sink)?;
        let kernel = self.options.kernel.filter(|_| walked.complete);
        let tables = intake.take_tables();
        let intake = &*intake;
        let memory = || Memory::new(input, layout, walked, intake, self.options.memory);
        let mut tables = tables.zip(intake.lookup());
        if let Some((tables, lookup)) = &mut tables
            && lookup.header.radix
        {
            self.walk_radix(tables, lookup, memory().filter(|_| walked.complete))?;
        }
        // Without a walk, nothing is known of the mappings.
        let tables = tables.filter(|(tables, lookup)| tables.is_walked(lookup));
        if let Some((tables, lookup)) = &tables {
            tables.finish(lookup, self.sink);
            self.facts.mapped = Some((tables.present, tables.absent + tables.outside));
        }
        if walked.seal.is_none() && walked.complete {
            self.check_trailing(input, layout, walked, intake)?;
        }
        intake.add_facts(self.facts);
        if let (Some((receipt, at)), Some(lookup)) = (receipt, intake.lookup()) {
            let place = Location::file("seal attachment", at);
            receipt.check(lookup.avail, lookup.bits, &place, self.sink);
        }
        if let (Some((producer, at)), Some(pages)) = (producer, self.facts.pages) {
            producer.check_pages(pages, &Location::file("seal attachment", at), self.sink);
        }
        if walked.complete {
            self.facts.stored_len = Some(stored);
            self.facts.frames = (layout.codec != Codec::None).then_some(walked.frames);
            self.facts.content_len = walked.is_measured().then_some(walked.content_len);
        }
        self.header.clone_from(&header);
        let producer = producer.map(|(producer, _)| producer).unwrap_or_default();
        *self.live = ran_on(layout.container, header.as_ref(), producer);
        // Salvage drops the bits of lost pages, often all after a cut.
        if let Some((tables, lookup)) = &tables
            && *self.live != Some(false)
            && !self.sink.broke(&rules::SEAL_SALVAGED)
        {
            tables.check_eighth(lookup, self.sink);
        }
        if let Some(header) = &header {
            check_lengths(header, layout, walked, stored, self.sink);
            check_payload(header, layout.codec, self.facts.architecture, self.sink);
        }
        if let Some(info) = info {
            let place = Location::info("info file", 1);
            self.sink
                .check(&rules::INFO_FORMAT, info.is_some(), &place, |f| {
                    f.found("an unknown form")
                        .expected("a form of savecore(8) or netdumpd")
                });
            if let Some(info) = info {
                let len = (!sparse).then_some(encrypted_len.unwrap_or(stored));
                info.check(self.facts, len, walked, header.as_ref(), self.sink);
            }
        }
        let memory = kernel.and_then(|_| memory());
        let mut nodump = None;
        if let Some(kernel) = kernel {
            match &memory {
                Some(memory) => {
                    let deep = self.options.depth == Depth::Deep;
                    let ring = intake.ring_sum();
                    kernel::check(kernel, memory, header.as_ref(), ring, deep, self.sink);
                    if memory.is_random() && !self.sink.broke(&rules::KRN_VERSION) {
                        nodump = kernel.nodump(memory);
                    }
                }
                None => kernel::check_file(kernel, intake.port(), header.as_ref(), self.sink),
            }
        }
        if let Some((tables, lookup)) = &tables {
            tables.check_absent(lookup, nodump.as_deref(), self.sink);
        }
        Ok(())
    }
}

impl Run<'_> {
    /// Walks radix page tables. The tables of a level can precede those of the level above, so they are
    /// read after the pass over the dump, if its pages can be read at random.
    fn walk_radix(
        &mut self,
        tables: &mut Tables,
        lookup: &Lookup<'_>,
        memory: Option<Memory<'_>>,
    ) -> Result<(), Stop> {
        let Some(memory) = memory.filter(Memory::is_random) else {
            return Ok(());
        };
        let read = |at, buf: &mut [u8]| memory.payload_bytes(at, buf);
        tables.walk_radix(lookup, self.options.memory, read, self.sink)
    }

    /// Checks what follows the frames, and whether they end where the payload does.
    fn check_trailing(
        &mut self,
        input: &Input,
        layout: &Layout,
        walked: &Walked,
        intake: &Intake,
    ) -> Result<(), Stop> {
        let saved = layout.container == Container::Saved && layout.codec != Codec::None;
        let trailing = input.size().saturating_sub(walked.end);
        let incomplete = walked.is_measured() && intake.lacks(walked.content_len);
        let sealed = trailing > 0 && has_seal(input, layout, walked.end)?;
        if sealed {
            self.facts.container = Some(Container::Sealed);
        }
        // Only members of sealed files state their length.
        let cut = incomplete && (walked.is_uniform() || walked.has_lengths && walked.frames > 0);
        let place = Location::file("after the frames", walked.end);
        let early = trailing > 0 && incomplete;
        if saved && (early || cut) || sealed {
            let bytes = input.up_to(walked.end, 64)?;
            self.sink.broken(&rules::CODEC_INTERRUPTED, &place, |f| {
                f.found(match trailing {
                    0 => "the end of the file, and the payload is not complete".into(),
                    n => format!("{n} bytes that are not a frame, and the payload is not complete"),
                })
                .expected("frames to the end of the payload")
                .bytes(walked.end, &bytes)
            });
            return Ok(());
        }
        if saved {
            self.sink.passed(&rules::CODEC_INTERRUPTED);
        }
        if walked.whole || walked.skimmed {
            layout.check_trailing(input, walked.end, self.sink)?;
        }
        Ok(())
    }
}

/// Whether the machine was running during the dump. It was if the file is a raw live file, if the
/// producer recorded torn pages, or if the kernel wrote the header for a file. It was not if the
/// header has a panic string. Otherwise `None`: not known.
fn ran_on(container: Container, header: Option<&Kdh>, producer: ProducerRecords) -> Option<bool> {
    let header = header?;
    if !header.panicstring().is_empty() {
        return Some(false);
    }
    // A dump made from ddb(4) has no panic string either; its block size is that of a disk.
    let file = matches!(header.blocksize(), 4096 | 16384) && container != Container::DumpDevice;
    let live = container == Container::Raw || producer.torn.is_some() || file && !producer.rebuilt;
    live.then_some(true)
}

/// Whether a seal, or a remnant of one, follows the frames that end at `end`: the file ends like a
/// sealed one, or an uncompressed payload is followed by the magic of a seal.
fn has_seal(input: &Input, layout: &Layout, end: u64) -> Result<bool, Stop> {
    if layout.container != Container::Saved {
        return Ok(false);
    }
    let next = input.array::<8>(end)?;
    Ok(probe::ends_sealed(input, layout.codec)?
        || layout.codec == Codec::None && next == Some(SEAL_MAGIC))
}

/// savecore(8) omits runs of zeros of this length that begin at a multiple of it.
const SPARSE_UNIT: u64 = 4096;

/// Whether the payload begins like one of the codec that the header states.
fn stored_as_stated(layout: &Layout) -> bool {
    let stated = layout.header.as_ref().and_then(Kdh::codec);
    stated.is_none_or(|codec| codec == layout.codec)
}

/// The content length that a header states; 0 where it states none.
fn stated_content(header: &Kdh, layout: &Layout) -> u64 {
    match header.codec() {
        Some(Codec::None) => header.dumplength(),
        _ if fills_medium(layout) || !header.has_dumpextent() => 0,
        _ => header.dumpextent(),
    }
}

/// Whether a compressed dump was given all of a medium that is too small for it uncompressed. Its
/// `dumpextent` is then the medium's size, not the content's.
fn fills_medium(layout: &Layout) -> bool {
    layout
        .leading
        .as_ref()
        .is_some_and(|leading| leading.offset == DEVICE_METADATA)
}

fn check_lengths(header: &Kdh, layout: &Layout, walked: &Walked, stored: u64, sink: &mut Sink) {
    let walked_all = walked.complete && (walked.whole || walked.skimmed || walked.seal.is_some());
    if walked_all {
        let stated = header.dumplength();
        let place = header.at(DUMPLENGTH.offset);
        sink.check(&rules::KDH_DUMPLENGTH, stated == stored, &place, |f| {
            f.found(format!("dumplength {stated:#x}"))
                .expected(format!("{stored:#x}, the length of the stored payload"))
        });
    }
    if !header.has_dumpextent() {
        return;
    }
    let (extent, place) = (header.dumpextent(), header.at_dumpextent());
    let content = walked.content_len;
    let device = layout.container == Container::DumpDevice;
    let right = match layout.codec {
        Codec::None => extent == header.dumplength(),
        _ if device && fills_medium(layout) => extent >= header.dumplength(),
        _ => !walked.whole || extent == content,
    };
    sink.check(&rules::KDH_DUMPEXTENT, right, &place, |f| {
        let expected = match layout.codec {
            Codec::None => format!("{:#x}, the dumplength", header.dumplength()),
            _ => format!("{content:#x}, the length of the decompressed payload"),
        };
        f.found(format!("dumpextent {extent:#x}"))
            .expected(expected)
    });
}

fn check_payload(header: &Kdh, codec: Codec, architecture: Option<&str>, sink: &mut Sink) {
    if let Some(stated) = header.codec() {
        let place = header.at_compression();
        sink.check(&rules::KDH_CODEC, stated == codec, &place, |f| {
            f.found(stated.name())
                .expected(format!("{}, the payload's codec", codec.name()))
        });
    }
    if let Some(architecture) = architecture {
        let place = header.at(livecore_defs::kerneldump::ARCHITECTURE.offset);
        let right = port_matches(header.architecture(), architecture);
        sink.check(&rules::KDH_PAYLOAD, right, &place, |f| {
            f.found(quoted(header.architecture()))
                .expected(format!("an {architecture} port, from the payload's magic"))
        });
    }
}
