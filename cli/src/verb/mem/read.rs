//! `livecore mem read`: bytes of physical or kernel memory.

use std::io;
use std::str::FromStr as _;

use livecore_defs::text::hex;
use livecore_kernel::Location;
use livecore_livedump::mem4::{Device, MemDevice, MemError};
use serde::Serialize;

use super::source::{Needs, Source, Target, space};
use crate::failure::Failure;
use crate::json::Hex;
use crate::memory_format::{FormatArgs, Numbers, Sink};
use crate::session::Session;
use crate::text::parse_size;
use crate::words::Order;

/// Bytes that are asked for at once.
const PIECE: usize = 64 << 10;
/// Of every machine that has a mem(4) here.
const ORDER: Order = Order::Little;

const MANUAL: &str = "\
Examples:
  livecore mem read 0x9fc00 64 --image machine
  livecore mem read --kmem hz 4 --image machine --words 4
  livecore mem read --kmem 0xffffffff80200000 4K --raw > page      on FreeBSD

An address that cannot be had is an error, never zeros; everything before it is printed, with --words \
every whole word. LENGTH is a multiple of a word then; words need not be aligned.";

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Whose memory.
    #[command(flatten)]
    pub source: Source,
    /// ADDR is a kernel virtual address (/dev/kmem), not a physical one (/dev/mem)
    #[arg(long)]
    pub kmem: bool,
    /// Where to begin: an address (decimal, or hexadecimal after 0x); with --kmem also a kernel
    /// symbol, which may be followed by +OFFSET
    #[arg(value_name = "ADDR|SYMBOL", value_parser = Location::from_str)]
    pub place: Location,
    /// How many bytes: decimal, 0x hexadecimal, or with K, M, G
    #[arg(value_name = "LENGTH", value_parser = parse_size)]
    pub len: u64,
    /// In which form.
    #[command(flatten)]
    pub format: FormatArgs,
    /// One JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// Prints the bytes.
pub fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
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

/// Which device a place is on. Only kernel addresses have symbols.
pub(super) fn check_place(place: &Location, kmem: bool) -> Result<Device, Failure> {
    match (place, kmem) {
        (_, true) => Ok(Device::Kmem),
        (Location::Address(_), false) => Ok(Device::Mem),
        (Location::Symbol { name, .. }, false) => {
            let what = format_args!("{name} is a symbol, which has no physical address of its own");
            Err(Failure::usage(what).next("say --kmem, or an address in hexadecimal after 0x"))
        }
    }
}

/// The address of a place.
pub(super) fn resolve(place: &Location, target: &Target) -> Result<u64, Failure> {
    match place {
        Location::Address(at) => Ok(*at),
        symbol @ Location::Symbol { .. } => {
            let (path, elf) = target.kernel()?;
            symbol
                .address(&elf)
                .map_err(|e| Failure::could_not(e).about(&path))
        }
    }
}

/// How far reading came.
#[derive(Debug, Default)]
struct Served {
    /// Bytes given to the sink.
    len: u64,
    /// Why it ended early.
    error: Option<MemError>,
}

/// Gives `len` bytes from `at` to `sink`, up to the first that cannot be had.
fn serve(
    device: &dyn MemDevice,
    which: Device,
    at: u64,
    len: u64,
    sink: &mut Sink<'_>,
) -> io::Result<Served> {
    let mut buf = vec![0; PIECE];
    let mut served = Served::default();
    while served.len < len {
        let Some(here) = at.checked_add(served.len) else {
            served.error = Some(beyond());
            break;
        };
        // Up to a multiple of a piece, never over the end of the address space.
        let room = (u64::MAX - here).saturating_add(1).min(len - served.len);
        let n = room.min(PIECE as u64 - here % PIECE as u64) as usize;
        match device.read(which, here, &mut buf[..n]) {
            Ok(got) if got > 0 => {
                let got = got.min(n);
                sink(&buf[..got])?;
                served.len += got as u64;
            }
            Ok(_) => {
                served.error = Some(MemError::BadAddress {
                    at: here,
                    why: "nothing could be read",
                });
                break;
            }
            Err(error) => {
                served.error = Some(error);
                break;
            }
        }
    }
    Ok(served)
}

/// The error for what lies behind the last address.
pub(super) fn beyond() -> MemError {
    MemError::BadAddress {
        at: 0,
        why: "the range runs over the end of the address space",
    }
}

/// One JSON answer; docs/schemas/mem-read.schema.json.
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
    let served = if args.json {
        let mut bytes = Vec::new();
        let served = serve(device, which, at, args.len, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        crate::json::print(&answer(args, target, which, at, &bytes, &served), out)?;
        served
    } else {
        args.format.print(out, (at, args.len), ORDER, |sink| {
            serve(device, which, at, args.len, sink)
        })?
    };
    served.error.map_or(Ok(()), |e| Err(target.failure(e)))
}

fn answer<'a>(
    args: &'a Args,
    target: &Target,
    which: Device,
    at: u64,
    bytes: &[u8],
    served: &Served,
) -> Answer<'a> {
    Answer {
        machine: target.name.display().to_string(),
        space: space(which),
        address: Hex(at),
        symbol: args.place.symbol(),
        requested: args.len,
        length: served.len,
        bytes: hex(bytes),
        words: args.format.numbers(bytes, ORDER),
        error: served.error.as_ref().map(ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verb::mem::recorded;

    #[test]
    fn reads_go_to_the_device_of_their_space_at_their_address() {
        let files = recorded::files(b"physical", b"kernel addresses");
        let device = files.device(true);
        let read = |which, at, len| {
            let mut got = Vec::new();
            let served = serve(&device, which, at, len, &mut |piece| {
                got.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
            (got, served.error.map(|e| e.errno()))
        };
        assert_eq!(read(Device::Mem, 4, 4), (b"ical".to_vec(), None));
        assert_eq!(read(Device::Kmem, 7, 9), (b"addresses".to_vec(), None));
        // A file ends where a device would say EFAULT.
        assert_eq!(
            read(Device::Mem, 0, 100),
            (b"physical".to_vec(), Some(libc_efault()))
        );
    }

    fn libc_efault() -> i32 {
        beyond().errno()
    }

    #[test]
    fn a_range_over_the_end_of_the_address_space_is_served_up_to_there() {
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
                _: u64,
            ) -> Result<livecore_livedump::mem4::Extracted, MemError> {
                Err(beyond())
            }
            fn ranges(&self) -> Result<Vec<livecore_livedump::mem4::MemRange>, MemError> {
                Err(beyond())
            }
            fn set_range(
                &self,
                _: &livecore_livedump::mem4::MemRange,
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
            let served = serve(&Everywhere, Device::Kmem, at, len, &mut |_| Ok(())).unwrap();
            assert_eq!(served.len, expected);
            assert!(served.error.unwrap().to_string().contains("runs over"));
        }
    }
}
