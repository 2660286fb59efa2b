//! `livecore mem ranges`: MEMRANGE_GET and MEMRANGE_SET with the syntax of memcontrol(8).

use std::io::Write;

use livecore_livedump::mem4::range::{self, MemRange, OWNER_LEN, Owner};
use livecore_livedump::mem4::{MemDevice, MemError};
use livecore_livedump::sys::memrange::{MEMRANGE_SET_REMOVE, MEMRANGE_SET_UPDATE, Mdf};
use livecore_minidump::PhysAddr;
use serde::Serialize;

use super::source::{Needs, Source, Target};
use crate::describe::Describe;
use crate::failure::Failure;
use crate::id::Id;
use crate::json::Hex;
use crate::session::Session;

const MANUAL: &str = "\
Examples:
  livecore mem ranges --image machine
  livecore mem ranges set -b 0x200000000 -l 0x10000000 -o video write-combine --image machine
  livecore mem ranges clear -o video --image machine

Options, keywords and output are those of memcontrol(8), with one difference: an invalid keyword or \
number changes nothing. Numbers are decimal, hexadecimal after 0x, octal after 0. Each range is printed as \
`BASE/LENGTH OWNER` followed by its flags.

An emulated machine keeps its ranges in memory-ranges.json in the directory that `synth --out` wrote. \
Before the first change, the ranges are those that firmware sets.";

/// Arguments of `livecore mem ranges`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL, args_conflicts_with_subcommands = true)]
#[command(
    subcommand_value_name = "OPERATION",
    subcommand_help_heading = "Operations"
)]
pub struct Args {
    /// The operation to run.
    #[command(subcommand)]
    pub operation: Option<Operation>,
    /// Options of the default operation, `list`.
    #[command(flatten)]
    pub list: List,
}

impl Args {
    /// The machine of the operation.
    pub fn source(&self) -> &Source {
        match &self.operation {
            Some(Operation::List(list)) => &list.source,
            Some(Operation::Set(set)) => &set.source,
            Some(Operation::Clear(clear)) => &clear.source,
            None => &self.list.source,
        }
    }
}

/// The operations on memory ranges.
#[derive(Debug, clap::Subcommand)]
pub enum Operation {
    /// List active ranges (the default)
    List(List),
    /// Add or change a range
    Set(Set),
    /// Disable a range, or all ranges of an owner
    Clear(Clear),
}

/// Arguments of `livecore mem ranges list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// The machine whose memory is accessed.
    #[command(flatten)]
    pub source: Source,
    /// Include inactive ranges
    #[arg(short)]
    pub all: bool,
    /// List only ranges of this owner
    #[arg(short, value_name = "OWNER")]
    pub owner: Option<String>,
    /// Print one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `livecore mem ranges set`.
#[derive(Debug, clap::Args)]
pub struct Set {
    /// The machine whose memory is accessed.
    #[command(flatten)]
    pub source: Source,
    /// Physical address of the range [default: 0]
    #[arg(short, value_name = "BASE", value_parser = parse_c_number, default_value = "0",
          hide_default_value = true)]
    pub base: u64,
    /// Size of the range in bytes: a power of two
    #[arg(short, value_name = "LENGTH", value_parser = parse_len)]
    pub len: u64,
    /// Owner of the range, at most seven bytes
    #[arg(short, value_name = "OWNER", value_parser = parse_owner, default_value = "user")]
    pub owner: Owner,
    /// Attributes of the range
    ///
    /// One of uncacheable, write-combine, write-through, write-back and write-protect. Also
    /// `force`, to change a range of unknown type, and `active`, which is set for every range.
    #[arg(value_name = "ATTRIBUTE", value_parser = parse_attribute, required = true)]
    pub attributes: Vec<Mdf>,
    /// Print a JSON report of what was set (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `livecore mem ranges clear`.
#[derive(Debug, clap::Args)]
pub struct Clear {
    /// The machine whose memory is accessed.
    #[command(flatten)]
    pub source: Source,
    /// Disable all active ranges of this owner, except fixed ones
    #[arg(short, value_name = "OWNER", value_parser = parse_owner)]
    #[arg(conflicts_with_all = ["base", "len"], required_unless_present = "len")]
    pub owner: Option<Owner>,
    /// Physical address of the range [default: 0]
    #[arg(short, value_name = "BASE", value_parser = parse_c_number, requires = "len")]
    pub base: Option<u64>,
    /// Size of the range in bytes
    #[arg(short, value_name = "LENGTH", value_parser = parse_len)]
    pub len: Option<u64>,
    /// Print a JSON report of what was disabled (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// JSON output; docs/schemas/mem-ranges.schema.json.
#[derive(Debug, Serialize)]
struct Answer {
    machine: String,
    operation: &'static str,
    ranges: Vec<RangeAnswer>,
}

#[derive(Debug, Serialize)]
struct RangeAnswer {
    base: Hex,
    length: u64,
    flags: Hex,
    names: Vec<&'static str>,
    owner: Option<String>,
}

impl RangeAnswer {
    fn of(range: &MemRange) -> Self {
        Self {
            base: Hex(range.base.0),
            length: range.len,
            flags: Hex(range.flags.0.into()),
            names: range::names(range.flags).collect(),
            owner: (!range.owner.is_empty()).then(|| range.owner.to_string()),
        }
    }
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    match &args.operation {
        None => run_list(&args.list, session),
        Some(Operation::List(list)) => run_list(list, session),
        Some(Operation::Set(set)) => run_set(set, session),
        Some(Operation::Clear(clear)) => run_clear(clear, session),
    }
}

fn run_list(args: &List, session: &mut Session<'_>) -> Result<(), Failure> {
    let target = args.source.open(Needs::default(), session)?;
    let mut ranges = target.device.ranges().map_err(|e| target.failure(e))?;
    ranges.retain(|range| {
        (args.all || range.flags.contains(Mdf::ACTIVE))
            && (args.owner.as_ref()).is_none_or(|owner| owner.as_bytes() == range.owner.bytes())
    });
    if args.json {
        return print(&target, "list", &ranges, session);
    }
    for range in &ranges {
        writeln!(session.out, "{range}")?;
    }
    Ok(())
}

fn run_set(args: &Set, session: &mut Session<'_>) -> Result<(), Failure> {
    let target = args.source.open(CHANGES, session)?;
    let range = args.range();
    set(&*target.device, &range).map_err(|e| target.failure(e))?;
    if args.json {
        print(&target, "set", &[range], session)?;
    }
    Ok(())
}

fn run_clear(args: &Clear, session: &mut Session<'_>) -> Result<(), Failure> {
    let target = args.source.open(CHANGES, session)?;
    let device = &*target.device;
    let cleared = match (args.owner, args.len) {
        (Some(owner), _) => {
            let (cleared, refused) = clear_owner(device, owner).map_err(|e| target.failure(e))?;
            for error in refused {
                session.warn(&target.name, error.describe().id, error);
            }
            cleared
        }
        (None, Some(len)) => {
            let base = PhysAddr(args.base.unwrap_or(0));
            vec![clear(device, base, len).map_err(|e| target.failure(e))?]
        }
        // clap requires -o or -l.
        (None, None) => {
            let what = "use -o OWNER, or -l LENGTH with -b BASE";
            return Err(Failure::usage(what).id_is(Id::MissingArgument));
        }
    };
    if args.json {
        print(&target, "clear", &cleared, session)?;
    } else if cleared.is_empty() {
        session
            .voice
            .say(Id::NoSuchRange, "no active range of this owner");
    }
    Ok(())
}

/// What `set` and `clear` need.
const CHANGES: Needs = Needs {
    write: false,
    set: true,
    kernel: false,
    unprivileged: false,
    pid: None,
};

fn print(
    target: &Target,
    operation: &'static str,
    ranges: &[MemRange],
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let answer = Answer {
        machine: target.name.display().to_string(),
        operation,
        ranges: ranges.iter().map(RangeAnswer::of).collect(),
    };
    Ok(crate::json::print(&answer, &mut session.out)?)
}

impl Set {
    fn range(&self) -> MemRange {
        MemRange {
            base: PhysAddr(self.base),
            len: self.len,
            flags: self
                .attributes
                .iter()
                .fold(Mdf::default(), |all, one| all | *one),
            owner: self.owner,
        }
    }
}

fn set(device: &dyn MemDevice, range: &MemRange) -> Result<(), MemError> {
    device.set_range(range, MEMRANGE_SET_UPDATE)
}

/// Disables one range, and returns it.
fn clear(device: &dyn MemDevice, base: PhysAddr, len: u64) -> Result<MemRange, MemError> {
    let range = MemRange {
        base,
        len,
        flags: Mdf::default(),
        owner: Owner::default(),
    };
    device.set_range(&range, MEMRANGE_SET_REMOVE)?;
    Ok(range)
}

/// Disables every active range of `owner` that is not fixed. Returns the disabled ranges, and the
/// errors of those that the kernel refused to disable.
fn clear_owner(
    device: &dyn MemDevice,
    owner: Owner,
) -> Result<(Vec<MemRange>, Vec<MemError>), MemError> {
    let (mut cleared, mut refused) = (Vec::new(), Vec::new());
    for range in device.ranges()? {
        let can_be = range.flags.contains(Mdf::ACTIVE) && !range.flags.contains(Mdf::FIXACTIVE);
        if range.owner == owner && can_be {
            match device.set_range(&range, MEMRANGE_SET_REMOVE) {
                Ok(()) => cleared.push(range),
                Err(error) => refused.push(error),
            }
        }
    }
    Ok((cleared, refused))
}

/// Parses a number in C syntax.
fn parse_c_number(text: &str) -> Result<u64, String> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err("not a number: decimal, hexadecimal after 0x, octal after 0".into());
    }
    u64::from_str_radix(digits, radix).map_err(|_| "exceeds 64 bits".into())
}

/// Parses a length. memcontrol(8) takes 0 for a missing one.
fn parse_len(text: &str) -> Result<u64, String> {
    match parse_c_number(text)? {
        0 => Err("a length is not 0".into()),
        len => Ok(len),
    }
}

fn parse_owner(text: &str) -> Result<Owner, String> {
    if text.is_empty() {
        return Err("an owner has at least one byte".into());
    }
    if text.len() >= OWNER_LEN {
        return Err(format!("longer than {} bytes", OWNER_LEN - 1));
    }
    if text.chars().any(char::is_control) {
        return Err("control characters are not allowed".into());
    }
    Ok(Owner::new(text.as_bytes()))
}

fn parse_attribute(text: &str) -> Result<Mdf, String> {
    range::settable(text).ok_or_else(|| {
        "an attribute is uncacheable, write-combine, write-through, write-back, write-protect, \
         force or active"
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verb::mem::recorded;

    #[test]
    fn numbers_are_those_of_c() {
        assert_eq!(parse_c_number("0"), Ok(0));
        assert_eq!(parse_c_number("017"), Ok(15));
        assert_eq!(parse_c_number("0x1F"), Ok(31));
        assert_eq!(parse_c_number("18446744073709551615"), Ok(u64::MAX));
        for bad in [
            "",
            "-1",
            "+1",
            "0x",
            "08",
            "1k",
            "0xfffffffffffffffff",
            "0b1",
        ] {
            assert!(parse_c_number(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn owners_have_at_most_seven_bytes_that_fit_a_line() {
        for good in ["seventy", "a b", " "] {
            assert_eq!(parse_owner(good), Ok(Owner::new(good.as_bytes())));
        }
        for bad in ["", "eighteen", "größere", "a\nb", "a\tb", "\x1b[2J"] {
            assert!(parse_owner(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn set_and_clear_are_one_request_each() {
        let files = recorded::files(b"", b"");
        let device = files.device(false);
        let range = MemRange {
            base: PhysAddr(0xd000_0000),
            len: 0x100_0000,
            flags: Mdf::WRITECOMBINE | Mdf::FORCE,
            owner: Owner::new(b"video"),
        };
        set(&device, &range).unwrap();
        clear(&device, PhysAddr(0xd000_0000), 0x100_0000).unwrap();
        assert_eq!(
            device.kernel().asked(),
            [
                "set 0 0xd0000000/0x1000000 flags 0x80000002 video",
                "set 1 0xd0000000/0x1000000 flags 0x0 ",
            ]
        );
    }

    /// The recorded kernel has five ranges: one fixed, one inactive, one of another owner, one busy
    /// and one that can be disabled.
    #[test]
    fn an_owners_active_ranges_are_cleared_and_refusals_do_not_stop_it() {
        let files = recorded::files(b"", b"");
        let device = files.device(false);
        let (cleared, refused) = clear_owner(&device, Owner::new(b"video")).unwrap();
        assert_eq!(cleared.len(), 1);
        assert!(cleared[0].is(PhysAddr(0x5_0000_0000), 0x1000));
        assert_eq!(refused.len(), 1);
        assert!(matches!(refused[0], MemError::RangeBusy { .. }));
        assert_eq!(
            device.kernel().asked(),
            [
                "get 0",
                "get 5",
                "set 1 0x400000000/0x1000 flags 0x48000002 video",
                "set 1 0x500000000/0x1000 flags 0x8000002 video",
            ]
        );
    }
}
