//! A planned dump: its header, its bytes, and changes to its pages.

use std::io;
use std::sync::Arc;

use livecore_compress::Progress;
use livecore_kernel::locate::Machine;
use livecore_minidump::provenance::Provenance;
use livecore_minidump::provenance::{Cpu, Pause};
use livecore_minidump::{KernelDumpHeader, KernelElf, Payload, PhysMemory, Plan};

use super::error::TakeError;
use super::note::Note;
use super::pages::Pages;
use super::patch::Patches;
use super::registers;
use super::state::facts::Facts;
use crate::image::CpuState;
use crate::torn::Watch;

/// A planned dump.
pub struct Taken {
    /// Every section except the pages.
    pub plan: Plan,
    /// The data for the header.
    pub facts: Facts,
    /// The machine.
    pub machine: Machine,
    /// Pages that the kernel would have dumped and that the memory does not contain.
    pub missing: u64,
    /// Notes for the user about missing data.
    pub notes: Vec<Note>,
    edits: Edits,
    /// The memory for reading pages, if not the machine's.
    copy: Option<Arc<dyn PhysMemory>>,
}

/// Changes to a dump's pages.
#[derive(Clone, Default)]
struct Edits {
    patches: Patches,
    cpus: Vec<Cpu>,
    watch: Option<Arc<Watch>>,
    pause: Option<Pause>,
}

/// The provenance of a dump, available when it has been written.
#[derive(Clone)]
pub struct ProvenanceRecord(Edits);

impl ProvenanceRecord {
    /// The provenance so far.
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
        notes: Vec<Note>,
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

    /// Adds the CPUs' registers: `dumppcb` and `dumptid` for the thread on CPU `chosen` (the
    /// image's number; by default the one in the kernel's debugger, or else the only one that is
    /// not stopped, or else the first), `stoppcbs` and `stopped_cpus` for the others. Only the
    /// dump's copies of those pages are changed, not memory.
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
        let patched = registers::patch(&self.machine.view, elf, cpus, chosen)?;
        self.edits.patches = patched.patches;
        self.edits.cpus = patched.cpus;
        self.notes.extend(patched.notes);
        Ok(())
    }

    /// Reads the dump's pages from `copy`, which has the memory's contents at the time of the plan.
    pub fn read_from(&mut self, copy: Arc<dyn PhysMemory>) {
        self.copy = Some(copy);
    }

    /// Records the pause during which memory was read.
    pub fn paused(&mut self, pause: Pause) {
        self.edits.pause = Some(pause);
    }

    /// Watches memory from now on, and rereads it up to `rounds` times until it does not change.
    /// `progress` gets the bytes read, and may cancel.
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

    /// The provenance, to be read when the dump has been written.
    pub fn provenance_record(&self) -> ProvenanceRecord {
        ProvenanceRecord(self.edits.clone())
    }

    /// The memory for reading pages.
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

    /// Converts to the dump's bytes.
    pub fn into_payload(self) -> Payload {
        let pages = self.pages();
        self.plan.payload(pages)
    }
}
