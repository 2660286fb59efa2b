//! The machine that `mem` operates on: this system's devices, or an emulated machine.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_compress::Codec;
use livecore_kernel::locate::LocateError;
use livecore_livedump::emulated::Parts;
use livecore_livedump::emulated::{Credentials, Emulated};
use livecore_livedump::image::{self, Format, Image, RawLayout};
use livecore_livedump::mem4::{Access, Device, MemDevice, MemError};
use livecore_livedump::mem4::{DEV_MEM, FreeBsd};
use livecore_livedump::take::{TakeError, settle};
use livecore_livedump::take::{bootfile, check_kernel};
use livecore_minidump::{Dump, Error, KernelElf, OpenOptions};

use crate::emulated;
use crate::exit::Exit;
use crate::failure::{Failure, MISPLACED};
use crate::id::Id;
use crate::input;
use crate::memory::DEFAULT_MAX;
use crate::session::Session;

/// The advice for a change of a described machine.
const WRITE_IT_OUT: &str =
    "create the machine with `livecore synth MACHINE.toml --out DIR` and use --image DIR";

/// The machine that `mem` operates on.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Source {
    /// Emulated machine, generated in memory; read-only
    ///
    /// MACHINE.toml is a machine description (docs/machines.md).
    #[arg(long, value_name = "MACHINE.toml", conflicts_with_all = ["image", "kernel"])]
    #[arg(help_heading = "Machine")]
    pub machine: Option<PathBuf>,
    /// Memory image, or directory written by `synth --out`
    ///
    /// All formats of `take --image` can be read (docs/images.md); only raw memory can be written.
    #[arg(long, value_name = "IMAGE", help_heading = "Machine")]
    pub image: Option<PathBuf>,
    /// Layout of a raw memory image, as for `take` [default: detected]
    #[arg(
        long,
        value_name = "LAYOUT",
        requires = "image",
        help_heading = "Machine"
    )]
    pub layout: Option<RawLayout>,
    /// Kernel ELF file [default: near IMAGE, or kern.bootfile]
    #[arg(short = 'k', long, value_name = "ELF", help_heading = "Machine")]
    pub kernel: Option<PathBuf>,
}

/// What an operation needs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Needs {
    /// Write access to memory.
    pub(super) write: bool,
    /// Permission to change memory ranges.
    pub(super) set: bool,
    /// The kernel of an emulated machine, for kernel addresses and processes.
    pub(super) kernel: bool,
    /// A caller without PRIV_KMEM_READ, for which the emulated device is open for neither reading nor
    /// writing.
    pub(super) unprivileged: bool,
    /// The process of an emulated machine to which the addresses belong.
    pub(super) pid: Option<u32>,
}

/// The open devices.
pub(super) struct Target {
    /// The devices.
    pub(super) device: Box<dyn MemDevice>,
    /// The name in messages.
    pub(super) name: PathBuf,
    /// The kernel of an emulated machine, or the one given by --kernel.
    kernel: Option<(PathBuf, Arc<KernelElf>)>,
}

impl Source {
    /// Whether the machine is emulated.
    pub fn is_emulated(&self) -> bool {
        self.machine.is_some() || self.image.is_some()
    }

    /// Opens the devices.
    pub(super) fn open(&self, needs: Needs, session: &mut Session<'_>) -> Result<Target, Failure> {
        let access = match needs {
            Needs { write: true, .. } => Access::READ_WRITE,
            Needs {
                unprivileged: true, ..
            } => Access::NONE,
            _ => Access::READ,
        };
        if let Some(path) = &self.machine {
            return open_text(path, needs, access, session);
        }
        if let Some(path) = &self.image {
            return self.open_image(path, needs, access, session);
        }
        let name = Path::new(DEV_MEM);
        let device = FreeBsd::open(access).map_err(|e| failure(e, name))?;
        Ok(Target {
            device: Box::new(device),
            name: name.into(),
            kernel: self.named_kernel(session.env.memory)?,
        })
    }

    fn named_kernel(&self, memory: u64) -> Result<Option<(PathBuf, Arc<KernelElf>)>, Failure> {
        let Some(path) = &self.kernel else {
            return Ok(None);
        };
        Ok(Some((path.clone(), Arc::new(input::kernel(path, memory)?))))
    }

    fn open_image(
        &self,
        path: &Path,
        needs: Needs,
        access: Access,
        session: &mut Session<'_>,
    ) -> Result<Target, Failure> {
        refuse_dump(path, needs)?;
        let options = session
            .image_options()
            .layout(self.layout.clone())
            .kernel_is_asked(self.kernel.is_some());
        let mut image = image::open(path, &options).map_err(|e| Failure::from(e).about(path))?;
        let kernel = match (self.named_kernel(session.env.memory)?, &image.kernel) {
            (Some(named), _) => Some(named),
            (None, Some(path)) => match input::kernel(path, session.env.memory) {
                Ok(elf) => Some((path.clone(), Arc::new(elf))),
                Err(failure) if needs.kernel => return Err(failure),
                Err(_) => None,
            },
            (None, None) if needs.kernel => {
                let failure = Failure::usage("kernel addresses and processes need a kernel file")
                    .id_is(Id::NoKernelFile);
                return Err(failure.about(path).next("use --kernel ELF"));
            }
            (None, None) => None,
        };
        let elf = kernel.as_ref().map(|(_, elf)| elf.clone());
        if let Some(elf) = &elf {
            settle(&mut image, elf).map_err(|e| Failure::from(e).about(path))?;
        }
        // Missing memory matters only where it is read.
        let name = path.display();
        for note in &image.notes {
            session.voice.say(Id::Image, format_args!("{name}: {note}"));
        }
        if let Some(what) = image.memory.shortage() {
            let line = format_args!("{name}: {what}");
            session.voice.say(Id::MemoryMissing, line);
        }
        if let Some(what) = image.memory.contradiction() {
            session.warn(path, Id::ImageContradiction, what);
        }
        let parts = if needs.write {
            refuse_unchangeable(&image).map_err(|f| f.about(path))?;
            let opened =
                image::layout::open(path, true).map_err(|e| Failure::from(e).about(path))?;
            Parts::of_image(opened, elf, true)
        } else {
            Parts::of_any_image(image, elf)
        };
        over(parts, needs, access, path, kernel, session)
    }
}

/// Fails unless a file offset is a physical address and the image is not compressed.
fn refuse_unchangeable(image: &Image) -> Result<(), Failure> {
    let flat = match &image.layout {
        None => image.format == Format::Machine,
        Some(RawLayout::Flat) => image.format == Format::Raw,
        Some(_) => false,
    };
    if flat && image.codec == Codec::None {
        return Ok(());
    }
    let mut what = format!("a {} image", image.format.name());
    if let Some(layout) = &image.layout {
        what.push_str(&format!(" with the layout {layout}"));
    }
    if image.codec != Codec::None {
        what.push_str(&format!(", compressed with {}", image.codec));
    }
    what.push_str(" is read only");
    let failure = Failure::new(Exit::UNSUPPORTED, what).id_is(Id::Unchangeable);
    Err(failure.next("only uncompressed raw memory from address 0 can be written"))
}

fn open_text(
    path: &Path,
    needs: Needs,
    access: Access,
    session: &mut Session<'_>,
) -> Result<Target, Failure> {
    if needs.write || needs.set {
        let failure = Failure::new(Exit::UNSUPPORTED, "--machine cannot keep changes")
            .id_is(Id::Unchangeable);
        return Err(failure.about(path).next(WRITE_IT_OUT));
    }
    let machine = emulated::machine(path, session)?;
    let elf = KernelElf::from_bytes(machine.kernel().to_vec())
        .map_err(|e| Failure::from(e).about(path))?;
    let elf = Arc::new(elf);
    let parts = Parts::of_description(machine.memory(), Some(elf.clone()), path);
    let kernel = Some((path.into(), elf));
    over(parts, needs, access, path, kernel, session)
}

fn over(
    parts: Parts,
    needs: Needs,
    access: Access,
    path: &Path,
    kernel: Option<(PathBuf, Arc<KernelElf>)>,
    session: &Session<'_>,
) -> Result<Target, Failure> {
    let credentials = Credentials {
        kmem_read: !needs.unprivileged,
        ..Credentials::default()
    };
    let mut device = Emulated::open(parts, access, credentials).map_err(|e| failure(e, path))?;
    if needs.kernel {
        // Report a missing kernel before anything is printed.
        device.machine().map_err(|e| failure(e, path))?;
    }
    if let Some(pid) = needs.pid {
        device = device.in_process_of(pid).map_err(|e| failure(e, path))?;
        if !device.has_map() {
            let line = format_args!(
                "{}: vm_map of process {pid} not found: `invalid` and `valid` are guessed from its page tables",
                path.display()
            );
            session.voice.say(Id::KernelData, line);
        }
    }
    Ok(Target {
        device: Box::new(device),
        name: path.into(),
        kernel,
    })
}

/// Fails for a minidump, which is not a memory image. ELF cores are read as images.
fn refuse_dump(path: &Path, needs: Needs) -> Result<(), Failure> {
    let kind = path.metadata().map_err(|e| Failure::from(e).about(path))?;
    if kind.is_dir() {
        return Ok(());
    }
    if !kind.is_file() {
        let failure = Failure::new(Exit::UNSUPPORTED, "not a file or directory");
        return Err(failure.about(path));
    }
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(4).read_to_end(&mut head))
        .map_err(|e| Failure::from(e).about(path))?;
    let changes = needs.write || needs.set;
    let elf = head == b"\x7fELF";
    let is_image = match elf {
        true => !changes,
        false => matches!(
            Dump::open(path, &OpenOptions::default()),
            Err(Error::NotADump { .. })
        ),
    };
    if is_image {
        return Ok(());
    }
    let what = match (elf, changes) {
        (true, _) => "an ELF file is read only",
        (false, true) => "a dump is read only",
        (false, false) => "a dump is not a memory image",
    };
    let failure = Failure::new(Exit::UNSUPPORTED, what).about(path);
    Err(if needs.write || needs.set {
        failure
    } else {
        failure.next("use `livecore read`")
    })
}

impl Target {
    /// The kernel file with its symbols.
    pub(super) fn kernel(&self) -> Result<(PathBuf, Arc<KernelElf>), Failure> {
        let (path, elf) = match &self.kernel {
            Some((path, elf)) => (path.clone(), Arc::clone(elf)),
            None => {
                let path = bootfile().map(PathBuf::from).map_err(|e| {
                    Failure::could_not(format_args!("cannot read kern.bootfile: {e}"))
                        .id_is(Id::NoKernelFile)
                        .next("use --kernel ELF")
                })?;
                let elf = Arc::new(input::kernel(&path, DEFAULT_MAX)?);
                (path, elf)
            }
        };
        if self.is_live() {
            // An installed kernel may not be running yet: its symbols are at other addresses.
            check_kernel(&*self.device, &elf)
                .map_err(|error| Failure::from(TakeError::from(error)).about(&path))?;
        }
        Ok((path, elf))
    }

    /// Whether the memory is that of the running system.
    fn is_live(&self) -> bool {
        self.name == Path::new(DEV_MEM)
    }

    /// Converts an error of the device, and adds the device's name.
    pub(super) fn failure(&self, error: MemError) -> Failure {
        failure(error, &self.name)
    }
}

/// The JSON name of the address space of `device`.
pub(super) fn space(device: Device) -> &'static str {
    match device {
        Device::Mem => "physical",
        Device::Kmem => "kernel",
    }
}

fn failure(error: MemError, name: &Path) -> Failure {
    let inner = match &error {
        MemError::Io { source, .. } => source.get_ref(),
        _ => None,
    };
    let take = inner.and_then(|e| e.downcast_ref::<TakeError>());
    let locate = match take {
        Some(TakeError::Locate(error)) => Some(error),
        _ => inner.and_then(|e| e.downcast_ref::<LocateError>()),
    };
    let exit = match (&error, take, locate) {
        (_, Some(TakeError::Unsupported { .. }), _)
        | (_, _, Some(LocateError::Unsupported { .. })) => Exit::UNSUPPORTED,
        (_, Some(TakeError::Contradiction { .. } | TakeError::Memory { .. }), _)
        | (_, _, Some(_)) => Exit::BROKEN,
        (
            MemError::NeedsFreeBsd
            | MemError::NoRangeDriver
            | MemError::NoExtract
            | MemError::Unchangeable { .. },
            ..,
        ) => Exit::UNSUPPORTED,
        (MemError::Io { source, .. }, ..) if source.kind() == std::io::ErrorKind::InvalidData => {
            Exit::BROKEN
        }
        (MemError::Io { source, .. }, ..) if source.kind() == std::io::ErrorKind::Unsupported => {
            Exit::UNSUPPORTED
        }
        _ => Exit::COULD_NOT,
    };
    let is_misplaced = matches!(
        locate,
        Some(LocateError::NoKernel {
            misplaced: true,
            ..
        })
    );
    let failure = Failure::of(exit, &error);
    match error {
        _ if is_misplaced => failure.about(name).next(MISPLACED),
        MemError::NeedsFreeBsd => failure.next("use --machine MACHINE.toml or --image DIR"),
        _ => failure.about(name),
    }
}
