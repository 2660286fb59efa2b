//! How a dump is taken, from the plan to the name.

use std::num::NonZeroU32;
use std::path::PathBuf;

use livecore_minidump::KernelElf;
use livecore_minidump::convert::Target;

use super::error::TakeError;
use super::plan::PlanOptions;
use super::taken::Taken;
use crate::image::CpuState;
use crate::publish::Options;

/// How a dump is taken.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// What is planned.
    pub plan: PlanOptions,
    /// Container, codec, level, frames, workers.
    pub target: Target,
    /// What `info.N` calls the machine: `/dev/mem`, or the machine's file.
    pub device: String,
    /// A file that exists may be replaced.
    pub force: bool,
    /// savecore(8)'s `-m`.
    pub max: Option<NonZeroU32>,
    /// Blocks of zeros of an uncompressed dump become holes of its file.
    pub sparse: bool,
    /// Processors' registers are put where debuggers look for them.
    pub cpu_state: bool,
    /// The processor whose thread counts as the one that dumped ([`Taken::put_cpus`]).
    pub cpu: Option<u32>,
    /// Memory is read again, at most so often, until nothing changes any more
    /// ([`Taken::watch`]). Memory that is known to change is watched in any case.
    pub converge: Option<u32>,
    /// Where files without a name go that are needed meanwhile.
    pub spool_dir: PathBuf,
}

impl RunOptions {
    /// A dump as `target` says; everything else as it usually is.
    pub fn new(target: Target) -> Self {
        Self {
            plan: PlanOptions::default(),
            target,
            device: "/dev/mem".into(),
            force: false,
            max: None,
            sparse: true,
            cpu_state: true,
            cpu: None,
            converge: None,
            spool_dir: std::env::temp_dir(),
        }
    }

    /// How a dump of `len` bytes is published.
    pub fn publish(&self, len: Option<u64>) -> Options {
        let options = Options::of_dump(self.target.encoding.codec, len);
        Options {
            force: self.force,
            max: self.max,
            sparse: self.sparse && options.sparse,
            ..options
        }
    }

    pub(super) fn put_cpus(
        &self,
        taken: &mut Taken,
        elf: &KernelElf,
        cpus: &[CpuState],
    ) -> Result<(), TakeError> {
        match self.cpu {
            Some(number) if cpus.is_empty() => Err(TakeError::NoCpu {
                number,
                has: "registers of none".into(),
            }),
            _ if cpus.is_empty() || !self.cpu_state => Ok(()),
            cpu => taken.put_cpus(elf, cpus, cpu),
        }
    }
}
