//! Per-CPU data, counters and CPU times (FreeBSD `lib/libkvm/kvm_pcpu.c`, `kvm_cptime.c`).

use std::ffi::c_long;

use livecore_kernel::{Kernel, KernelError};
use livecore_minidump::{ElfMachine, VirtAddr};

use crate::abi::CPUSTATES;
use crate::failure::Failure;
use crate::opened::Opened;

/// The maximum number of CPUs; the largest `MAXCPU` of FreeBSD 15.0 is 1024.
const CPUS: u64 = 4096;

/// A number of CPUs.
fn count(kernel: &Kernel<'_>, name: &str) -> Result<u32, Failure> {
    let found = kernel.variable(name, 4)?;
    if !(1..=CPUS).contains(&found) {
        return Err(KernelError::Implausible {
            what: name.into(),
            found,
            expected: "1 to 4096 CPUs",
        }
        .into());
    }
    Ok(found as u32) // at most CPUS
}

/// `mp_maxcpus`: the number of CPUs that the kernel is compiled for.
pub(crate) fn max(kernel: &Kernel<'_>) -> Result<u32, Failure> {
    count(kernel, "mp_maxcpus")
}

/// `mp_ncpus`: the number of CPUs.
pub(crate) fn present(kernel: &Kernel<'_>) -> Result<u32, Failure> {
    count(kernel, "mp_ncpus")
}

/// The `struct pcpu` of a CPU, or `None` if there is no such CPU.
///
/// Without type information, its size is that of a page, as it is on amd64 and i386.
pub(crate) fn pcpu(opened: &Opened, cpu: i32) -> Result<Option<Vec<u8>>, Failure> {
    opened.native("cannot read per-CPU data from non-native core")?;
    let kernel = opened.typed()?;
    let all = pointers(kernel, "cpuid_to_pcpu", max(kernel)?)?;
    let at = usize::try_from(cpu).ok().and_then(|cpu| all.get(cpu));
    let Some(at) = at.copied().filter(|at| *at != 0) else {
        return Ok(None);
    };
    let known = kernel.types().and_then(|types| types.structure("pcpu"));
    let size = known
        .map(|known| known.size)
        .filter(|size| *size <= 1 << 16);
    let size = size.unwrap_or(kernel.memory().page_size());
    let mut bytes = vec![0; size as usize];
    kernel.bytes_at("struct pcpu", VirtAddr(at), &mut bytes)?;
    Ok(Some(bytes))
}

/// The address of the copy of a CPU of memory from a per-CPU zone (`zpcpu_get_cpu` in FreeBSD
/// `sys/sys/pcpu.h`): the copies are a page apart. On amd64 since 13.0, `base` is relative to `__pcpu`.
pub(crate) fn zone_address(opened: &Opened, base: u64, cpu: i32) -> Result<u64, Failure> {
    let kernel = opened.kernel()?;
    let cpu = u64::try_from(cpu).map_err(|_| Failure::hard(format_args!("no CPU {cpu}")))?;
    let word = kernel.elf().pointer_size() as u64;
    let relative = opened.dump().arch().machine == ElfMachine::EM_X86_64
        && kernel
            .elf()
            .symbol("__pcpu")
            .is_some_and(|s| s.size == word);
    let start = match relative {
        true => kernel.pointer("__pcpu")?.0,
        false => 0,
    };
    let copy = kernel.memory().page_size().wrapping_mul(cpu);
    Ok(base.wrapping_add(start).wrapping_add(copy))
}

/// The value of a counter(9): the sum of its copies.
pub(crate) fn counter(opened: &Opened, base: u64) -> Result<u64, Failure> {
    let kernel = opened.kernel()?;
    let mut sum = 0_u64;
    for cpu in 0..present(kernel)? {
        // At most CPUS.
        let at = zone_address(opened, base, cpu as i32)?;
        sum = sum.wrapping_add(kernel.uint_at("counter", VirtAddr(at), 8)?);
    }
    Ok(sum)
}

/// `cp_time`, or the sum of `pc_cp_time` of all CPUs.
pub(crate) fn times(opened: &Opened) -> Result<[c_long; CPUSTATES], Failure> {
    opened.native("cannot read cp_time from non-native core")?;
    let kernel = opened.typed()?;
    let word = kernel.elf().pointer_size();
    let mut sums = [0; CPUSTATES];
    let mut add = |what: &str, at: VirtAddr| -> Result<(), Failure> {
        for (slot, at) in sums
            .iter_mut()
            .zip((0..).map(|i| at.wrapping_add(i * word as u64)))
        {
            // A native `long` has the width of a `c_long`.
            *slot = c_long::wrapping_add(*slot, kernel.uint_at(what, at, word)? as c_long);
        }
        Ok(())
    };
    if let Ok(at) = kernel.address("cp_time") {
        add("cp_time", at)?;
        return Ok(sums);
    }
    let member = kernel
        .types()
        .and_then(|types| types.member("pcpu", "pc_cp_time"));
    let Some(member) = member else {
        return Err(Failure::hard(
            "cannot read cp_time: the kernel has no type information about struct pcpu",
        ));
    };
    for at in pointers(kernel, "cpuid_to_pcpu", max(kernel)?)? {
        if at != 0 {
            add("pc_cp_time", VirtAddr(at).wrapping_add(member.offset))?;
        }
    }
    Ok(sums)
}

/// Reads the array `name` of `count` pointers.
pub(crate) fn pointers(kernel: &Kernel<'_>, name: &str, count: u32) -> Result<Vec<u64>, Failure> {
    let (at, word) = (kernel.address(name)?, kernel.elf().pointer_size());
    let mut bytes = vec![0; count as usize * word];
    kernel.bytes_at(name, VirtAddr(at.0), &mut bytes)?;
    let order = kernel.elf().order();
    let words = bytes.chunks_exact(word);
    Ok(words.filter_map(|word| order.uint(word)).collect())
}
