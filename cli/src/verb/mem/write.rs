//! `livecore mem write`: writes physical or kernel memory.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use livecore_defs::text::unhex;
use livecore_kernel::Location;
use livecore_kernel::parse_number;
use livecore_livedump::mem4::{Device, MemDevice, MemError};
use serde::Serialize;

use super::read::{Copied, beyond, check_place, resolve};
use super::source::{Needs, Source, space};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::json::Hex;
use crate::session::Session;
use crate::words::{Order, Width};

/// Bytes for one request.
const PIECE: usize = 64 << 10;

const MANUAL: &str = "\
Examples:
  livecore mem write 0x9fc00 'de ad be ef' --image machine --write
  livecore mem write --kmem hz --words 4 100 --image machine --write
  livecore mem write 0x100000 --from page --image machine --write

If an address cannot be written, the bytes before it have been written; the error gives their number. A \
dump or a machine given by --machine cannot be changed.";

/// Arguments of `livecore mem write`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The machine whose memory is accessed.
    #[command(flatten)]
    pub source: Source,
    /// Treat ADDR as a kernel virtual address [default: physical]
    #[arg(long)]
    pub kmem: bool,
    /// Confirm that memory is to be changed
    #[arg(long)]
    pub write: bool,
    /// First address, or a kernel symbol with --kmem
    ///
    /// An address is decimal, or hexadecimal after 0x. Without 0x, 16 digits are hexadecimal, and so is a
    /// number that starts with a digit and contains a letter. A symbol may be followed by +OFFSET.
    #[arg(value_name = "ADDR|SYMBOL", value_parser = Location::from_str)]
    pub place: Location,
    /// Bytes, two hexadecimal digits each; numbers with --words
    ///
    /// With --words, numbers are decimal, or hexadecimal after 0x.
    #[arg(
        value_name = "DATA",
        required_unless_present = "from",
        conflicts_with = "from"
    )]
    pub data: Vec<String>,
    /// Read the bytes from a file; `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Size of the numbers in DATA, in bytes
    #[arg(long, value_enum, value_name = "BYTES", conflicts_with = "from")]
    pub words: Option<Width>,
    /// Byte order of the numbers
    #[arg(
        long,
        value_enum,
        value_name = "ORDER",
        default_value = "little",
        requires = "words"
    )]
    pub endian: Order,
    /// Print a JSON report of what was written (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// JSON output; docs/schemas/mem-write.schema.json.
#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: String,
    space: &'static str,
    address: Hex,
    #[serde(skip_serializing_if = "Option::is_none")]
    symbol: Option<&'a str>,
    requested: Option<u64>,
    length: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let device = check_place(&args.place, args.kmem)?;
    let data = match &args.from {
        None => Some(bytes(args)?),
        Some(_) => None,
    };
    if !args.write {
        return Err(Failure::usage("this would modify memory")
            .id_is(Id::Unconfirmed)
            .next("add --write to confirm"));
    }
    let needs = Needs {
        write: true,
        kernel: args.kmem,
        ..Needs::default()
    };
    let target = args.source.open(needs, session)?;
    let at = resolve(&args.place, &target)?;
    let requested = data.as_ref().map(|data| data.len() as u64);
    let (mut source, from): (Box<dyn Read>, &Path) = match (data, &args.from) {
        (Some(data), _) => (Box::new(Cursor::new(data)), Path::new("-")),
        (None, Some(path)) => (Box::new(open(path, session)?), path),
        // clap requires DATA or --from.
        (None, None) => return Err(Failure::usage("nothing to write").id_is(Id::MissingArgument)),
    };
    let written =
        copy(&*target.device, device, at, &mut source).map_err(|e| Failure::from(e).about(from))?;
    let error = written.error.as_ref().map(ToString::to_string);
    if args.json {
        let report = Report {
            machine: target.name.display().to_string(),
            space: space(device),
            address: Hex(at),
            symbol: args.place.symbol(),
            requested,
            length: written.len,
            error,
        };
        crate::json::print(&report, &mut session.out)?;
    } else if written.error.is_none() || written.len > 0 {
        let line = format_args!("wrote {} bytes at {at:#x}", written.len);
        session.voice.say(Id::Written, line);
    }
    written.error.map_or(Ok(()), |e| Err(target.failure(e)))
}

/// The bytes of DATA.
fn bytes(args: &Args) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    for text in &args.data {
        match args.words {
            Some(width) => {
                let number = parse_number(text).map_err(|e| Failure::of(Exit::USAGE, &e))?;
                let word = args.endian.bytes(number, width).ok_or_else(|| {
                    Failure::usage(format_args!("{text} does not fit {} bytes", width.bytes()))
                        .id_is(Id::InvalidValue)
                })?;
                bytes.extend(word);
            }
            None => hex(text, &mut bytes)?,
        }
    }
    if bytes.is_empty() {
        return Err(Failure::usage("nothing to write").id_is(Id::MissingArgument));
    }
    Ok(bytes)
}

/// Parses pairs of hexadecimal digits, with optional white space between pairs.
fn hex(text: &str, bytes: &mut Vec<u8>) -> Result<(), Failure> {
    for run in text.split_ascii_whitespace() {
        let Some(found) = unhex(run.as_bytes()) else {
            let what = format_args!("`{run}` is not a sequence of two-digit hexadecimal bytes");
            return Err(Failure::usage(what)
                .id_is(Id::InvalidValue)
                .next("use --words for numbers, --from for a file"));
        };
        bytes.extend(found);
    }
    Ok(())
}

fn open(path: &Path, session: &mut Session<'_>) -> Result<File, Failure> {
    let file =
        if path == Path::new("-") {
            session.env.stdin.take().ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, "standard input is not open")
            })
        } else {
            File::open(path)
        };
    file.map_err(|e| Failure::from(e).about(path))
}

/// Writes `source` from `at` on, up to the first address that cannot be written. An error of
/// reading `source` is the result itself; the bytes before it are written.
fn copy(
    device: &dyn MemDevice,
    which: Device,
    at: u64,
    source: &mut dyn Read,
) -> io::Result<Copied> {
    let mut buf = vec![0; PIECE];
    let mut written = Copied::default();
    loop {
        let n = match source.read(&mut buf) {
            Ok(0) => return Ok(written),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        let mut left = &buf[..n];
        while !left.is_empty() {
            let Some(here) = at.checked_add(written.len) else {
                written.error = Some(beyond());
                return Ok(written);
            };
            let rest = (u64::MAX - here).saturating_add(1).min(left.len() as u64) as usize;
            match device.write(which, here, &left[..rest]) {
                Ok(got) if got > 0 => {
                    let got = got.min(rest);
                    written.len += got as u64;
                    left = &left[got..];
                }
                Ok(_) => {
                    written.error = Some(MemError::BadAddress {
                        at: here,
                        why: "the device accepted no bytes",
                    });
                    return Ok(written);
                }
                Err(error) => {
                    written.error = Some(error);
                    return Ok(written);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verb::mem::recorded;

    #[test]
    fn writes_use_the_device_of_their_address_space() {
        let files = recorded::files(b"physical", b"kernel addresses");
        let device = files.device(true);
        let write = |which, at, bytes: &[u8]| copy(&device, which, at, &mut &*bytes).unwrap();
        assert_eq!(write(Device::Mem, 4, b"ICAL").len, 4);
        assert_eq!(write(Device::Kmem, 0, b"K").len, 1);
        assert_eq!(
            files.contents(),
            (b"physICAL".to_vec(), b"Kernel addresses".to_vec())
        );
        assert!(device.kernel().asked().is_empty(), "no ioctl is issued");
    }

    #[test]
    fn a_device_that_was_opened_for_reading_refuses_with_ebadf() {
        let files = recorded::files(b"physical", b"");
        let device = files.device(false);
        let written = copy(&device, Device::Mem, 0, &mut &b"x"[..]).unwrap();
        assert_eq!(written.len, 0);
        assert!(matches!(written.error, Some(MemError::NotOpenedFor { .. })));
        assert_eq!(files.contents().0, b"physical");
    }

    #[test]
    fn hexadecimal_bytes_are_pairs_of_digits() {
        let parse = |text: &str| {
            let mut bytes = Vec::new();
            hex(text, &mut bytes).map(|()| bytes).ok()
        };
        assert_eq!(parse("deadBEEF"), Some(vec![0xde, 0xad, 0xbe, 0xef]));
        assert_eq!(parse(" 00 ff "), Some(vec![0, 0xff]));
        for bad in ["0", "d ead", "0x10", "gg", "-1", "é1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
