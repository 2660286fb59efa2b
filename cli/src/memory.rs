//! The memory limit of a run, for data whose size an input file determines: bitmaps, page tables,
//! decoded frames.

use livecore_livedump::sys::sysctl;
use rustix::process::{Resource, getrlimit};

/// The default limit on a machine with enough memory.
pub(crate) const DEFAULT_MAX: u64 = 256 << 20;
/// The smallest default limit; with less no dump can be opened.
const DEFAULT_MIN: u64 = 16 << 20;

/// The default limit: the least of [`DEFAULT_MAX`], a quarter of the available memory, and half of
/// the address space that `ulimit -v` allows.
pub(crate) fn default_budget() -> u64 {
    let available = available().map(|bytes| bytes / 4);
    let limit = getrlimit(Resource::As).current.map(|bytes| bytes / 2);
    [available, limit]
        .into_iter()
        .flatten()
        .fold(DEFAULT_MAX, u64::min)
        .max(DEFAULT_MIN)
}

/// The memory available without paging, in bytes: Linux's estimate, or FreeBSD's free and inactive
/// pages.
fn available() -> Option<u64> {
    let linux = std::fs::read_to_string("/proc/meminfo").ok();
    if let Some(bytes) = linux.as_deref().and_then(mem_available) {
        return Some(bytes);
    }
    let pages = ["vm.stats.vm.v_free_count", "vm.stats.vm.v_inactive_count"];
    let mut sum = 0_u64;
    for name in pages {
        sum = sum.checked_add(sysctl::number(name).ok()?)?;
    }
    sum.checked_mul(sysctl::number("hw.pagesize").ok()?)
}

fn mem_available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_of_linux_in_bytes() {
        let text = "MemTotal:  8000 kB\nMemFree: 1 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(mem_available(text), Some(2 << 20));
        assert_eq!(mem_available("MemAvailable: many kB\n"), None);
    }

    #[test]
    fn default_is_within_its_bounds() {
        assert!((DEFAULT_MIN..=DEFAULT_MAX).contains(&default_budget()));
    }
}
