//! `livecore mem read`: prints physical or kernel memory.

use std::io;
use std::str::FromStr as _;

use livecore_defs::text::hex;
use livecore_kernel::Location;
use livecore_livedump::mem4::{Device, MemDevice, MemError};
use serde::Serialize;

use super::source::{Needs, Source, Target, space};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::json::Hex;
use crate::memory_format::{FormatArgs, Numbers, Sink};
use crate::session::Session;
use crate::text::parse_size;
use crate::words::Order;

/// Bytes for one request.
const PIECE: usize = 64 << 10;
/// The byte order of every machine with mem(4) support.
const ORDER: Order = Order::Little;

const MANUAL: &str = "\
Examples:
  livecore mem read 0x9fc00 64 --image machine
  livecore mem read --kmem hz 4 --image machine --words 4
  livecore mem read --kmem 0xffffffff80200000 4K --raw > page      on FreeBSD

An address that cannot be read is an error, never zeros. The bytes before it are printed; with --words, \
the complete words. With --words, LENGTH must be a multiple of the word size; ADDR need not be aligned.";

/// Arguments of `livecore mem read`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The machine whose memory is accessed.
    #[command(flatten)]
    pub source: Source,
    /// Treat ADDR as a kernel virtual address [default: physical]
    #[arg(long)]
    pub kmem: bool,
    /// First address, or a kernel symbol with --kmem
    ///
    /// An address is decimal, or hexadecimal after 0x. Without 0x, 16 digits are hexadecimal, and so is a
    /// number that starts with a digit and contains a letter. A symbol may be followed by +OFFSET.
    #[arg(value_name = "ADDR|SYMBOL", value_parser = Location::from_str)]
    pub place: Location,
    /// Number of bytes, with an optional suffix K, M or G
    #[arg(value_name = "LENGTH", value_parser = parse_size)]
    pub len: u64,
    /// The output format.
    #[command(flatten)]
    pub format: FormatArgs,
    /// Print one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    args.format.check(args.len, args.json)?;
    let device = check_place(&args.place, args.kmem)?;
    let needs = Needs {
        kernel: args.kmem,
        ..Needs::default()
    };
    let target = args.source.open(needs, session)?;
    let at = resolve(&args.place, &target)?;
    print(args, &target, device, at, session)
}

/// The device of a location. Only kernel virtual addresses have symbols.
pub(super) fn check_place(place: &Location, kmem: bool) -> Result<Device, Failure> {
    match (place, kmem) {
        (_, true) => Ok(Device::Kmem),
        (Location::Address(_), false) => Ok(Device::Mem),
        (Location::Symbol { name, .. }, false) => {
            let what = format_args!("symbol {name} needs a kernel virtual address");
            Err(Failure::usage(what)
                .id_is(Id::InvalidAddress)
                .next("use --kmem, or an address in hexadecimal after 0x"))
        }
    }
}

/// The address of a location.
pub(super) fn resolve(place: &Location, target: &Target) -> Result<u64, Failure> {
    match place {
        Location::Address(at) => Ok(*at),
        symbol @ Location::Symbol { .. } => {
            let (path, elf) = target.kernel()?;
            symbol
                .address(&elf)
                .map(|at| at.0)
                .map_err(|e| Failure::of(Exit::COULD_NOT, &e).about(&path))
        }
    }
}

/// How far the copy came.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// Bytes copied.
    pub(super) len: u64,
    /// Why the copy ended early.
    pub(super) error: Option<MemError>,
}

/// Copies `len` bytes from `at` to `sink`, up to the first that cannot be read.
fn copy(
    device: &dyn MemDevice,
    which: Device,
    at: u64,
    len: u64,
    sink: &mut Sink<'_>,
) -> io::Result<Copied> {
    let mut buf = vec![0; PIECE];
    let mut copied = Copied::default();
    while copied.len < len {
        let Some(here) = at.checked_add(copied.len) else {
            copied.error = Some(beyond());
            break;
        };
        // Up to a multiple of PIECE, never beyond the end of the address space.
        let rest = (u64::MAX - here).saturating_add(1).min(len - copied.len);
        let n = rest.min(PIECE as u64 - here % PIECE as u64) as usize;
        match device.read(which, here, &mut buf[..n]) {
            Ok(got) if got > 0 => {
                let got = got.min(n);
                sink(&buf[..got])?;
                copied.len += got as u64;
            }
            Ok(_) => {
                copied.error = Some(MemError::BadAddress {
                    at: here,
                    why: "the device returned no bytes",
                });
                break;
            }
            Err(error) => {
                copied.error = Some(error);
                break;
            }
        }
    }
    Ok(copied)
}

/// The error for a range beyond the last address.
pub(super) fn beyond() -> MemError {
    MemError::BadAddress {
        at: 0,
        why: "range extends beyond the end of the address space",
    }
}

/// JSON output; docs/schemas/mem-read.schema.json.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    machine: String,
    space: &'static str,
    address: Hex,
    #[serde(skip_serializing_if = "Option::is_none")]
    symbol: Option<&'a str>,
    requested: u64,
    length: u64,
    bytes: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    words: Option<Numbers>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

fn print(
    args: &Args,
    target: &Target,
    which: Device,
    at: u64,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let device = &*target.device;
    let out = &mut session.out;
    let copied = if args.json {
        let mut bytes = Vec::new();
        let copied = copy(device, which, at, args.len, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        crate::json::print(&answer(args, target, which, at, &bytes, &copied), out)?;
        copied
    } else {
        args.format.print(out, (at, args.len), ORDER, |sink| {
            copy(device, which, at, args.len, sink)
        })?
    };
    copied.error.map_or(Ok(()), |e| Err(target.failure(e)))
}

fn answer<'a>(
    args: &'a Args,
    target: &Target,
    which: Device,
    at: u64,
    bytes: &[u8],
    copied: &Copied,
) -> Answer<'a> {
    Answer {
        machine: target.name.display().to_string(),
        space: space(which),
        address: Hex(at),
        symbol: args.place.symbol(),
        requested: args.len,
        length: copied.len,
        bytes: hex(bytes),
        words: args.format.numbers(bytes, ORDER),
        error: copied.error.as_ref().map(ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verb::mem::recorded;

    #[test]
    fn reads_use_the_device_of_their_address_space() {
        let files = recorded::files(b"physical", b"kernel addresses");
        let device = files.device(true);
        let read = |which, at, len| {
            let mut got = Vec::new();
            let copied = copy(&device, which, at, len, &mut |piece| {
                got.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
            (got, copied.error.map(|e| e.errno()))
        };
        assert_eq!(read(Device::Mem, 4, 4), (b"ical".to_vec(), None));
        assert_eq!(read(Device::Kmem, 7, 9), (b"addresses".to_vec(), None));
        // A file ends where a device would return EFAULT.
        assert_eq!(
            read(Device::Mem, 0, 100),
            (b"physical".to_vec(), Some(libc_efault()))
        );
    }

    fn libc_efault() -> i32 {
        beyond().errno()
    }

    #[test]
    fn a_range_beyond_the_address_space_is_read_up_to_its_end() {
        struct Everywhere;
        impl MemDevice for Everywhere {
            fn read(&self, _: Device, offset: u64, buf: &mut [u8]) -> Result<usize, MemError> {
                assert!(offset.checked_add(buf.len() as u64 - 1).is_some());
                buf.fill(7);
                Ok(buf.len())
            }
            fn write(&self, _: Device, _: u64, _: &[u8]) -> Result<usize, MemError> {
                Err(beyond())
            }
            fn extract_paddr(
                &self,
                _: livecore_minidump::VirtAddr,
            ) -> Result<livecore_livedump::mem4::Extracted, MemError> {
                Err(beyond())
            }
            fn ranges(&self) -> Result<Vec<livecore_livedump::mem4::range::MemRange>, MemError> {
                Err(beyond())
            }
            fn set_range(
                &self,
                _: &livecore_livedump::mem4::range::MemRange,
                _: i32,
            ) -> Result<(), MemError> {
                Err(beyond())
            }
            fn kernel_dump(
                &self,
                _: &livecore_livedump::mem4::DumpRequest,
            ) -> Result<(), MemError> {
                Err(beyond())
            }
        }
        for (at, len, expected) in [
            (u64::MAX - 9, 100, 10),
            (u64::MAX, u64::MAX, 1),
            (u64::MAX - (1 << 20), 2 << 20, (1 << 20) + 1),
        ] {
            let copied = copy(&Everywhere, Device::Kmem, at, len, &mut |_| Ok(())).unwrap();
            assert_eq!(copied.len, expected);
            assert_eq!(copied.error.unwrap().errno(), beyond().errno());
        }
    }
}
