//! The id of each error and warning of the libraries, and where the error is.

use std::error::Error as StdError;
use std::io;

use livecore_compress::Error as CompressError;
use livecore_defs::text::hex;
use livecore_kernel::locate::LocateError;
use livecore_kernel::{KernelError, LocationError, NotLoaded, PairError};
use livecore_livedump::gdb::GdbError;
use livecore_livedump::mem4::MemError;
use livecore_livedump::publish::{Notice, PublishError, WriteError};
use livecore_livedump::qmp::QmpError;
use livecore_livedump::take::{Note, TakeError};
use livecore_minidump::{Error as MinidumpError, ReadError, Warning};
use livecore_serve::{Greeting, Problem, ServeError};
use livecore_synth::Error as SynthError;
use serde::Serialize;

use crate::id::Id;
use crate::json::Hex;

/// Where an error is, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ErrorLocation {
    /// The part of the file, or the variable of the kernel.
    pub region: Option<String>,
    /// The offset of the region in the file, or in the payload if the region is part of it.
    pub offset: Option<u64>,
    /// The address in memory.
    pub address: Option<Hex>,
    /// The contents.
    pub found: Option<String>,
    /// The expected contents.
    pub expected: Option<String>,
}

/// The id of an error, and where the error is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The id.
    pub id: Id,
    /// Where the error is.
    pub place: ErrorLocation,
}

impl From<Id> for Description {
    fn from(id: Id) -> Self {
        let place = ErrorLocation::default();
        Self { id, place }
    }
}

impl Description {
    fn at(id: Id, address: u64) -> Self {
        let address = Some(Hex(address));
        let place = ErrorLocation {
            address,
            ..ErrorLocation::default()
        };
        Self { id, place }
    }

    fn of_contents(id: Id, region: &str, found: &str, expected: &str) -> Self {
        let place = ErrorLocation {
            region: Some(region.into()),
            found: Some(found.into()),
            expected: Some(expected.into()),
            ..ErrorLocation::default()
        };
        Self { id, place }
    }

    fn broken(region: &str, offset: u64, found: &str, expected: &str) -> Self {
        let mut description = Self::of_contents(Id::Broken, region, found, expected);
        description.place.offset = Some(offset);
        description
    }

    /// The same description with `region`, unless it has one.
    fn in_region(mut self, region: &str) -> Self {
        self.place.region.get_or_insert_with(|| region.into());
        self
    }

    /// The same description with `address`, unless it has one.
    fn at_address(mut self, address: u64) -> Self {
        self.place.address.get_or_insert(Hex(address));
        self
    }
}

/// An error that has an id.
pub trait Describe {
    /// The id of the error, and where the error is.
    fn describe(&self) -> Description;
}

impl Describe for io::Error {
    fn describe(&self) -> Description {
        let inner = self.get_ref();
        let inner = inner.and_then(|inner| described(inner as &(dyn StdError + 'static)));
        inner.unwrap_or_else(|| {
            Description::from(match self.kind() {
                io::ErrorKind::NotFound => Id::NotFound,
                io::ErrorKind::PermissionDenied => Id::PermissionDenied,
                io::ErrorKind::AlreadyExists => Id::Exists,
                io::ErrorKind::OutOfMemory => Id::Memory,
                io::ErrorKind::BrokenPipe => Id::ReaderGone,
                _ if livecore_livedump::publish::is_full(self) => Id::NoSpace,
                _ => Id::Io,
            })
        })
    }
}

/// The description of an error of the libraries.
fn described(error: &(dyn StdError + 'static)) -> Option<Description> {
    fn of<T: Describe + StdError + 'static>(
        error: &(dyn StdError + 'static),
    ) -> Option<Description> {
        error.downcast_ref::<T>().map(Describe::describe)
    }
    of::<CompressError>(error)
        .or_else(|| of::<MinidumpError>(error))
        .or_else(|| of::<ReadError>(error))
        .or_else(|| of::<LocateError>(error))
        .or_else(|| of::<TakeError>(error))
        .or_else(|| of::<MemError>(error))
        .or_else(|| of::<PublishError>(error))
        .or_else(|| of::<WriteError>(error))
        .or_else(|| of::<QmpError>(error))
        .or_else(|| of::<GdbError>(error))
        .or_else(|| of::<KernelError>(error))
        .or_else(|| of::<LocationError>(error))
        .or_else(|| of::<PairError>(error))
        .or_else(|| of::<NotLoaded>(error))
        .or_else(|| of::<ServeError>(error))
        .or_else(|| of::<SynthError>(error))
        .or_else(|| of::<io::Error>(error))
}

impl Describe for CompressError {
    fn describe(&self) -> Description {
        match self {
            Self::Read(source) | Self::Write(source) => source.describe(),
            Self::Broken {
                region,
                offset,
                found,
                expected,
            } => Description::broken(region, *offset, found, expected),
            Self::Limit { .. } => Id::Limit.into(),
            Self::Memory { .. } => Id::Memory.into(),
            Self::Options(_) => Id::InvalidValue.into(),
            Self::Cancelled => Id::Cancelled.into(),
            _ => Id::Failed.into(),
        }
    }
}

impl Describe for MinidumpError {
    fn describe(&self) -> Description {
        match self {
            Self::Io { source, .. } => source.describe(),
            Self::Broken {
                region,
                offset,
                found,
                expected,
            } => Description::broken(region, *offset, found, expected),
            Self::NotADump { .. } => Id::NotADump.into(),
            Self::Unsupported { .. } => Id::Unsupported.into(),
            Self::Encrypted { .. } => Id::Encrypted.into(),
            Self::WrongKey { .. } => Id::WrongKey.into(),
            Self::KeyFile { .. } => Id::KeyFile.into(),
            Self::NoSymbol(_) => Id::NoSymbol.into(),
            Self::Options(_) => Id::InvalidValue.into(),
            Self::Cancelled => Id::Cancelled.into(),
            _ => Id::Failed.into(),
        }
    }
}

impl Describe for ReadError {
    fn describe(&self) -> Description {
        match self {
            Self::NotMapped { at, .. } => Description::at(Id::NotMapped, at.0),
            Self::Hole { at } => Description::at(Id::NotInDump, at.0),
            Self::Excluded { at, .. } => Description::at(Id::Excluded, at.0),
            Self::BeyondEnd { at, offset, .. } => {
                let mut description = Description::at(Id::BeyondEnd, at.0);
                description.place.offset = Some(*offset);
                description
            }
            Self::Tables { at, source } => match source.describe() {
                // The cause of a system error is in the text.
                cause if cause.place == ErrorLocation::default() => {
                    Description::at(Id::TablesUnreadable, at.0)
                }
                cause => cause.at_address(at.0),
            },
            Self::Io { at, source } => source.describe().at_address(at.0),
            _ => Id::Failed.into(),
        }
    }
}

impl Describe for KernelError {
    fn describe(&self) -> Description {
        match self {
            Self::NoSymbol(_) => Id::NoSymbol.into(),
            Self::Unreadable { what, at, source } => {
                source.describe().in_region(what).at_address(at.0)
            }
            Self::Implausible {
                what,
                found,
                expected,
            } => Description::of_contents(Id::Broken, what, &format!("{found:#x}"), expected),
            Self::UnknownMachine(_) | Self::NoMember(_) => Id::Unsupported.into(),
            _ => Id::Failed.into(),
        }
    }
}

impl Describe for LocateError {
    fn describe(&self) -> Description {
        match self {
            Self::NoSymbol { .. } => Id::NoSymbol.into(),
            Self::Unsupported { .. } => Id::Unsupported.into(),
            Self::NoKernel {
                misplaced: true, ..
            } => Id::KernelMisplaced.into(),
            Self::NoKernel { .. } => Id::KernelNotInMemory.into(),
            Self::Contradiction {
                what,
                found,
                expected,
            } => Description::of_contents(Id::Broken, what, found, expected),
            Self::Memory { what, source } => source.describe().in_region(what),
            _ => Id::Failed.into(),
        }
    }
}

impl Describe for LocationError {
    fn describe(&self) -> Description {
        Description::from(match self {
            Self::Neither | Self::NotANumber(_) | Self::TooLarge(_) | Self::Beyond { .. } => {
                Id::InvalidAddress
            }
            Self::NoSymbol(_) => Id::NoSymbol,
            Self::NotAnAddress { .. } => Id::UnusableSymbol,
            _ => Id::Failed,
        })
    }
}

impl Describe for PairError {
    fn describe(&self) -> Description {
        match self {
            Self::Open { source, .. } => source.describe(),
            Self::Format(error) => error.describe(),
            Self::Locate(error) => error.describe(),
            Self::AnotherKernel { what, kernel, dump } => {
                Description::of_contents(Id::OtherKernel, what, kernel, dump)
            }
            Self::NotFound { .. } => Id::KernelNotFound.into(),
            Self::Kernel(error) => error.describe(),
            _ => Id::Failed.into(),
        }
    }
}

impl Describe for TakeError {
    fn describe(&self) -> Description {
        match self {
            Self::Locate(error) => error.describe(),
            Self::Unsupported { .. } => Id::Unsupported.into(),
            Self::NoCpu { .. } => Id::NoCpu.into(),
            Self::Contradiction {
                what,
                found,
                expected,
            } => Description::of_contents(Id::Broken, what, found, expected),
            Self::Memory { what, source } => source.describe().in_region(what),
            Self::Mem(error) => error.describe(),
            Self::Minidump(error) => error.describe(),
            Self::RunningCpu => Id::RunningCpu.into(),
            Self::NotStarted => Id::GuestNotStarted.into(),
            Self::MustPause { .. } => Id::MustPause.into(),
            Self::Qmp(error) => error.describe(),
            Self::Gdb(error) => error.describe(),
            Self::Publish(error) => error.describe(),
            Self::Cancelled => Id::Cancelled.into(),
            _ => Id::Failed.into(),
        }
    }
}

impl Describe for PublishError {
    fn describe(&self) -> Description {
        match self {
            Self::Directory { source, .. } | Self::Io { source, .. } => source.describe(),
            Self::Exists { .. } => Id::Exists.into(),
            Self::NotEnoughSpace { .. } | Self::NoSpace { .. } => Id::NoSpace.into(),
            Self::Complete { .. } => Id::LaterStepFailed.into(),
            Self::Untrusted { .. } => Id::UntrustedFile.into(),
            Self::NumbersTaken { .. } => Id::NumbersTaken.into(),
            Self::ReaderGone { .. } => Id::ReaderGone.into(),
            _ => Id::Failed.into(),
        }
    }
}

impl Describe for WriteError {
    fn describe(&self) -> Description {
        match self {
            Self::Publish(error) => error.describe(),
            Self::Minidump(error) => error.describe(),
        }
    }
}

impl Describe for GdbError {
    fn describe(&self) -> Description {
        match self {
            Self::Connect { .. } => Id::GdbConnect.into(),
            Self::Io { source, .. } => source.describe(),
            Self::Gone { .. } => Id::GdbGone.into(),
            Self::Timeout { .. } => Id::GdbTimeout.into(),
            Self::Refused { .. } => Id::GdbRefused.into(),
            Self::Protocol {
                packet,
                found,
                expected,
            } => Description::of_contents(Id::GdbProtocol, packet, found, expected),
            Self::Cancelled => Id::Cancelled.into(),
            _ => Id::Failed.into(),
        }
    }
}

impl Describe for QmpError {
    fn describe(&self) -> Description {
        match self {
            Self::Connect { .. } => Id::QmpConnect.into(),
            Self::Io { source, .. } => source.describe(),
            Self::Gone { .. } => Id::QmpGone.into(),
            Self::Timeout { .. } => Id::QmpTimeout.into(),
            Self::Refused { .. } => Id::QmpRefused.into(),
            Self::Protocol {
                region,
                found,
                expected,
            } => Description::of_contents(Id::QmpProtocol, region, found, expected),
            Self::Cancelled => Id::Cancelled.into(),
            _ => Id::Failed.into(),
        }
    }
}

impl Describe for MemError {
    fn describe(&self) -> Description {
        match self {
            Self::NotPermitted { .. } => Id::PermissionDenied.into(),
            Self::BadDescriptor { .. } | Self::NotOpenedFor { .. } => Id::BadDescriptor.into(),
            Self::NotAFile { .. } => Id::NotAFile.into(),
            Self::BadFlags { .. }
            | Self::BadCompression { .. }
            | Self::BadRangeOperation { .. } => Id::BadRequest.into(),
            Self::AnotherDumpRunning => Id::AnotherDumpRunning.into(),
            Self::KernelCannotLiveDump => Id::KernelCannotLiveDump.into(),
            Self::Cancelled => Id::CancelledAtConsole.into(),
            Self::CompressorFailed => Id::CompressorFailed.into(),
            Self::NoSpace(_) => Id::NoSpace.into(),
            Self::NoDevice { .. } => Id::NoDevice.into(),
            Self::NoExtract => Id::NoExtract.into(),
            Self::BadAddress { at, .. } => Description::at(Id::BadAddress, *at),
            Self::NoRangeDriver | Self::NoRanges => Id::NoRanges.into(),
            Self::BadRange { base, .. } => Description::at(Id::BadRange, base.0),
            Self::RangeBusy { base, .. } => Description::at(Id::RangeBusy, base.0),
            Self::NoFreeRange => Id::NoFreeRange.into(),
            Self::NoSuchRange { base, .. } => Description::at(Id::NoSuchRange, base.0),
            Self::UnknownKind { base, .. } => Description::at(Id::UnknownRangeType, base.0),
            Self::FixedRange { base, .. } => Description::at(Id::FixedRange, base.0),
            Self::NoSuchProcess { .. } => Id::NoProcess.into(),
            Self::NeedsFreeBsd => Id::NeedsFreebsd.into(),
            Self::NoKernelFile { .. } => Id::NoKernelFile.into(),
            Self::Unchangeable { .. } => Id::Unchangeable.into(),
            Self::Io { source, .. } => source.describe(),
            _ => Id::Failed.into(),
        }
    }
}

impl Describe for ServeError {
    fn describe(&self) -> Description {
        match self {
            Self::Machine { .. } => Id::Unsupported.into(),
            _ => Id::Failed.into(),
        }
    }
}

impl Describe for NotLoaded {
    fn describe(&self) -> Description {
        let id = Id::OtherModule;
        match self {
            Self::Elf(error) => error.describe(),
            Self::Machine { found, expected } => {
                let (found, expected) = (found.to_string(), expected.to_string());
                Description::of_contents(id, "ELF machine", &found, &expected)
            }
            Self::BuildId { found, expected } => {
                let (found, expected) = (hex(found), hex(expected));
                Description::of_contents(id, "build-id", &found, &expected)
            }
            Self::Contents { section, at } => Description::at(id, at.0).in_region(section),
            Self::Size { found, expected } => {
                let (found, expected) = (format!("{found:#x}"), format!("{expected:#x}"));
                Description::of_contents(id, "size of the sections", &found, &expected)
            }
            _ => id.into(),
        }
    }
}

impl Describe for SynthError {
    fn describe(&self) -> Description {
        match self {
            Self::Syntax(_) => Id::DescriptionSyntax.into(),
            Self::Value {
                key,
                found,
                expected,
            } => Description::of_contents(Id::DescriptionValue, key, found, expected),
            Self::NoSpace { .. } => Id::DescriptionTooLarge.into(),
            Self::Compiler { .. } => Id::CompilerFailed.into(),
            Self::Kernel(_) => Id::Broken.into(),
            Self::Io { source, .. } => source.describe(),
            _ => Id::Failed.into(),
        }
    }
}

impl Id {
    /// The id of an error of the libraries; `None` if `error` is of another type.
    pub fn of_error(error: &(dyn StdError + 'static)) -> Option<Self> {
        described(error).map(|description| description.id)
    }

    /// The id of a dump's warning.
    pub fn of_warning(warning: &Warning) -> Self {
        Self::named(warning.id()).unwrap_or(Self::Warning)
    }

    /// The id of a note about a dump that was taken.
    pub fn of_note(note: &Note) -> Self {
        match note {
            Note::GuestRuns => Self::GuestRuns,
            Note::Paused { .. } | Note::PausedToCompare { .. } | Note::PausedByQemu { .. } => {
                Self::GuestPaused
            }
            Note::KernelDumps => Self::KernelDumps,
            Note::NotCompared { .. } => Self::NotCompared,
            Note::LeftKernel { .. } => Self::CpuLeftKernel,
            Note::UnknownRegisters { .. }
            | Note::NoRegisters { .. }
            | Note::RegistersNotAdded { .. }
            | Note::StoppedCpus { .. } => Self::RegistersNotAdded,
            Note::InDebugger { .. } => Self::CpuInDebugger,
            Note::StoppedByKernel { .. } => Self::CpuStopped,
            Note::TablesOutside { .. }
            | Note::VmPagesUnreadable { .. }
            | Note::BitmapPagesMissing { .. } => Self::KernelData,
            Note::NoVmPageArray | Note::NoVmPhysSegs | Note::UnknownVmPage => Self::NodumpUnknown,
            Note::NoMsgbuf
            | Note::MsgbufUnreadable { .. }
            | Note::MsgbufInvalid { .. }
            | Note::MsgbufMissing => Self::NoMsgbuf,
            Note::NoHostname | Note::NoTime => Self::HeaderIncomplete,
            Note::Directory(notice) => Self::of_notice(notice),
            _ => Self::Note,
        }
    }

    /// The id of a note about the directory of a dump.
    pub fn of_notice(notice: &Notice) -> Self {
        match notice {
            Notice::NumberSkipped { .. } | Notice::NumberOfSavecore { .. } => Self::NumberSkipped,
            Notice::LeftoverRemoved { .. } => Self::LeftoverRemoved,
            Notice::LinkKept { .. } | Notice::NotALink { .. } => Self::LinkKept,
            Notice::LinkFailed { .. } => Self::LinkFailed,
            Notice::MinfreeIgnored { .. } => Self::MinfreeIgnored,
            Notice::MayNotFit { .. } => Self::MayNotFit,
            Notice::NotLocked { .. } => Self::NotLocked,
            _ => Self::Note,
        }
    }

    /// The id of a line that debuggers print when they connect.
    pub fn of_greeting(greeting: &Greeting) -> Self {
        match greeting {
            Greeting::Panic(_) => Self::Panic,
            Greeting::Version(_) => Self::KernelVersion,
            Greeting::Unread(_) => Self::UnreadMessages,
            _ => Self::Greeting,
        }
    }

    /// The id of what a server cannot provide.
    pub fn of_problem(problem: &Problem) -> Self {
        match problem {
            Problem::Threads(_) | Problem::Modules(_) => Self::KernelData,
            Problem::OtherModule { .. } => Self::OtherModule,
            Problem::UnreadableModule { source, .. } => source.describe().id,
            Problem::UnsafePath { .. } => Self::UnsafePath,
            Problem::UnsafeSection { .. } => Self::UnsafeSection,
            _ => Self::ModuleSkipped,
        }
    }
}
