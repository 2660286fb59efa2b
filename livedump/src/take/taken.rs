//! A dump that is planned: its header, its bytes, and what is done to its pages on their way.

use std::io;
use std::sync::Arc;

use livecore_compress::Progress;
use livecore_kernel::locate::Machine;
use livecore_minidump::provenance::{Cpu, Pause};
use livecore_minidump::{KernelDumpHeader, KernelElf, Payload, PhysMemory, Plan, Provenance};

use super::error::TakeError;
use super::pages::Pages;
use super::patch::Patches;
use super::registers;
use super::state::facts::Facts;
use crate::image::cpu::CpuState;
use crate::torn::Watch;

/// A dump that is planned and can be written.
pub struct Taken {
    /// Every section but the pages.
    pub plan: Plan,
    /// What the kernel says of itself.
    pub facts: Facts,
    /// The machine.
    pub machine: Machine,
    /// Pages that the kernel would have dumped and that are not in the machine's memory: the dump lacks
    /// them.
    pub missing: u64,
    /// What a person should know: what could not be found.
    pub notes: Vec<String>,
    edits: Edits,
    /// Where pages are read, if not in the machine's memory.
    copy: Option<Arc<dyn PhysMemory>>,
}

/// What is done to a dump's pages on their way, beside reading them.
#[derive(Clone, Default)]
struct Edits {
    patches: Patches,
    cpus: Vec<Cpu>,
    watch: Option<Arc<Watch>>,
    pause: Option<Pause>,
}

/// What a dump has to say of its making, once it has been written.
#[derive(Clone)]
pub struct Told(Edits);

impl Told {
    /// What has been seen and done up to now.
    pub fn provenance(&self) -> Provenance {
        Provenance {
            torn: self.0.watch.as_ref().map(|watch| watch.report()),
            pause: self.0.pause,
            cpus: self.0.cpus.clone(),
        }
    }
}

impl Taken {
    /// A dump of pages as they are in memory.
    pub(super) fn new(
        plan: Plan,
        facts: Facts,
        machine: Machine,
        missing: u64,
        notes: Vec<String>,
    ) -> Self {
        Self {
            plan,
            facts,
            machine,
            missing,
            notes,
            edits: Edits::default(),
            copy: None,
        }
    }

    /// The kerneldumpheader of the uncompressed dump.
    pub fn header(&self) -> KernelDumpHeader {
        let length = self.plan.layout().end();
        KernelDumpHeader {
            dumplength: length,
            dumpextent: length,
            dumptime: self.facts.time,
            blocksize: self.plan.header().page_size() as u32,
            hostname: self.facts.hostname.clone(),
            versionstring: self.facts.version.clone(),
            panicstring: self.facts.panic.clone(),
            ..KernelDumpHeader::from_payload(self.plan.header())
        }
    }

    /// Puts the registers of processors where debuggers look for them: `dumppcb` and `dumptid` for
    /// the thread on CPU `chosen` (the image's number of it; by default the one in the kernel's
    /// debugger, else the only one that is not stopped, else the first), `stoppcbs` and `stopped_cpus`
    /// for the others. Memory is not changed; the dump's copies of those pages are.
    ///
    /// # Errors
    ///
    /// [`TakeError::NoCpu`] if there is no CPU `chosen`, [`TakeError`] if the kernel's variables for
    /// registers cannot be found or read.
    pub fn put_cpus(
        &mut self,
        elf: &KernelElf,
        cpus: &[CpuState],
        chosen: Option<u32>,
    ) -> Result<(), TakeError> {
        let placed = registers::place(&self.machine.view, elf, cpus, chosen)?;
        self.edits.patches = placed.patches;
        self.edits.cpus = placed.cpus;
        self.notes.extend(placed.notes);
        Ok(())
    }

    /// Has the dump's pages read from `copy`, which holds what the machine's memory held when the
    /// dump was planned.
    pub fn read_from(&mut self, copy: Arc<dyn PhysMemory>) {
        self.copy = Some(copy);
    }

    /// Has the dump tell of the pause that its memory is of.
    pub fn paused(&mut self, pause: Pause) {
        self.edits.pause = Some(pause);
    }

    /// Watches memory from now on, and reads it again up to `rounds` times until it no longer
    /// changes: [`crate::torn`]. `progress` hears of bytes read, and may end it.
    ///
    /// # Errors
    ///
    /// [`TakeError::Cancelled`] if `progress` ends it, [`TakeError::Minidump`] if memory cannot be read.
    pub fn watch(&mut self, rounds: u32, progress: &dyn Progress) -> Result<(), TakeError> {
        let watch =
            Watch::new(self.memory().clone(), &self.plan, rounds, progress).map_err(|e| match e
                .kind()
            {
                io::ErrorKind::Interrupted => TakeError::Cancelled,
                _ => TakeError::Minidump(livecore_minidump::Error::io("memory", e)),
            })?;
        self.edits.watch = Some(Arc::new(watch));
        Ok(())
    }

    /// Who can say, when the dump has been written, how it was made.
    pub fn told(&self) -> Told {
        Told(self.edits.clone())
    }

    /// Where pages are read.
    fn memory(&self) -> &Arc<dyn PhysMemory> {
        self.copy.as_ref().unwrap_or(self.machine.view.memory())
    }

    fn pages(&self) -> Arc<Pages> {
        Arc::new(Pages {
            memory: self.memory().clone(),
            page: self.plan.layout().page_size(),
            patches: self.edits.patches.clone(),
            watch: self.edits.watch.clone(),
        })
    }

    /// The dump's bytes.
    pub fn payload(&self) -> Payload {
        self.plan.clone().payload(self.pages())
    }

    /// The dump's bytes, when nothing else is wanted any more.
    pub fn into_payload(self) -> Payload {
        let pages = self.pages();
        self.plan.payload(pages)
    }
}
