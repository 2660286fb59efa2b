//! Reads the registers of a thread from a `struct pcb`.

use crate::error::KernelError;
use crate::kernel::Kernel;
use crate::registers::Registers;
use crate::thread::Thread;
use livecore_defs::pcb::PcbFields;
use livecore_minidump::VirtAddr;

impl Kernel<'_> {
    /// Returns the registers of a thread. Those of a thread that was still running are unknown.
    ///
    /// # Errors
    ///
    /// Returns an error if they cannot be read or the register layout is unknown.
    pub fn registers(&self, thread: &Thread) -> Result<Registers, KernelError> {
        match thread.pcb {
            Some(pcb) => self.registers_at(pcb),
            None => {
                let machine = self.elf().machine();
                Registers::set_of(machine, self.register_size())
                    .map(Registers::unknown)
                    .ok_or(KernelError::UnknownMachine(machine))
            }
        }
    }

    /// Returns the registers in the `struct pcb` at `at`.
    ///
    /// If layouts differ by release, `osreldate` selects one, then `pcb_size`. If several remain,
    /// the one whose registers are most plausible is used.
    ///
    /// # Errors
    ///
    /// Returns an error if the registers cannot be read or the layout is unknown.
    pub fn registers_at(&self, at: VirtAddr) -> Result<Registers, KernelError> {
        let mut layouts = self.pcb_layouts();
        let Some(newest) = layouts.first() else {
            return Err(KernelError::UnknownMachine(self.elf().machine()));
        };
        let first = self.registers_as(newest, at)?;
        if layouts.len() == 1 {
            return Ok(first);
        }
        let mut best = (self.likelihood(&first), first);
        for layout in layouts.drain(1..) {
            let Ok(found) = self.registers_as(layout, at) else {
                continue;
            };
            let likelihood = self.likelihood(&found);
            if likelihood > best.0 {
                best = (likelihood, found);
            }
        }
        Ok(best.1)
    }

    /// Whether the pcb of a trap at `at` has user-mode registers.
    ///
    /// On arm64 12.1, the debugger gets the frame of the thread's system call, if it is in one
    /// (`do_el1h_sync`). That frame does not have the kernel's registers.
    pub fn is_of_program(&self, at: VirtAddr) -> bool {
        self.pcb_layout().is_some_and(|layout| {
            let pc = layout.trapped.map(|trapped| trapped.pc as u64);
            let pc = pc.and_then(|pc| self.uint_at("pcb", at.checked_add(pc)?, layout.word).ok());
            // User mode has the lower half of the 64-bit addresses.
            pc.is_some_and(|pc| pc != 0 && pc >> 63 == 0)
        })
    }

    /// The pcb layout of this kernel, if `osreldate` and `pcb_size` select exactly one.
    pub fn pcb_layout(&self) -> Option<&'static PcbFields> {
        match self.pcb_layouts()[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The possible pcb layouts of this kernel, newest first.
    fn pcb_layouts(&self) -> Vec<&'static PcbFields> {
        let word = self.register_size();
        let all = self.architecture().map_or(&[][..], |row| row.pcbs);
        let of_word = all.iter().copied().filter(|l| l.word == word);
        let version = self.osreldate();
        let mut layouts: Vec<_> = of_word
            .filter(|l| version.is_none_or(|v| (l.since..l.until).contains(&v)))
            .collect();
        if layouts.len() > 1 {
            let size = self.variable("pcb_size", 4).unwrap_or(0);
            if layouts.iter().any(|l| l.size != 0 && l.size == size) {
                layouts.retain(|l| l.size == size);
            } else {
                layouts.retain(|l| l.size == 0);
            }
        }
        layouts
    }

    /// Rates how plausible registers are for a kernel thread.
    fn likelihood(&self, found: &Registers) -> u32 {
        const NULL: VirtAddr = VirtAddr(0);
        let (pc, sp) = (found.pc().unwrap_or(NULL), found.sp().unwrap_or(NULL));
        let fp = found.fp().unwrap_or(NULL);
        let stack = sp != NULL && self.is_mapped(sp);
        let code = pc != NULL && self.is_code(pc);
        let is_near = fp.offset_from(sp).is_some_and(|len| len < 1 << 20);
        let above = stack && is_near && self.is_mapped(fp);
        // The frame pointer of a thread that has never run is 0.
        u32::from(stack) * 4 + u32::from(code) * 2 + u32::from(above || fp == NULL)
    }

    fn registers_as(&self, layout: &PcbFields, at: VirtAddr) -> Result<Registers, KernelError> {
        let machine = self.elf().machine();
        let set = Registers::set_of(machine, layout.word);
        let set = set.ok_or(KernelError::UnknownMachine(machine))?;
        let mut found = Registers::unknown(set);
        for &(name, offset) in layout.registers {
            let value = self.uint_at(name, at.wrapping_add(offset as u64), layout.word)?;
            found.put(name, self.address_in(value));
        }
        if let Some(pc) = found.get(layout.pc) {
            found.put(set.pc, pc);
        }
        if let Some(trapped) = layout.trapped
            && self.address("kdb_pcb").is_ok_and(|kdb| kdb == at)
        {
            for &(name, offset) in trapped.registers {
                let value = self.uint_at(name, at.wrapping_add(offset as u64), layout.word)?;
                found.put(name, self.address_in(value));
            }
            let pc = self.uint_at("pc", at.wrapping_add(trapped.pc as u64), layout.word)?;
            if pc != 0 {
                found.put(set.pc, pc);
            }
        }
        // This register is always 0.
        found.put("zero", 0);
        // `savectx` and `cpu_switch` save registers after a call. `makectx` copies those of a trap.
        if self.address("kdb_pcb").map_or(true, |kdb| kdb != at) {
            found.mark_left_by_call();
        }
        Ok(found)
    }
}
