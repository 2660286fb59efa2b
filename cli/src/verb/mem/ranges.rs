//! `livecore mem ranges`: MEMRANGE_GET and MEMRANGE_SET by the words of memcontrol(8).

use std::io::Write;

use livecore_livedump::mem4::range::{self, OWNER_LEN, Owner};
use livecore_livedump::mem4::{MemDevice, MemError, MemRange};
use livecore_livedump::sys::memrange::{MEMRANGE_SET_REMOVE, MEMRANGE_SET_UPDATE, Mdf};
use serde::Serialize;

use super::source::{Needs, Source, Target};
use crate::failure::Failure;
use crate::json::Hex;
use crate::session::Session;

const MANUAL: &str = "\
Examples:
  livecore mem ranges --image machine
  livecore mem ranges set -b 0xd0000000 -l 0x1000000 -o video write-combine --image machine
  livecore mem ranges clear -o video --image machine

Options, words and the list are those of memcontrol(8), one thing apart: a word or number that makes no \
sense changes nothing. Numbers are decimal, hexadecimal after 0x, octal after 0. A range is listed as \
`BASE/LENGTH OWNER` and the names of its flags.

An emulated machine keeps its ranges in memory-ranges.json in the directory that `synth --out` wrote; \
until the first change they are what firmware leaves.";

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL, args_conflicts_with_subcommands = true)]
#[command(
    subcommand_value_name = "OPERATION",
    subcommand_help_heading = "Operations"
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub operation: Option<Operation>,
    /// Listing, if nothing else is said.
    #[command(flatten)]
    pub list: List,
}

/// What to do with the ranges.
#[derive(Debug, clap::Subcommand)]
pub enum Operation {
    /// List active ranges; what `mem ranges` alone does
    List(List),
    /// Establish a range, or change one
    Set(Set),
    /// Disable a range, or all of an owner
    Clear(Clear),
}

/// Which ranges to list.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Whose memory.
    #[command(flatten)]
    pub source: Source,
    /// Inactive ranges too
    #[arg(short)]
    pub all: bool,
    /// Only this owner's
    #[arg(short, value_name = "OWNER", value_parser = parse_owner)]
    pub owner: Option<Owner>,
    /// One JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// A range to be set.
#[derive(Debug, clap::Args)]
pub struct Set {
    /// Whose memory.
    #[command(flatten)]
    pub source: Source,
    /// Its physical address
    #[arg(short, value_name = "BASE", value_parser = parse_c_number)]
    pub base: u64,
    /// Its bytes: a power of two
    #[arg(short, value_name = "LENGTH", value_parser = parse_c_number)]
    pub len: u64,
    /// Who claims it, at most seven bytes
    #[arg(short, value_name = "OWNER", value_parser = parse_owner, default_value = "user")]
    pub owner: Owner,
    /// One of uncacheable, write-combine, write-through, write-back, write-protect; also force
    /// (change a range of unknown kind) and active, which every range becomes
    #[arg(value_name = "ATTRIBUTE", value_parser = parse_attribute, required = true)]
    pub attributes: Vec<Mdf>,
    /// Say what was set as one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// Ranges to be disabled.
#[derive(Debug, clap::Args)]
pub struct Clear {
    /// Whose memory.
    #[command(flatten)]
    pub source: Source,
    /// Every active range of this owner that can be disabled
    #[arg(short, value_name = "OWNER", value_parser = parse_owner)]
    #[arg(conflicts_with_all = ["base", "len"], required_unless_present = "base")]
    pub owner: Option<Owner>,
    /// The range at this physical address
    #[arg(short, value_name = "BASE", value_parser = parse_c_number, requires = "len")]
    pub base: Option<u64>,
    /// and of exactly so many bytes
    #[arg(short, value_name = "LENGTH", value_parser = parse_c_number, requires = "base")]
    pub len: Option<u64>,
    /// Say what was disabled as one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// One JSON answer; docs/schemas/mem-ranges.schema.json.
#[derive(Debug, Serialize)]
struct Answer {
    machine: String,
    operation: &'static str,
    ranges: Vec<Range>,
}

#[derive(Debug, Serialize)]
struct Range {
    base: Hex,
    length: u64,
    flags: Hex,
    names: Vec<&'static str>,
    owner: Option<String>,
}

impl Range {
    fn of(range: &MemRange) -> Self {
        Self {
            base: Hex(range.base),
            length: range.len,
            flags: Hex(range.flags.0.into()),
            names: range::names(range.flags).collect(),
            owner: (!range.owner.is_empty()).then(|| range.owner.to_string()),
        }
    }
}

/// Lists, sets or clears.
pub fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
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
            && args.owner.is_none_or(|owner| owner == range.owner)
    });
    if args.json {
        return tell(&target, "list", &ranges, session);
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
        tell(&target, "set", &[range], session)?;
    }
    Ok(())
}

fn run_clear(args: &Clear, session: &mut Session<'_>) -> Result<(), Failure> {
    let target = args.source.open(CHANGES, session)?;
    let device = &*target.device;
    let cleared = match (args.owner, args.base, args.len) {
        (Some(owner), ..) => {
            let (cleared, refused) = clear_owner(device, owner).map_err(|e| target.failure(e))?;
            for error in refused {
                session.warn(&target.name, error);
            }
            cleared
        }
        (None, Some(base), Some(len)) => {
            vec![clear(device, base, len).map_err(|e| target.failure(e))?]
        }
        // The parser wants an owner, or both of the others.
        _ => return Err(Failure::usage("say -o OWNER, or -b BASE -l LENGTH")),
    };
    if args.json {
        tell(&target, "clear", &cleared, session)?;
    } else if cleared.is_empty() {
        session.voice.say("no active range of that owner");
    }
    Ok(())
}

/// What set and clear need.
const CHANGES: Needs = Needs {
    write: false,
    set: true,
    kernel: false,
    pid: None,
};

fn tell(
    target: &Target,
    operation: &'static str,
    ranges: &[MemRange],
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let answer = Answer {
        machine: target.name.display().to_string(),
        operation,
        ranges: ranges.iter().map(Range::of).collect(),
    };
    Ok(crate::json::print(&answer, &mut session.out)?)
}

impl Set {
    fn range(&self) -> MemRange {
        MemRange {
            base: self.base,
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

/// One request; the range as it was asked for.
fn clear(device: &dyn MemDevice, base: u64, len: u64) -> Result<MemRange, MemError> {
    let range = MemRange {
        base,
        len,
        flags: Mdf::default(),
        owner: Owner::default(),
    };
    device.set_range(&range, MEMRANGE_SET_REMOVE)?;
    Ok(range)
}

/// Disables every active range of `owner` that is not fixed: those that were, and why others were
/// not.
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

/// A number as C writes it.
fn parse_c_number(text: &str) -> Result<u64, String> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err("not a number: decimal, hexadecimal after 0x, octal after 0".into());
    }
    u64::from_str_radix(digits, radix).map_err(|_| "does not fit 64 bits".into())
}

fn parse_owner(text: &str) -> Result<Owner, String> {
    if text.len() >= OWNER_LEN {
        return Err(format!("longer than {} bytes", OWNER_LEN - 1));
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("white space and control characters would spoil the list".into());
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
        assert_eq!(parse_owner("seventy"), Ok(Owner::new(b"seventy")));
        for bad in ["eighteen", "größere", "a b", "a\nb", "\x1b[2J"] {
            assert!(parse_owner(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn set_and_clear_are_one_request_each() {
        let files = recorded::files(b"", b"");
        let device = files.device(false);
        let range = MemRange {
            base: 0xd000_0000,
            len: 0x100_0000,
            flags: Mdf::WRITECOMBINE | Mdf::FORCE,
            owner: Owner::new(b"video"),
        };
        set(&device, &range).unwrap();
        clear(&device, 0xd000_0000, 0x100_0000).unwrap();
        assert_eq!(
            device.kernel().asked(),
            [
                "set 0 0xd0000000/0x1000000 flags 0x80000002 video",
                "set 1 0xd0000000/0x1000000 flags 0x0 ",
            ]
        );
    }

    /// The recorded kernel has a fixed and an inactive range of the owner, one of another's, one
    /// that is busy, and one to be disabled.
    #[test]
    fn an_owners_active_ranges_are_cleared_and_refusals_do_not_stop_it() {
        let files = recorded::files(b"", b"");
        let device = files.device(false);
        let (cleared, refused) = clear_owner(&device, Owner::new(b"video")).unwrap();
        assert_eq!(cleared.len(), 1);
        assert!(cleared[0].is(0x5_0000_0000, 0x1000));
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
