//! The strings and the time for the kerneldumpheader.

use livecore_kernel::Kernel;
use livecore_kernel::locate::LocateError;
use livecore_minidump::{Address, VirtAddr};

use crate::take::note::Note;

/// The longest string that is read from a kernel, bytes.
const STRING_LIMIT: usize = 4096;
/// `MAXHOSTNAMELEN`, the size of `pr_name` and `pr_hostname`.
const MAXHOSTNAMELEN: usize = 256;
/// `MAXPATHLEN`, the size of `pr_path`, which is between the two.
const MAXPATHLEN: usize = 1024;
/// The three strings follow numbers and pointers in the first bytes of `struct prison`.
const PRISON_SEARCH: usize = 0x600;

/// The data for the kerneldumpheader, except sizes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// `prison0`'s host name; empty if it was not found.
    pub hostname: Vec<u8>,
    /// `version`
    pub version: Vec<u8>,
    /// The string at `panicstr`; empty if the kernel has not panicked.
    pub panic: Vec<u8>,
    /// `time_second`; 0 if there is no such variable.
    pub time: u64,
    /// `osreldate`; 0 if there is no such variable.
    pub osreldate: u32,
}

impl Facts {
    /// Reads the data. Adds notes about missing data.
    pub(super) fn read(kernel: &Kernel<'_>, notes: &mut Vec<Note>) -> Result<Self, LocateError> {
        let version = kernel.address("version").ok();
        let time = kernel.address("time_second").ok();
        let panic = kernel
            .pointer("panicstr")
            .ok()
            .filter(|at| *at != VirtAddr(0));
        let osreldate = kernel.variable("osreldate", 4).ok();
        let facts = Self {
            hostname: hostname(kernel).unwrap_or_default(),
            version: version.map_or_else(Vec::new, |at| kernel.c_string_at(at, STRING_LIMIT)),
            panic: panic.map_or_else(Vec::new, |at| kernel.c_string_at(at, STRING_LIMIT)),
            time: match time {
                // `time_t` has 32 bits on i386, and 64 elsewhere.
                Some(at) => kernel.long_at("time_second", at)?,
                None => 0,
            },
            osreldate: osreldate.unwrap_or(0) as u32, // four bytes were read
        };
        if facts.hostname.is_empty() {
            notes.push(Note::NoHostname);
        }
        if time.is_none() {
            notes.push(Note::NoTime);
        }
        Ok(facts)
    }
}

/// `prison0.pr_hostname`.
///
/// Its offset is not exported and differs between releases. Its surroundings do not (FreeBSD
/// `sys/sys/jail.h`, 8 to 15): `pr_name`, `pr_path` and `pr_hostname` are adjacent, and those of
/// `prison0` are `0` and `/` and the host name.
fn hostname(kernel: &Kernel<'_>) -> Option<Vec<u8>> {
    let prison0 = kernel.address("prison0").ok()?;
    let mut bytes = vec![0; PRISON_SEARCH + 2 * MAXHOSTNAMELEN + MAXPATHLEN];
    // Read as much as is mapped, since the structure may end before the search does.
    let (got, _) = kernel
        .memory()
        .read_part(Address::Virt(prison0), &mut bytes);
    bytes.truncate(got);
    find_hostname(&bytes).map(<[u8]>::to_vec)
}

fn find_hostname(prison: &[u8]) -> Option<&[u8]> {
    const PATH: usize = MAXHOSTNAMELEN;
    const HOSTNAME: usize = PATH + MAXPATHLEN;
    (0..PRISON_SEARCH)
        .step_by(4)
        .map_while(|at| prison.get(at..at + HOSTNAME + MAXHOSTNAMELEN))
        .find(|strings| {
            strings.starts_with(b"0\0")
                && strings[2..PATH].iter().all(|b| *b == 0)
                && strings[PATH..].starts_with(b"/\0")
        })
        .map(|strings| {
            let name = &strings[HOSTNAME..];
            &name[..name.iter().position(|b| *b == 0).unwrap_or(0)]
        })
        .filter(|name| name.iter().all(u8::is_ascii_graphic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostname_follows_name_and_path_of_prison0() {
        for offset in [0x158, 0x170, 0x1c8, 0xf4] {
            let mut prison = vec![0xee; offset];
            let mut put = |text: &[u8], size: usize| {
                let end = prison.len() + size;
                prison.extend(text);
                prison.resize(end, 0);
            };
            put(b"0", 256);
            put(b"/", 1024);
            put(b"host.example.org", 256);
            assert_eq!(find_hostname(&prison).unwrap(), b"host.example.org");
            prison[offset + 256] = b'x';
            assert_eq!(find_hostname(&prison), None);
        }
        assert_eq!(find_hostname(&[0; 4096]), None);
    }
}
