//! What a file of memory is, and its memory.
//!
//! Every format has a probe, which looks at the first bytes and says yes or no, and a reader,
//! which may fail. A raw file has no mark: what nobody else wants is raw.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_compress::{Codec, ReadAt};
use livecore_defs::amd64::PAGE_SIZE;
use livecore_defs::elf::ELFOSABI_STANDALONE;
use livecore_minidump::Error;

use super::cpu::CpuState;
use super::elf::ElfImage;
use super::source::Source;
use super::{Options, RawImage, RawLayout};
use super::{bhyve, find, flattened, kdump, layout, lime, qemu, virtualbox, vmware, xen};
use livecore_minidump::PhysMemory;

/// A format of memory images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// RAM and nothing else.
    Raw,
    /// RAM with a `machine.json` beside it.
    Machine,
    /// An ELF core with physical addresses: QEMU's `dump-guest-memory`, libvirt's `virsh dump
    /// --memory-only`.
    Elf,
    /// makedumpfile's compressed format, also QEMU's.
    Kdump,
    /// The same, as it is written to a pipe.
    KdumpFlattened,
    /// LiME.
    Lime,
    /// AVML, compressed.
    Avml,
    /// VirtualBox's core.
    VirtualBox,
    /// VMware's `.vmem`, `.vmss`, `.vmsn`.
    Vmware,
    /// bhyve's checkpoint.
    Bhyve,
    /// Xen's core.
    Xen,
    /// A full dump that a FreeBSD kernel wrote.
    FreeBsdFull,
}

impl Format {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Machine => "machine",
            Self::Elf => "elf",
            Self::Kdump => "kdump",
            Self::KdumpFlattened => "kdump-flattened",
            Self::Lime => "lime",
            Self::Avml => "avml",
            Self::VirtualBox => "virtualbox",
            Self::Vmware => "vmware",
            Self::Bhyve => "bhyve",
            Self::Xen => "xen",
            Self::FreeBsdFull => "freebsd-full",
        }
    }
}

/// An image, opened.
pub struct Image {
    /// What it is.
    pub format: Format,
    /// What compresses the file, if anything does.
    pub codec: Codec,
    /// Its memory.
    pub memory: Arc<dyn PhysMemory>,
    /// The processors, where the format tells of them.
    pub cpus: Vec<CpuState>,
    /// The file that the memory is in.
    pub ram: PathBuf,
    /// The kernel's file, if a `machine.json` names one.
    pub kernel: Option<PathBuf>,
    /// What the offsets of a raw file mean.
    pub layout: Option<RawLayout>,
    /// What a person should know.
    pub notes: Vec<String>,
    /// Of a raw file whose layout nobody has said.
    guess: Option<Guess>,
}

/// A layout that was guessed, and what it takes to take another.
struct Guess {
    source: Source,
    options: Options,
    /// How many page tables tell of its hole; `None` if they have not been looked for.
    votes: Option<u64>,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("format", &self.format)
            .field("codec", &self.codec)
            .field("ranges", &self.memory.ranges())
            .field("cpus", &self.cpus.len())
            .field("ram", &self.ram)
            .finish_non_exhaustive()
    }
}

impl Image {
    fn new(format: Format, source: &Source, memory: impl PhysMemory + 'static) -> Self {
        Self {
            format,
            codec: source.codec(),
            memory: Arc::new(memory),
            cpus: Vec::new(),
            ram: PathBuf::new(),
            kernel: None,
            layout: None,
            notes: Vec::new(),
            guess: None,
        }
    }

    /// The length of a raw file whose layout is a guess, and how many page tables tell of that
    /// layout's hole; `None` where the layout is known.
    pub fn guess(&self) -> Option<(u64, u64)> {
        let guess = self.guess.as_ref()?;
        let len = guess.source.len();
        Some((len - len % PAGE_SIZE, guess.votes.unwrap_or(0)))
    }

    /// The memory of such a file up to 2 GiB, which is at the same addresses whatever the layout.
    pub(crate) fn low(&self) -> Option<Arc<dyn PhysMemory>> {
        self.first(find::LEAST)
    }

    /// All memory of such a file, as if an offset were an address.
    pub(crate) fn flat(&self) -> Option<Arc<dyn PhysMemory>> {
        self.first(u64::MAX)
    }

    fn first(&self, most: u64) -> Option<Arc<dyn PhysMemory>> {
        let guess = self.guess.as_ref()?;
        let end = self.guess()?.0.min(most);
        let layout = RawLayout::Ranges(vec![(0..end, 0)]);
        let memory = layout.memory(&guess.source, &guess.options).ok()?;
        Some(Arc::new(memory))
    }

    /// Looks through such a file for its layout, if nobody has.
    pub(crate) fn look(&mut self) -> Result<(), Error> {
        let Some(guess) = self.guess.as_mut().filter(|guess| guess.votes.is_none()) else {
            return Ok(());
        };
        let found = find::layout(&guess.source)?;
        self.memory = Arc::new(found.layout.memory(&guess.source, &guess.options)?);
        self.layout = Some(found.layout);
        self.notes = found.note.into_iter().collect();
        guess.votes = Some(found.votes);
        Ok(())
    }

    /// Gives such a file this layout, which is no guess any more; `note` says how it was found out.
    pub(crate) fn lay(&mut self, layout: RawLayout, note: Option<String>) -> Result<(), Error> {
        let Some(guess) = self.guess.take() else {
            return Ok(());
        };
        if self.layout.as_ref() != Some(&layout) {
            self.memory = Arc::new(layout.memory(&guess.source, &guess.options)?);
            self.layout = Some(layout);
        }
        self.notes = note.into_iter().collect();
        Ok(())
    }

    fn of_vmware(source: &Source, memory: impl PhysMemory + 'static, state: vmware::State) -> Self {
        Self {
            cpus: state.cpus,
            notes: state.notes,
            ..Self::new(Format::Vmware, source, memory)
        }
    }
}

/// Opens the image at `path`: a file in any format, compressed or not, or a directory with a
/// `machine.json`.
pub fn open(path: &Path, options: &Options) -> Result<Image, Error> {
    let mut image = open_path(path, options)?;
    if image.ram.as_os_str().is_empty() {
        image.ram = path.into();
    }
    Ok(image)
}

fn open_path(path: &Path, options: &Options) -> Result<Image, Error> {
    if options.layout.is_none()
        && let Some(described) = layout::describe(path)?
    {
        let source = Source::open(&described.ram, options)?;
        let memory = if source.codec() == Codec::None {
            let file = std::fs::File::open(&described.ram)?;
            Image::new(
                Format::Machine,
                &source,
                RawImage::new(file, &described.ranges)?,
            )
        } else {
            let ranges = described.ranges.into_iter().map(|r| (r.clone(), r.start));
            let memory = RawLayout::Ranges(ranges.collect()).memory(&source, options)?;
            Image::new(Format::Machine, &source, memory)
        };
        return Ok(Image {
            ram: described.ram,
            kernel: Some(described.kernel),
            ..memory
        });
    }
    let source = Source::open(path, options)?;
    if options.layout.is_none() {
        if let Some(beside) = vmware::beside(path) {
            let state = Source::open(&beside, options)?;
            if vmware::probe(&state.head::<4>()?) {
                let state_of = vmware::State::read(&state, options)?;
                let memory = state_of.memory(&state, Some(&source), options)?;
                return Ok(Image::of_vmware(&source, memory, state_of));
            }
        }
        if vmware::probe(&source.head::<4>()?) {
            return open_vmware(path, &source, options);
        }
        if let Some(meta) = bhyve::beside(path)
            && bhyve::check(&meta, source.len())?
        {
            let layout = RawLayout::Hole {
                below: bhyve::LOWMEM_LIMIT,
            };
            let memory = layout.memory(&source, options)?;
            return Ok(Image {
                layout: Some(layout),
                ..Image::new(Format::Bhyve, &source, memory)
            });
        }
    }
    of_source(&source, options)
}

/// Opens a `.vmss` or `.vmsn`, whose memory may be in a `.vmem` beside it.
fn open_vmware(path: &Path, source: &Source, options: &Options) -> Result<Image, Error> {
    let state = vmware::State::read(source, options)?;
    let Some(vmem) = vmware::memory_beside(path).filter(|_| !state.has_memory()) else {
        let memory = state.memory(source, None, options)?;
        return Ok(Image::of_vmware(source, memory, state));
    };
    let other = Source::open(&vmem, options)?;
    let memory = state.memory(source, Some(&other), options)?;
    Ok(Image {
        ram: vmem,
        ..Image::of_vmware(&other, memory, state)
    })
}

/// Opens an image that is not a file with a name: bytes at an offset, in any format that needs no
/// other file beside it.
pub fn open_bytes(bytes: Arc<dyn ReadAt>, options: &Options) -> Result<Image, Error> {
    of_source(&Source::of(bytes, options)?, options)
}

fn of_source(source: &Source, options: &Options) -> Result<Image, Error> {
    if let Some(layout) = &options.layout {
        let memory = layout.memory(source, options)?;
        return Ok(Image {
            layout: Some(layout.clone()),
            ..Image::new(Format::Raw, source, memory)
        });
    }
    let head: [u8; 64] = source.head()?;
    if flattened::probe(&head) {
        let rearranged = flattened::open(source, options)?;
        if !kdump::probe(&rearranged.head::<64>()?) {
            return Err(Error::Unsupported {
                what: "flattened file of something that is no kdump".into(),
            });
        }
        return open_kdump(Format::KdumpFlattened, &rearranged, options);
    }
    if kdump::probe(&head) {
        return open_kdump(Format::Kdump, source, options);
    }
    if vmware::probe(&head) {
        let state = vmware::State::read(source, options)?;
        let memory = state.memory(source, None, options)?;
        return Ok(Image::of_vmware(source, memory, state));
    }
    match lime::probe(&head) {
        (true, _) => {
            let memory = lime::open(source, options)?;
            return Ok(Image::new(Format::Lime, source, memory));
        }
        (_, true) => {
            let memory = lime::open_avml(source, options)?;
            return Ok(Image::new(Format::Avml, source, memory));
        }
        (false, false) => {}
    }
    if let Some(elf) = ElfImage::read(source, options)? {
        return open_elf(&elf, source, options);
    }
    if let Some(what) = foreign(&head) {
        return Err(Error::Unsupported {
            what: format!("as a memory image: {what}"),
        });
    }
    let layout = RawLayout::Flat;
    let memory = layout.memory(source, options)?;
    let mut image = Image {
        layout: Some(layout),
        guess: Some(Guess {
            source: source.clone(),
            options: options.clone(),
            votes: None,
        }),
        ..Image::new(Format::Raw, source, memory)
    };
    if !options.kernel_is_asked {
        image.look()?;
    }
    Ok(image)
}

fn open_kdump(format: Format, source: &Source, options: &Options) -> Result<Image, Error> {
    let (memory, cpus, notes) = kdump::open(source, options)?;
    Ok(Image {
        cpus,
        notes,
        ..Image::new(format, source, memory)
    })
}

fn open_elf(elf: &ElfImage, source: &Source, options: &Options) -> Result<Image, Error> {
    if xen::probe(elf) {
        let (memory, cpus) = xen::open(elf, source, options)?;
        return Ok(Image {
            cpus,
            ..Image::new(Format::Xen, source, memory)
        });
    }
    let notes = elf.notes(source, options)?;
    let of_qemu = qemu::is_author(&notes);
    let (format, cpus) = if virtualbox::probe(&notes) {
        (Format::VirtualBox, virtualbox::cpus(&notes)?)
    } else if elf.core.head().osabi == ELFOSABI_STANDALONE && notes.is_empty() {
        (Format::FreeBsdFull, Vec::new())
    } else {
        (Format::Elf, qemu::cpus(&notes)?)
    };
    Ok(Image {
        cpus,
        ..Image::new(format, source, elf.memory(source, options, of_qemu)?)
    })
}

/// What a file is that begins so, if it has the mark of something that is no image: in words, with
/// what gives memory instead.
pub fn foreign(head: &[u8]) -> Option<&'static str> {
    let kinds: &[(&[u8], &str)] = &[
        (
            b"minidump FreeBSD/",
            "a minidump, which needs no image; `livecore convert` rewrites it",
        ),
        (
            b"FreeBSD Kernel Dump",
            "a dump device, which needs no image; `livecore convert` reads it",
        ),
        (b"PAGEDU64", WINDOWS),
        (b"PAGEDUMP", WINDOWS),
        (
            b"QFI\xfb",
            "a qcow2 disk image; if a memory image is in it, `qemu-img convert -O raw IN OUT` \
             extracts that; `virsh dump --memory-only` and dump-guest-memory write a guest's memory",
        ),
        (b"KDMV", VMDK),
        (b"COWD", VMDK),
        (b"# Disk DescriptorFile", VMDK),
        (
            b"vhdxfile",
            "a VHDX disk image; if a memory image is in it, `qemu-img convert -O raw IN OUT` \
             extracts that",
        ),
        (
            b"conectix",
            "a VHD disk image; if a memory image is in it, `qemu-img convert -O raw IN OUT` \
             extracts that",
        ),
        (
            b"EVF\x09\x0d\x0a\xff\0",
            "an EWF (E01) evidence file; `ewfexport` of libewf writes the raw image that is in it",
        ),
        (
            b"EVF2\x0d\x0a\x81",
            "an EWF (Ex01) evidence file; `ewfexport` of libewf writes the raw image that is in it",
        ),
        (
            b"AFF10\x0d\x0a\0",
            "an AFF evidence file; `affconvert -r` of AFFLIB writes the raw image that is in it",
        ),
        (
            b"PK\x03\x04",
            "a zip archive; unpack it first (an AFF4 volume: `aff4imager --export` writes the image \
             that is in it)",
        ),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
        (b"LZIP", "a file that lzip has compressed; unpack it first"),
        (
            b"QEVM",
            "QEMU's migration stream, which `virsh dump` writes, too; `virsh dump --memory-only` \
             and dump-guest-memory give memory",
        ),
        (
            b"LibvirtQemudSave",
            "a guest that `virsh save` or managedsave has saved, a migration stream; start it with \
             `virsh restore`, and `virsh dump --memory-only` gives memory",
        ),
        (
            b"LibvirtQemudPart",
            "a guest that `virsh save` has not finished saving",
        ),
        (
            b"Xen saved domain, xl format",
            "a domain that `xl save` has saved, a migration stream; start it with `xl restore`, \
             and `xl dump-core` gives memory",
        ),
        (
            b"\x7fVirtualBox SavedState",
            "VirtualBox's saved state; start it, and `VBoxManage debugvm NAME dumpvmcore` gives \
             memory",
        ),
        (
            b"\xfd7zXZ\0",
            "a file that xz has compressed; unpack it first",
        ),
        (b"BZh", "a file that bzip2 has compressed; unpack it first"),
        (
            b"\x89LZO\0\r\n\x1a\n",
            "a file that lzop has compressed; unpack it first",
        ),
        (
            b"\x04\x22\x4d\x18",
            "a file that lz4 has compressed; unpack it first",
        ),
        (
            b"\x02\x21\x4c\x18",
            "a file that lz4 has compressed; unpack it first",
        ),
    ];
    let known = kinds.iter().find(|(mark, _)| head.starts_with(mark));
    known.map(|(_, what)| *what).or_else(|| {
        lime::is_deflated(head).then_some(
            "LiME's format in one zlib stream (compress=1); `zlib-flate -uncompress` or `pigz -dz` \
             unpacks it",
        )
    })
}

const WINDOWS: &str = "a Windows crash dump; only FreeBSD machines are read";
const VMDK: &str = "a VMDK disk image; if a memory image is in it, `qemu-img convert -O raw IN OUT` \
                    extracts that; a VMware guest's memory is in its .vmem, .vmss or .vmsn";
