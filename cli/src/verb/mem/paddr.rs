//! `livecore mem paddr`: MEM_EXTRACT_PADDR.

use std::io::Write;

use livecore_livedump::mem4::{Extracted, MemDevice, MemError};
use livecore_livedump::sys::memrange::MeState;
use livecore_minidump::VirtAddr;
use serde::Serialize;

use super::source::{Needs, Source};
use crate::failure::Failure;
use crate::id::Id;
use crate::json::Hex;
use crate::session::Session;
use livecore_kernel::parse_address;

const MANUAL: &str = "\
Examples:
  livecore mem paddr --image machine --pid 814 0x200000 0x7ffffffff000
  livecore mem paddr                                                    (on FreeBSD)

On FreeBSD, the kernel translates only addresses of the calling process, which is livecore. Without \
ADDR, livecore translates the address of one of its own pages. An address is `invalid`, `valid` (but not mapped now) or \
`mapped` to a physical address in a NUMA domain. None of these states is an error. The mapping may have changed \
by the time it is printed.";

/// Arguments of `livecore mem paddr`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The machine whose memory is accessed.
    #[command(flatten)]
    pub source: Source,
    /// Process of an emulated machine
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// Virtual addresses: decimal, or hexadecimal after 0x
    #[arg(value_name = "ADDR", value_parser = parse_address)]
    pub addresses: Vec<VirtAddr>,
    /// Print one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// JSON output; docs/schemas/mem-paddr.schema.json.
#[derive(Debug, Serialize)]
struct Answer {
    machine: String,
    pid: u32,
    addresses: Vec<Address>,
}

#[derive(Debug, Serialize)]
struct Address {
    address: Hex,
    state: &'static str,
    physical: Option<Hex>,
    domain: Option<i32>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let pid = match (args.source.is_emulated(), args.pid) {
        (true, Some(pid)) => pid,
        (true, None) => {
            return Err(Failure::usage("no process given")
                .id_is(Id::MissingArgument)
                .next("use --pid PID"));
        }
        (false, Some(_)) => {
            return Err(Failure::usage(
                "--pid needs --machine or --image: a kernel translates only addresses of the calling process",
            ).id_is(Id::ConflictingArguments));
        }
        (false, None) => std::process::id(),
    };
    if args.source.is_emulated() && args.addresses.is_empty() {
        return Err(Failure::usage("no address given").id_is(Id::MissingArgument));
    }
    let needs = Needs {
        kernel: args.source.is_emulated(),
        pid: args.pid,
        ..Needs::default()
    };
    let target = args.source.open(needs, session)?;
    // Our own page, touched and kept until the end.
    let own = vec![1_u8; 4096];
    let mut addresses = args.addresses.clone();
    if addresses.is_empty() {
        addresses.push(VirtAddr(own.as_ptr().addr() as u64));
    }
    let asked = ask(&*target.device, &addresses).map_err(|e| target.failure(e))?;
    drop(own);
    if args.json {
        let answer = Answer {
            machine: target.name.display().to_string(),
            pid,
            addresses: asked,
        };
        return Ok(crate::json::print(&answer, &mut session.out)?);
    }
    for address in asked {
        writeln!(session.out, "{}", line(&address))?;
    }
    Ok(())
}

fn ask(device: &dyn MemDevice, addresses: &[VirtAddr]) -> Result<Vec<Address>, MemError> {
    addresses
        .iter()
        .map(|&at| {
            let Extracted {
                state,
                paddr,
                domain,
            } = device.extract_paddr(at)?;
            let mapped = state == MeState::Mapped;
            Ok(Address {
                address: Hex(at.0),
                state: match state {
                    MeState::Invalid => "invalid",
                    MeState::Valid => "valid",
                    MeState::Mapped => "mapped",
                },
                physical: mapped.then(|| paddr.into()),
                domain: mapped.then_some(domain),
            })
        })
        .collect()
}

fn line(address: &Address) -> String {
    let mut line = format!("{:#x} {}", address.address.0, address.state);
    if let (Some(physical), Some(domain)) = (address.physical, address.domain) {
        line.push_str(&format!(" {:#x} domain {domain}", physical.0));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verb::mem::recorded;

    #[test]
    fn each_address_is_one_request_and_its_answer_one_line() {
        let files = recorded::files(b"", b"");
        let device = files.device(false);
        let lines = |addresses: &[u64]| {
            let addresses: Vec<_> = addresses.iter().copied().map(VirtAddr).collect();
            let asked = ask(&device, &addresses).unwrap();
            asked.iter().map(line).collect::<Vec<_>>()
        };
        assert_eq!(
            lines(&[recorded::MAPPED, recorded::VALID, u64::MAX]),
            [
                "0x7000 mapped 0x5000 domain 1",
                "0x8000 valid",
                "0xffffffffffffffff invalid"
            ]
        );
        assert_eq!(
            device.kernel().asked(),
            ["paddr 0x7000", "paddr 0x8000", "paddr 0xffffffffffffffff"]
        );
    }
}
