//! Options for taking a dump.

use std::num::NonZeroU32;
use std::path::PathBuf;

use livecore_compress::Codec;
use livecore_minidump::KernelElf;
use livecore_minidump::convert::Target;
use livecore_minidump::encryption::{Cipher, PublicKey};

use super::error::TakeError;
use super::plan::PlanOptions;
use super::taken::Taken;
use crate::image::CpuState;
use crate::publish::Options;

/// Options for taking a dump.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RunOptions {
    /// The options of the plan.
    pub plan: PlanOptions,
    /// Container, codec, level, frame size, threads.
    pub target: Target,
    /// The device in `info.N`: `/dev/mem`, or the machine's file.
    pub device: String,
    /// Whether an existing file may be replaced.
    pub force: bool,
    /// savecore(8)'s `-m`.
    pub max: Option<NonZeroU32>,
    /// Write blocks of zeros of an uncompressed dump as holes.
    pub sparse: bool,
    /// Add the CPUs' registers to the dump.
    pub cpu_state: bool,
    /// The CPU whose thread counts as the one that dumped ([`Taken::put_cpus`]).
    pub cpu: Option<u32>,
    /// Reread memory up to this many times until it no longer changes ([`Taken::watch`]). Memory
    /// that is known to change is watched in any case.
    pub converge: Option<u32>,
    /// The public key for which the dump is encrypted, and the cipher. The temporary files of the run
    /// are not encrypted; they have no names.
    pub encryption: Option<(PublicKey, Cipher)>,
    /// The directory for unlinked temporary files.
    pub spool_dir: PathBuf,
}

impl RunOptions {
    /// A dump as `target` specifies, with the defaults for other options.
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
            encryption: None,
            spool_dir: std::env::temp_dir(),
        }
    }

    /// Sets [`Self::plan`].
    #[must_use]
    pub fn plan(mut self, plan: PlanOptions) -> Self {
        self.plan = plan;
        self
    }

    /// Sets [`Self::target`].
    #[must_use]
    pub fn target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// Sets [`Self::device`].
    #[must_use]
    pub fn device(mut self, device: impl Into<String>) -> Self {
        self.device = device.into();
        self
    }

    /// Sets [`Self::force`].
    #[must_use]
    pub fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// Sets [`Self::max`].
    #[must_use]
    pub fn max(mut self, max: impl Into<Option<NonZeroU32>>) -> Self {
        self.max = max.into();
        self
    }

    /// Sets [`Self::sparse`].
    #[must_use]
    pub fn sparse(mut self, sparse: bool) -> Self {
        self.sparse = sparse;
        self
    }

    /// Sets [`Self::cpu_state`].
    #[must_use]
    pub fn cpu_state(mut self, cpu_state: bool) -> Self {
        self.cpu_state = cpu_state;
        self
    }

    /// Sets [`Self::cpu`].
    #[must_use]
    pub fn cpu(mut self, cpu: impl Into<Option<u32>>) -> Self {
        self.cpu = cpu.into();
        self
    }

    /// Sets [`Self::converge`].
    #[must_use]
    pub fn converge(mut self, times: impl Into<Option<u32>>) -> Self {
        self.converge = times.into();
        self
    }

    /// Sets [`Self::encryption`].
    #[must_use]
    pub fn encryption(mut self, encryption: impl Into<Option<(PublicKey, Cipher)>>) -> Self {
        self.encryption = encryption.into();
        self
    }

    /// Sets [`Self::spool_dir`].
    #[must_use]
    pub fn spool_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.spool_dir = dir.into();
        self
    }

    /// The options for publishing a dump of `len` bytes.
    pub fn publish(&self, len: Option<u64>) -> Options {
        // An encrypted dump has no suffix: other programs cannot decompress it.
        let codec = match self.encryption {
            None => self.target.encoding.codec,
            Some(_) => Codec::None,
        };
        let options = Options::of_dump(codec, len);
        let sparse = self.sparse && options.sparse;
        options.force(self.force).max(self.max).sparse(sparse)
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
                has: "no registers".into(),
            }),
            _ if cpus.is_empty() || !self.cpu_state => Ok(()),
            cpu => taken.put_cpus(elf, cpus, cpu),
        }
    }
}
