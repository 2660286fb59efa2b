//! Reads members, lists and per-CPU values.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt::Display;

use livecore_defs::statistics::AMD64_RELATIVE_PCPU;
use livecore_minidump::{ElfMachine, VirtAddr};

use crate::error::KernelError;
use crate::kernel::Kernel;
use crate::structure::Member;

/// The maximum number of elements of a list.
pub(super) const LIST: usize = 1 << 16;
/// The maximum number of CPUs.
const CPUS: u64 = 1024;
/// The maximum number of NUMA domains.
const DOMAINS: u64 = 64;
/// The largest offset in a structure.
const LARGEST: u64 = 1 << 20;
/// The maximum number of values that a section reads: lists in lists and per-CPU values multiply. 700
/// malloc(9) types and 300 zones on 1024 CPUs are 5 million values.
const READS: u64 = 1 << 23;
/// The maximum number of problems that are listed.
const PROBLEMS: usize = 16;
/// The maximum length of a name.
const NAME: usize = 128;

/// Reads a kernel's structures, and collects problems.
pub(super) struct Reader<'a> {
    pub(super) kernel: &'a Kernel<'a>,
    problems: Vec<String>,
    cpus: u64,
    /// What is added to a per-CPU pointer.
    per_cpu: u64,
    /// How many values can still be read.
    reads: Cell<u64>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(kernel: &'a Kernel<'a>) -> Self {
        let cpus = kernel.variable("mp_maxid", 4).map_or(1, |last| last + 1);
        let relative = kernel.elf().machine() == ElfMachine::EM_X86_64
            && kernel
                .osreldate()
                .is_some_and(|release| release >= AMD64_RELATIVE_PCPU);
        let per_cpu = match relative {
            true => kernel.pointer("__pcpu").map_or(0, |at| at.0),
            false => 0,
        };
        Self {
            kernel,
            problems: Vec::new(),
            cpus: cpus.min(CPUS),
            per_cpu,
            reads: Cell::new(READS),
        }
    }

    /// Counts a value that is read.
    fn count(&self) -> Result<(), KernelError> {
        match self.reads.get().checked_sub(1) {
            Some(left) => {
                self.reads.set(left);
                Ok(())
            }
            None => Err(KernelError::Implausible {
                what: "values of the section".into(),
                found: READS + 1,
                expected: "at most 8388608 values",
            }),
        }
    }

    pub(super) fn problem(&mut self, what: &dyn Display) {
        let what = what.to_string();
        if self.problems.len() < PROBLEMS && !self.problems.contains(&what) {
            self.problems.push(what);
        }
    }

    /// The problems. That values were not read because of the limit is always among them.
    pub(super) fn into_problems(mut self) -> Vec<String> {
        if let Err(error) = self.count() {
            self.problems.truncate(PROBLEMS - 1);
            self.problem(&error);
        }
        self.problems
    }

    /// Returns the value of a result. An error becomes a problem.
    pub(super) fn known<T>(&mut self, result: Result<T, KernelError>) -> Option<T> {
        result.map_err(|error| self.problem(&error)).ok()
    }

    pub(super) fn page(&self) -> u64 {
        self.kernel.memory().page_size()
    }

    pub(super) fn word(&self) -> u64 {
        self.kernel.elf().pointer_size() as u64
    }

    pub(super) fn cpus(&self) -> u64 {
        self.cpus
    }

    /// The number of NUMA domains.
    pub(super) fn domains(&self) -> u64 {
        let count = self.kernel.variable("vm_ndomains", 4).unwrap_or(1);
        count.clamp(1, DOMAINS)
    }

    pub(super) fn size_of(&self, structure: &str) -> Result<u64, KernelError> {
        let types = self.kernel.types();
        let found = types.and_then(|types| types.structure(structure));
        let size = found
            .map(|s| s.size)
            .filter(|size| (1..LARGEST).contains(size));
        size.ok_or_else(|| KernelError::NoMember(structure.into()))
    }

    pub(super) fn member(&self, structure: &str, member: &str) -> Result<Member, KernelError> {
        let types = self.kernel.types();
        let found = types.and_then(|types| types.member(structure, member));
        found
            .filter(|m| m.offset < LARGEST)
            .ok_or_else(|| KernelError::NoMember(format!("{structure}.{member}")))
    }

    /// Returns the address of a member of the structure at `at`.
    pub(super) fn place(
        &self,
        at: VirtAddr,
        structure: &str,
        member: &str,
    ) -> Result<VirtAddr, KernelError> {
        Ok(at.wrapping_add(self.member(structure, member)?.offset))
    }

    /// Reads an integer or a pointer in the structure at `at`.
    pub(super) fn field(
        &self,
        at: VirtAddr,
        structure: &str,
        member: &str,
    ) -> Result<u64, KernelError> {
        self.count()?;
        let found = self.member(structure, member)?;
        let size = match found.size {
            size @ (1 | 2 | 4 | 8) => size as usize,
            _ => return Err(KernelError::NoMember(format!("{structure}.{member}"))),
        };
        self.kernel
            .uint_at(member, at.wrapping_add(found.offset), size)
    }

    /// Reads a string that a member points at.
    pub(super) fn string(
        &self,
        at: VirtAddr,
        structure: &str,
        member: &str,
    ) -> Result<String, KernelError> {
        let at = VirtAddr(self.field(at, structure, member)?);
        Ok(self.text(at, NAME))
    }

    /// Reads a NUL-terminated string of at most `limit` bytes.
    pub(super) fn text(&self, at: VirtAddr, limit: usize) -> String {
        match at {
            VirtAddr(0) => String::new(),
            at => String::from_utf8_lossy(&self.kernel.c_string_at(at, limit)).into_owned(),
        }
    }

    /// Follows a list from the address of its first element's pointer. `link` is the offset of the
    /// pointer to the next element.
    pub(super) fn list(&mut self, name: &str, head: VirtAddr, link: u64) -> Vec<VirtAddr> {
        let mut found = Vec::new();
        let mut met = HashSet::new();
        let mut next = self.kernel.pointer_at(name, head);
        loop {
            match self.count().and(next) {
                Ok(VirtAddr(0)) => return found,
                Ok(at) if !met.insert(at) => {
                    self.problem(&format!("{name}: list is circular at {at}"));
                    return found;
                }
                Ok(_) if found.len() >= LIST => {
                    self.problem(&format!("{name}: more than {LIST} elements"));
                    return found;
                }
                Ok(at) => {
                    found.push(at);
                    next = self.kernel.pointer_at(name, at.wrapping_add(link));
                }
                Err(error) => {
                    self.problem(&error);
                    return found;
                }
            }
        }
    }

    /// Returns the address of a CPU's copy of what a per-CPU pointer points at.
    pub(super) fn of_cpu(&self, pointer: u64, cpu: u64) -> VirtAddr {
        VirtAddr(pointer)
            .wrapping_add(self.per_cpu)
            .wrapping_add(cpu * self.page())
    }

    /// Returns the sum of a counter(9) over all CPUs.
    pub(super) fn counter(&self, pointer: u64) -> Result<u64, KernelError> {
        let mut sum = 0_u64;
        if pointer == 0 {
            return Ok(0);
        }
        for cpu in 0..self.cpus {
            self.count()?;
            let at = self.of_cpu(pointer, cpu);
            sum = sum.wrapping_add(self.kernel.uint_at("counter", at, 8)?);
        }
        Ok(sum)
    }
}
