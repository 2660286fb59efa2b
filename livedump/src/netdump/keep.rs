//! Processes a dump that has ended: seals it, or salvages what is left of it, and publishes its files.
//!
//! | what arrived                              | `vmcore.HOST.N`                                     |
//! |-------------------------------------------|-----------------------------------------------------|
//! | everything, and the result is sound       | a sealed dump                                       |
//! | a part                                    | a sealed dump of the pages that arrived (`salvage`) |
//! | an encrypted dump                         | `vmcore_encrypted.HOST.N` as it arrived, with `key.HOST.N` |
//! | anything else, or the disk is full        | the data as it arrived                              |
//!
//! `info.HOST.N` is published first and the dump last.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_compress::{Codec, OpenOptions, Progress, ReadAt, Window};
use livecore_defs::kerneldump;
use livecore_minidump::convert::{Target, Written, convert_any};
use livecore_minidump::encryption::KeyBlock;
use livecore_minidump::info::Info;

use livecore_minidump::salvage::{self, Salvage};
use livecore_minidump::{AnyDump, Error, KernelDumpHeader, Magic};

use super::session::{Ended, Why};
use super::store::{self, Incoming};
use crate::publish::{Destination, Notice, Options, Pending, PublishError, Sink, WriteError, info};

/// The block size of netdump's dumps, if the header states none that is valid.
const BLOCK: u64 = 4096;

/// The result of a check of a dump that was not published yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// Sound.
    Sound,
    /// Usable, with warnings.
    Warnings(String),
    /// Not sound, and the first reason.
    Unsound(String),
}

/// Checks a dump before it is published.
pub type Checking<'a> = &'a (dyn Fn(Arc<dyn ReadAt>, &dyn Progress) -> Check + Sync);

/// Options for processing dumps.
#[derive(Debug, Clone)]
pub struct KeepOptions {
    /// Container and encoding of the result.
    pub target: Target,
    /// Options for reading what arrived.
    pub stream: OpenOptions,
    /// Maximum memory for bitmaps, in bytes.
    pub bitmap_limit: u64,
}

/// The outcome of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is complete, sealed and sound.
    Complete,
    /// It is complete, and encrypted: without the private key, the server cannot check it.
    Encrypted,
    /// A part of it was kept as a sound dump.
    Salvaged,
    /// The data was kept as it arrived.
    Raw,
    /// Nothing was kept.
    Nothing,
}

impl Outcome {
    /// A word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Encrypted => "encrypted",
            Self::Salvaged => "salvaged",
            Self::Raw => "raw",
            Self::Nothing => "nothing",
        }
    }
}

/// Numbers of pages of a salvaged dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pages {
    /// Pages in the result.
    pub kept: u64,
    /// Pages that are lost.
    pub lost: u64,
}

/// The outcome of a dump, and its files.
#[derive(Debug)]
pub struct Kept {
    /// The outcome.
    pub outcome: Outcome,
    /// The host in the names of the files.
    pub host: String,
    /// The number in the names of the files.
    pub number: Option<u32>,
    /// The dump.
    pub dump: Option<PathBuf>,
    /// The info file.
    pub info: Option<PathBuf>,
    /// The key file of an encrypted dump.
    pub key: Option<PathBuf>,
    /// The kerneldumpheader that arrived, if it is one.
    pub header: Option<KernelDumpHeader>,
    /// The ranges of the dump that did not arrive.
    pub missing: Vec<Range<u64>>,
    /// Pages, for a salvaged dump.
    pub pages: Option<Pages>,
    /// Why the dump is not complete and sound.
    pub problems: Vec<String>,
    /// Warnings of the verifier about a dump that was sealed.
    pub warnings: Vec<String>,
    /// Whether a file could not be written.
    pub failed: bool,
    /// Notes about the directory.
    pub notes: Vec<Notice>,
    /// Size of the file of the dump in bytes.
    pub size: u64,
}

impl Kept {
    /// Whether data arrived. A herald and a last message alone, as a scanner could send them, are no
    /// dump.
    pub fn is_dump(&self) -> bool {
        self.outcome != Outcome::Nothing || self.failed
    }
}

/// What arrived of a dump, and what its header states.
struct Arrived<'a> {
    ended: &'a Ended,
    header: Option<KernelDumpHeader>,
    /// Size of the dump in bytes.
    len: u64,
    missing: Vec<Range<u64>>,
    problems: Vec<String>,
}

impl<'a> Arrived<'a> {
    fn new(ended: &'a Ended) -> Self {
        let mut problems = Vec::new();
        let header = header(ended, &mut problems);
        let end = ended.data.end();
        let stated = header.as_ref().filter(|header| header.parity_ok);
        let len = stated.map_or(end, |header| header.dumplength);
        // The last block is padded.
        let padded = stated.map_or(BLOCK, block_of).max(BLOCK);
        if len
            .checked_next_multiple_of(padded)
            .is_none_or(|most| end > most)
        {
            problems.push(format!(
                "{end} bytes arrived, and the kerneldumpheader states {len}"
            ));
        }
        let missing = ended.data.missing(len);
        if !missing.is_empty() {
            let bytes: u64 = missing.iter().map(|range| range.end - range.start).sum();
            let first = missing.first().map_or(0, |range| range.start);
            problems.push(format!(
                "{bytes} bytes in {} ranges did not arrive, the first at offset {first:#x}",
                missing.len()
            ));
        }
        if ended.why != Why::Finished {
            problems.push(ended.why.to_string());
        }
        Self {
            ended,
            header,
            len,
            missing,
            problems,
        }
    }

    /// Size of the data that arrived, without the padding of the last block.
    fn stored(&self) -> u64 {
        self.len.min(self.ended.data.end())
    }

    fn is_encrypted(&self) -> bool {
        !self.ended.key.is_empty() || self.header.as_ref().is_some_and(|h| h.dumpkeysize > 0)
    }
}

/// Parses the kerneldumpheader. A problem is added if there is none that can be used.
fn header(ended: &Ended, problems: &mut Vec<String>) -> Option<KernelDumpHeader> {
    let Some(bytes) = &ended.kdh else {
        problems.push("no kerneldumpheader arrived".into());
        return None;
    };
    match KernelDumpHeader::parse(bytes, 0) {
        Ok(Some(header)) if header.magic == Magic::Kernel => {
            if !header.parity_ok {
                problems.push("the parity of the kerneldumpheader is wrong".into());
            }
            Some(header)
        }
        Ok(_) => {
            problems.push("the kerneldumpheader has another magic".into());
            None
        }
        Err(error) => {
            problems.push(error.to_string());
            None
        }
    }
}

/// The block size of a header, if it is one.
fn block_of(header: &KernelDumpHeader) -> u64 {
    let size = u64::from(header.blocksize);
    match size.is_power_of_two() && (kerneldump::SIZE as u64..=1 << 20).contains(&size) {
        true => size,
        false => BLOCK,
    }
}

/// Processes a dump and publishes its files. `check` checks a dump before it is published.
///
/// A failure is in the result, with what was kept in spite of it.
pub(super) fn keep(
    incoming: Option<Incoming>,
    host: String,
    ended: &Ended,
    options: &KeepOptions,
    check: Checking<'_>,
    progress: &dyn Progress,
) -> Kept {
    let arrived = Arrived::new(ended);
    let mut kept = Kept {
        outcome: Outcome::Nothing,
        host,
        number: None,
        dump: None,
        info: None,
        key: None,
        header: arrived.header.clone(),
        missing: arrived.missing.clone(),
        pages: None,
        problems: arrived.problems.clone(),
        warnings: Vec::new(),
        failed: false,
        notes: Vec::new(),
        size: 0,
    };
    let Some(incoming) = incoming.filter(|_| !ended.data.is_empty()) else {
        kept.problems.push("no data arrived".into());
        return kept;
    };
    kept.number = Some(incoming.number());
    let work = Work {
        arrived: &arrived,
        options,
        check,
        progress,
    };
    if let Err(error) = work.publish(incoming, &mut kept) {
        kept.failed = true;
        kept.problems.push(error.to_string());
    }
    kept
}

/// A sealed dump that is ready to be published.
struct Sealed {
    file: Pending,
    written: Written,
    pages: Option<Pages>,
}

/// Why a dump was not sealed.
enum NotSealed {
    Work(String),
    Publish(PublishError),
}

impl From<Error> for NotSealed {
    fn from(error: Error) -> Self {
        Self::Work(error.to_string())
    }
}

impl From<PublishError> for NotSealed {
    fn from(error: PublishError) -> Self {
        Self::Publish(error)
    }
}

impl From<WriteError> for NotSealed {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Publish(error) => error.into(),
            WriteError::Minidump(error) => error.into(),
        }
    }
}

struct Work<'a> {
    arrived: &'a Arrived<'a>,
    options: &'a KeepOptions,
    check: Checking<'a>,
    progress: &'a dyn Progress,
}

impl Work<'_> {
    fn publish(&self, incoming: Incoming, kept: &mut Kept) -> Result<(), PublishError> {
        let (directory, host) = (incoming.directory.clone(), incoming.host.clone());
        let number = incoming.number();
        let info_path = incoming.path("info", "");
        if self.arrived.is_encrypted() {
            let key_path = incoming.path("key", "");
            let key = &self.arrived.ended.key;
            match KeyBlock::parse(key, 0) {
                Ok(_) => {}
                Err(_) if key.is_empty() => kept.problems.push("no whole key block arrived".into()),
                Err(error) => kept.problems.push(error.to_string()),
            }
            let header = self.arrived.header.clone().unwrap_or_default();
            store::put(
                info_path.clone(),
                self.info(&header, kept).as_bytes(),
                false,
            )?;
            kept.info = Some(info_path);
            if !key.is_empty() {
                store::put(key_path.clone(), key, false)?;
                kept.key = Some(key_path);
            }
            kept.size = self.arrived.stored();
            kept.dump = Some(incoming.publish("vmcore_encrypted", "", kept.size)?);
            kept.outcome = match kept.problems.is_empty() {
                true => Outcome::Encrypted,
                false => Outcome::Raw,
            };
        } else {
            match self.seal(&incoming, kept) {
                Ok(sealed) => {
                    kept.outcome = match kept.problems.is_empty() {
                        true => Outcome::Complete,
                        false => Outcome::Salvaged,
                    };
                    kept.pages = sealed.pages;
                    let text = self.info(&sealed.written.header, kept);
                    store::put(info_path.clone(), text.as_bytes(), false)?;
                    kept.info = Some(info_path);
                    let published = sealed.file.publish(&|_| Vec::new())?;
                    kept.size = sealed.written.file_len;
                    kept.dump = Some(published.path);
                }
                Err(error) => {
                    kept.failed |= matches!(error, NotSealed::Publish(_));
                    kept.problems.push(match error {
                        NotSealed::Work(what) => what,
                        NotSealed::Publish(error) => error.to_string(),
                    });
                    kept.outcome = Outcome::Raw;
                    self.raw(incoming, kept)?;
                }
            }
        }
        let dump = kept.dump.clone().unwrap_or_default();
        kept.notes
            .extend(store::point(&directory, &host, number, &dump)?);
        Ok(())
    }

    /// Publishes the data as it arrived.
    fn raw(&self, incoming: Incoming, kept: &mut Kept) -> Result<(), PublishError> {
        let header = self
            .arrived
            .header
            .clone()
            .unwrap_or_else(|| KernelDumpHeader {
                dumplength: self.arrived.len,
                ..KernelDumpHeader::default()
            });
        let codec = match &self.arrived.header {
            Some(header) => header.codec().unwrap_or(Codec::None),
            None => incoming.file().map_or(Codec::None, |file| sniff(&file)),
        };
        let path = incoming.path("info", "");
        store::put(path.clone(), self.info(&header, kept).as_bytes(), false)?;
        kept.info = Some(path);
        kept.size = self.arrived.stored();
        kept.dump = Some(incoming.publish("vmcore", codec.suffix(), kept.size)?);
        Ok(())
    }

    /// Seals the dump: the whole one, or what is left of it.
    fn seal(&self, incoming: &Incoming, kept: &mut Kept) -> Result<Sealed, NotSealed> {
        let file = incoming
            .file()
            .ok_or_else(|| NotSealed::Work("the file is not a regular file".into()))?;
        let path = incoming.path("vmcore", self.options.target.encoding.codec.suffix());
        if let (true, Some(header)) = (kept.problems.is_empty(), &self.arrived.header) {
            match self.whole(&file, header, &path, kept) {
                Err(NotSealed::Work(what)) => kept.problems.push(what),
                result => return result,
            }
        }
        self.part(&file, &path, kept)
    }

    /// Seals a dump that has arrived as a whole.
    fn whole(
        &self,
        file: &Arc<File>,
        header: &KernelDumpHeader,
        path: &Path,
        kept: &mut Kept,
    ) -> Result<Sealed, NotSealed> {
        // The layout of MEM_KERNELDUMP: the data, padding, the header.
        let failed = |e| PublishError::of_write(path, e);
        let end = self.arrived.len.next_multiple_of(block_of(header));
        file.set_len(self.arrived.len).map_err(failed)?;
        let bytes = self.arrived.ended.kdh.unwrap_or([0; kerneldump::SIZE]);
        file.write_all_at(&bytes, end).map_err(failed)?;
        let source: Arc<dyn ReadAt> = file.clone();
        let open = livecore_minidump::OpenOptions::new()
            .stream(self.options.stream.clone())
            .bitmap_limit(self.options.bitmap_limit);
        let dump = AnyDump::from_source(source, &open)?;
        let target = &self.options.target;
        let mut sink = Sink::Pending(self.begin(path, dump.envelope().known_len())?);
        let written = sink.write(|out| convert_any(&dump, target, out, self.progress))?;
        let Sink::Pending(file) = sink else {
            return Err(NotSealed::Work("the output is a stream".into()));
        };
        let result = file
            .shared()
            .ok_or_else(|| NotSealed::Work("the output is a stream".into()))?;
        self.require_sound(result, kept)?;
        Ok(Sealed {
            file,
            written,
            pages: None,
        })
    }

    /// Seals what is left of a dump.
    fn part(&self, file: &Arc<File>, path: &Path, kept: &mut Kept) -> Result<Sealed, NotSealed> {
        if self.progress.cancelled() {
            return Err(NotSealed::Work("stopped before the dump was sealed".into()));
        }
        let stored = self.arrived.stored();
        file.set_len(stored)
            .map_err(|e| PublishError::of_write(path, e))?;
        let mut source: Arc<dyn ReadAt> = file.clone();
        if sniff(file) != Codec::None {
            let whole = self.arrived.missing.first().map_or(stored, |r| r.start);
            source = Arc::new(Window::new(source, 0, whole.min(stored)));
        }
        let info = self.arrived.header.as_ref().map(|h| self.info(h, kept));
        let open = livecore_minidump::OpenOptions::new()
            .stream(self.options.stream.clone())
            .bitmap_limit(self.options.bitmap_limit);
        let options = salvage::Options::default()
            .open(open)
            .info(info.and_then(|text| Info::parse(&text)))
            .missing(self.arrived.missing.clone());
        let found = Salvage::examine(source, &options, self.progress)?;
        self.require_sound(found.as_raw_file()?, kept)?;
        let target = &self.options.target;
        let payload = found.payload_len()?;
        let mut sink = Sink::Pending(self.begin(path, Some(payload))?);
        let written = sink.write(|out| found.write(target, out, self.progress))?;
        let Sink::Pending(file) = sink else {
            return Err(NotSealed::Work("the output is a stream".into()));
        };
        let pages = &found.report().pages;
        Ok(Sealed {
            file,
            written,
            pages: Some(Pages {
                kept: pages.kept,
                lost: pages.lost.saturating_add(pages.unknown),
            }),
        })
    }

    fn begin(&self, path: &Path, len: Option<u64>) -> Result<Pending, PublishError> {
        let options = Options::of_dump(self.options.target.encoding.codec, len);
        Destination::File(path.into()).begin(&options)
    }

    fn require_sound(&self, dump: Arc<dyn ReadAt>, kept: &mut Kept) -> Result<(), NotSealed> {
        match (self.check)(dump, self.progress) {
            Check::Sound => Ok(()),
            Check::Warnings(what) => {
                kept.warnings.push(what);
                Ok(())
            }
            Check::Unsound(what) => Err(NotSealed::Work(what)),
        }
    }

    /// The text of the info file.
    fn info(&self, header: &KernelDumpHeader, kept: &Kept) -> String {
        let address = self.arrived.ended.peer.address.ip();
        let last = match kept.problems.first() {
            None => "Dump complete".into(),
            Some(what) => format!("Dump incomplete: {what}"),
        };
        info::of_host(header, &kept.host, address) + &last + "\n"
    }
}

/// The codec of a file by its first bytes.
fn sniff(file: &File) -> Codec {
    let mut head = [0; 8];
    let got = ReadAt::read_full_at(file, &mut head, 0).unwrap_or(0);
    Codec::sniff(&head[..got])
}
