//! `livecore read DUMP ADDR|SYMBOL LEN`: prints memory of the dumped machine.
//!
//! A page that is not in the dump is an error, never zeros. The bytes before it are printed.

mod batch;

use std::path::PathBuf;
use std::str::FromStr as _;

use livecore_defs::text::hex;
use livecore_kernel::{Location, Pair};
use livecore_minidump::{Address, KernelMemory, PhysAddr, ReadError, VirtAddr};
use serde::Serialize;

use crate::dump_args::NumberArg;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::input::{self, KernelArgs, Opening};
use crate::memory_format::{FormatArgs, Numbers, Sink};
use crate::session::Session;
use crate::text::parse_size;
use crate::words::Order;

const USAGE: &str = "\
livecore read [OPTIONS] <DUMP> <ADDR|SYMBOL> [LENGTH]
       livecore read [OPTIONS] <DUMP> --batch";

const MANUAL: &str = "\
Examples:
  livecore read livecore.0.zst hz --words 4 --kernel /boot/kernel/kernel
  livecore read vmcore.3 0xfffff80000001000 4K --raw > page
  livecore read vmcore.3 0x1000 64 --phys
  livecore read vmcore.3 --batch --kernel /boot/kernel/kernel < requests

A page that is not in the dump is an error, never zeros. The bytes before it are printed.

--batch reads requests from standard input, one for each line: ADDR|SYMBOL [LENGTH] [--phys]. It prints one answer for \
each line, in the same order, and flushes the answers before it waits for another line. An answer is a line of JSON, or with --raw a \
line `LENGTH STATUS [MESSAGE]` and then LENGTH bytes without a newline after them. STATUS is `ok` or an id from \
docs/json.md. A request that fails does not end the batch. The exit code is the worst of all requests, 64 if one is \
not valid. Limits: 4096 bytes for a line, 16 MiB for an answer.";

/// Arguments of `livecore read`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL, override_usage = USAGE)]
pub struct Args {
    /// Dump, or directory with dumps; `-` for standard input
    pub dump: PathBuf,
    /// The number of the dump.
    #[command(flatten)]
    pub number: NumberArg,
    /// First address, or a kernel symbol with an optional +OFFSET
    ///
    /// An address is decimal, or hexadecimal after 0x. Without 0x, 16 digits are hexadecimal, and so is a
    /// number that starts with a digit and contains a letter.
    #[arg(value_name = "ADDR|SYMBOL", value_parser = Location::from_str, required_unless_present = "batch")]
    pub place: Option<Location>,
    /// Number of bytes [default: the symbol's size]
    ///
    /// Decimal, or hexadecimal after 0x, with an optional suffix K, M or G.
    #[arg(value_name = "LENGTH", value_parser = parse_size)]
    pub len: Option<u64>,
    /// The kernel that was running.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Answer requests from standard input
    ///
    /// Each line is ADDR|SYMBOL [LENGTH] [--phys]. The answers are lines of JSON (docs/json.md).
    #[arg(long, conflicts_with_all = ["place", "len"])]
    pub batch: bool,
    /// Treat ADDR as a physical address
    #[arg(long, conflicts_with = "kernel")]
    pub phys: bool,
    /// The output format.
    #[command(flatten)]
    pub format: FormatArgs,
    /// Read pages lost at the end of a short file as zeros
    #[arg(long)]
    pub zero_tail: bool,
    /// Print one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let Some(place) = &args.place else {
        // clap requires a place without --batch.
        return batch::run(args, session);
    };
    let request = Request {
        place: place.clone(),
        len: args.len,
        phys: args.phys,
    };
    request.check()?;
    if let Some(len) = args.len {
        args.format.check(len, args.json)?;
    }
    let symbolic = place.symbol().is_some();
    let dump = input::dump(&args.dump, Opening::default(), session)?;
    input::print_memory_warnings(&dump, &args.dump, session);
    // The page tables of a full dump are found through its kernel.
    let needed = dump.minidump().is_none() && !args.phys;
    let kernel = if symbolic && dump.minidump().is_some() {
        Some(args.kernel.require(&dump, &args.dump, session)?)
    } else if needed || args.kernel.named(&session.env).is_some() && dump.minidump().is_some() {
        // A named kernel is compared with the dump even if it is not needed.
        args.kernel.open(&dump, &args.dump, session)?
    } else {
        None
    };
    if needed && kernel.is_none() {
        return Err(no_page_tables().about(&args.dump));
    }
    let range = request
        .range(kernel.as_ref())
        .map_err(|e| e.about(&args.dump))?;
    args.format.check(range.len, args.json)?;
    let order = Order::of(dump.order());
    let memory = match kernel {
        Some(pair) => pair.memory(),
        None => dump.memory(),
    };
    print(args, &*memory, range, order, session)
}

fn no_page_tables() -> Failure {
    let what = "cannot locate the page tables of a full dump without its kernel";
    Failure::new(Exit::UNSUPPORTED, what)
        .id_is(Id::NoKernelFile)
        .next("use --kernel ELF, or --phys with a physical address")
}

/// What to read, as the command line or a line of a batch gives it.
#[derive(Debug)]
struct Request {
    place: Location,
    /// In bytes; the size of the symbol if `None`.
    len: Option<u64>,
    phys: bool,
}

impl Request {
    /// Checks what needs neither the dump nor its kernel.
    fn check(&self) -> Result<(), Failure> {
        let symbolic = self.place.symbol().is_some();
        if symbolic && self.phys {
            let what = "--phys needs a number, not a symbol";
            return Err(Failure::usage(what).id_is(Id::InvalidAddress));
        }
        if self.len.is_none() && !symbolic {
            return Err(
                Failure::usage("LENGTH is missing: only a symbol has a default length")
                    .id_is(Id::MissingArgument),
            );
        }
        Ok(())
    }

    /// The range to read, with the symbols of `kernel`.
    fn range(&self, kernel: Option<&Pair>) -> Result<ByteRange, Failure> {
        let at = match (&self.place, kernel) {
            (Location::Address(at), _) if self.phys => Address::Phys(PhysAddr(*at)),
            (Location::Address(at), _) => Address::Virt(VirtAddr(*at)),
            (symbol, Some(kernel)) => symbol
                .address(kernel.elf())
                .map(Address::Virt)
                .map_err(|e| Failure::of(Exit::COULD_NOT, &e).about(kernel.path()))?,
            (Location::Symbol { name, .. }, None) => {
                let what = format_args!("symbol {name} needs a kernel");
                return Err(Failure::could_not(what)
                    .id_is(Id::NoKernelFile)
                    .next("use --kernel ELF, or --kernel-path PATH to search"));
            }
        };
        let size = || self.place.size(kernel?.elf());
        let len = self.len.or_else(size).ok_or_else(|| {
            let what = match &self.place {
                Location::Symbol { name, offset: 1.. } => {
                    format!("the offset is not inside of symbol {name}")
                }
                place => format!("symbol {} has no size", place.symbol().unwrap_or_default()),
            };
            Failure::could_not(what)
                .id_is(Id::UnusableSymbol)
                .next("give a LENGTH")
        })?;
        Ok(ByteRange { at, len })
    }
}

/// A range of bytes.
#[derive(Debug, Clone, Copy)]
struct ByteRange {
    at: Address,
    len: u64,
}

/// How far the copy came.
#[derive(Debug, Default)]
struct Copied {
    /// Bytes given to the sink.
    len: u64,
    /// Zeros among them, in place of pages beyond the end of the file.
    zeroed: u64,
    /// Why the copy ended early.
    error: Option<Failure>,
}

/// Copies the bytes of `range` to `sink`, page by page, up to the first that cannot be read.
fn copy(
    memory: &dyn KernelMemory,
    range: ByteRange,
    zero_tail: bool,
    sink: &mut Sink<'_>,
) -> Result<Copied, Failure> {
    let page = memory.page_size();
    let mut buf = vec![0; usize::try_from(page).map_err(Failure::could_not)?];
    let mut copied = Copied::default();
    while copied.len < range.len {
        let Some(here) = range.at.checked_add(copied.len) else {
            copied.error = Some(
                Failure::could_not("range extends beyond the end of the address space")
                    .id_is(Id::BeyondAddressSpace),
            );
            break;
        };
        let in_page = page - here.value() % page;
        // At most one page, the length of `buf`.
        let n = in_page.min(range.len - copied.len) as usize;
        let piece = &mut buf[..n];
        let (good, result) = memory.read_part(here, piece);
        match result {
            Ok(()) => {}
            Err(ReadError::BeyondEnd { .. }) if zero_tail => {
                piece[good..].fill(0);
                copied.zeroed += (n - good) as u64;
            }
            Err(error) => {
                sink(&piece[..good])?;
                copied.len += good as u64;
                copied.error = Some(explain(error));
                break;
            }
        }
        sink(piece)?;
        copied.len += n as u64;
    }
    Ok(copied)
}

fn explain(error: ReadError) -> Failure {
    let beyond = matches!(error, ReadError::BeyondEnd { .. });
    let failure = Failure::from(error);
    if beyond {
        failure.next("use --zero-tail to read lost pages as zeros")
    } else {
        failure
    }
}

/// JSON output; docs/schemas/read.schema.json.
#[derive(Debug, Serialize)]
struct Document<'a> {
    dump: String,
    #[serde(flatten)]
    subject: Subject<'a>,
    #[serde(flatten)]
    content: Content,
}

/// What was to be read.
#[derive(Debug, Serialize)]
struct Subject<'a> {
    space: &'static str,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    symbol: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    physical: Option<String>,
    requested: u64,
}

/// What was read.
#[derive(Debug, Default, Serialize)]
struct Content {
    length: u64,
    zeroed: u64,
    bytes: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<Numbers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl<'a> Subject<'a> {
    fn new(place: Option<&'a Location>, range: ByteRange, memory: &dyn KernelMemory) -> Self {
        let (space, physical) = match range.at {
            Address::Phys(_) => ("physical", None),
            Address::Virt(at) => ("virtual", memory.translate(at).ok()),
        };
        Self {
            space,
            address: format!("{:#x}", range.at.value()),
            symbol: place.and_then(Location::symbol),
            physical: physical.map(|at| format!("{at:#x}")),
            requested: range.len,
        }
    }
}

impl Content {
    fn new(bytes: &[u8], copied: &Copied, words: Option<Numbers>) -> Self {
        Self {
            length: copied.len,
            zeroed: copied.zeroed,
            bytes: hex(bytes),
            words,
            error: copied.error.as_ref().map(Failure::to_string),
        }
    }
}

/// Prints `range` in the format that `args` select.
fn print(
    args: &Args,
    memory: &dyn KernelMemory,
    range: ByteRange,
    order: Order,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let copied = if args.json {
        print_json(args, memory, range, order, session)?
    } else {
        let place = (range.at.value(), range.len);
        args.format.print(&mut session.out, place, order, |sink| {
            copy(memory, range, args.zero_tail, sink)
        })?
    };
    if copied.zeroed > 0 {
        session.warn(&args.dump, Id::ZeroTail, zeroed_message(copied.zeroed));
    }
    match copied.error {
        Some(failure) => Err(failure.about(&args.dump)),
        None => Ok(()),
    }
}

fn zeroed_message(bytes: u64) -> String {
    format!("the last {bytes} bytes are zeros: the file ends before their pages")
}

fn print_json(
    args: &Args,
    memory: &dyn KernelMemory,
    range: ByteRange,
    order: Order,
    session: &mut Session<'_>,
) -> Result<Copied, Failure> {
    let (bytes, copied) = bytes_of(memory, range, args.zero_tail)?;
    let document = Document {
        dump: args.dump.display().to_string(),
        subject: Subject::new(args.place.as_ref(), range, memory),
        content: Content::new(&bytes, &copied, args.format.numbers(&bytes, order)),
    };
    crate::json::print(&document, &mut session.out)?;
    Ok(copied)
}

/// The bytes of `range` up to the first that cannot be read. The caller limits the length.
fn bytes_of(
    memory: &dyn KernelMemory,
    range: ByteRange,
    zero_tail: bool,
) -> Result<(Vec<u8>, Copied), Failure> {
    let mut bytes = Vec::new();
    let copied = copy(memory, range, zero_tail, &mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    })?;
    Ok((bytes, copied))
}

#[cfg(test)]
mod tests {
    use super::*;
    use livecore_minidump::VirtAddr;

    /// Three pages: one complete, one cut at 0x1800 by the end of the file, one not dumped. Virtual
    /// addresses equal physical ones.
    struct Cut;

    impl KernelMemory for Cut {
        fn page_size(&self) -> u64 {
            0x1000
        }

        fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError> {
            for (i, byte) in buf.iter_mut().enumerate() {
                let here = at.0 + i as u64;
                match here {
                    0..0x1800 => *byte = (here >> 8) as u8,
                    0x1800..0x2000 => {
                        return Err(ReadError::BeyondEnd {
                            at: PhysAddr(here),
                            offset: here,
                            end: 0x1800,
                        });
                    }
                    _ => return Err(ReadError::Hole { at: PhysAddr(here) }),
                }
            }
            Ok(())
        }

        fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError> {
            Ok(PhysAddr(at.0))
        }
    }

    fn read(at: u64, len: u64, zero_tail: bool) -> (Vec<u8>, Copied) {
        let mut got = Vec::new();
        let range = ByteRange {
            at: Address::Phys(PhysAddr(at)),
            len,
        };
        let copied = copy(&Cut, range, zero_tail, &mut |piece| {
            got.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
        assert_eq!(copied.len, got.len() as u64);
        (got, copied)
    }

    #[test]
    fn bytes_of_a_page_cut_in_the_middle_are_read_up_to_the_cut() {
        let (got, copied) = read(0xff0, 0x1000, false);
        assert_eq!(got.len(), 0x810);
        assert_eq!((got[0], got[0x10], got[0x80f]), (0x0f, 0x10, 0x17));
        let error = copied.error.unwrap();
        assert_eq!(error.id(), Id::BeyondEnd, "{error}");
        assert!(error.advice().unwrap().contains("--zero-tail"), "{error}");
    }

    #[test]
    fn zero_tail_fills_what_the_file_has_lost_and_counts_it() {
        let (got, copied) = read(0x1700, 0x900, true);
        assert!(copied.error.is_none());
        assert_eq!(copied.zeroed, 0x800);
        assert!(got[..0x100].iter().all(|b| *b == 0x17));
        assert!(got[0x100..].iter().all(|b| *b == 0));
    }

    #[test]
    fn hole_is_an_error_even_with_zero_tail() {
        let (got, copied) = read(0x1fff, 2, true);
        assert_eq!(got, [0]);
        assert_eq!(copied.error.unwrap().id(), Id::NotInDump);
    }
}
