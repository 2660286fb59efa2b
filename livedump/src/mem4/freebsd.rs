//! mem(4) on FreeBSD: the two devices, through the requests of [`crate::sys::mem_ioctl`].
//!
//! The meaning of an errno depends on the request; this module translates it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use livecore_minidump::{PhysAddr, VirtAddr};

use super::access::Access;
use super::device::{Device, Extracted, MemDevice};
use super::error::MemError;
use super::range::MemRange;
use super::request::DumpRequest;
use crate::sys::mem_ioctl::{Kernel, MemIoctl, Request};
use crate::sys::memrange::{
    MEMRANGE_SET_REMOVE, MEMRANGE_SET_UPDATE, MeState, MemExtract, MemLivedumpArg, MemRangeDesc,
};
use crate::sys::sysctl;

/// `/dev/mem`
pub const DEV_MEM: &str = "/dev/mem";
/// `/dev/kmem`
pub const DEV_KMEM: &str = "/dev/kmem";

/// The most ranges that are accepted, more than any processor has.
const RANGES_MAX: i32 = 4096;

/// The devices of this system, or of a recorded one.
#[derive(Debug)]
pub struct FreeBsd<K = Kernel> {
    mem: File,
    kmem: Result<File, io::ErrorKind>,
    kernel: K,
}

impl FreeBsd {
    /// Opens `/dev/mem`, and `/dev/kmem` if it exists. Read access suffices except for writing
    /// memory. On other systems than FreeBSD nothing is opened: [`MemError::NeedsFreeBsd`].
    ///
    /// # Errors
    ///
    /// [`MemError`] if a device cannot be opened.
    pub fn open(access: Access) -> Result<Self, MemError> {
        // The device has another interface on other systems.
        if let Err(e) = sysctl::string("kern.ostype")
            && e.kind() == io::ErrorKind::Unsupported
        {
            return Err(MemError::NeedsFreeBsd);
        }
        Self::open_at(Path::new(DEV_MEM), Path::new(DEV_KMEM), access, Kernel)
    }
}

impl<K: MemIoctl> FreeBsd<K> {
    /// Opens the devices at these paths; `kernel` handles the requests.
    ///
    /// # Errors
    ///
    /// [`MemError`] if a device cannot be opened.
    pub fn open_at(
        mem: impl AsRef<Path>,
        kmem: impl AsRef<Path>,
        access: Access,
        kernel: K,
    ) -> Result<Self, MemError> {
        let kmem = kmem.as_ref();
        let mem = mem.as_ref();
        let open = |path: &Path| {
            File::options()
                .read(access.read)
                .write(access.write)
                .open(path)
        };
        let mem = open(mem).map_err(open_error)?;
        Ok(Self {
            mem,
            kmem: open(kmem).map_err(|e| e.kind()),
            kernel,
        })
    }

    /// The open `/dev/mem`.
    pub fn mem(&self) -> &File {
        &self.mem
    }

    /// The handler of the requests.
    pub fn kernel(&self) -> &K {
        &self.kernel
    }

    /// The open `/dev/mem`, and the handler of the requests.
    pub fn into_parts(self) -> (File, K) {
        (self.mem, self.kernel)
    }

    fn device(&self, device: Device) -> Result<&File, MemError> {
        match device {
            Device::Mem => Ok(&self.mem),
            Device::Kmem => self.kmem.as_ref().map_err(|kind| MemError::Io {
                doing: "open /dev/kmem",
                source: (*kind).into(),
            }),
        }
    }

    fn issue(&self, request: Request<'_>) -> io::Result<()> {
        self.kernel.issue(self.mem.as_fd(), request)
    }
}

/// Translates an error of open(2) for `/dev/mem`: EACCES of its mode, EPERM of the driver.
fn open_error(source: io::Error) -> MemError {
    match source.kind() {
        io::ErrorKind::PermissionDenied => MemError::NotPermitted {
            why: "/dev/mem needs group kmem for reading, root and kern.securelevel 0 or less for writing",
        },
        io::ErrorKind::NotFound => MemError::NoDevice {
            jailed: sysctl::number("security.jail.jailed").is_ok_and(|jailed| jailed != 0),
        },
        _ => MemError::Io {
            doing: "open /dev/mem",
            source,
        },
    }
}

/// Translates an error of read(2) or write(2) on the device.
fn transfer_error(error: io::Error, at: u64, what: &'static str) -> MemError {
    match error.raw_os_error() {
        Some(libc::EFAULT) => MemError::BadAddress {
            at,
            why: "the kernel cannot access it",
        },
        Some(libc::EBADF) => MemError::NotOpenedFor { what },
        _ => MemError::Io {
            doing: "access memory",
            source: error,
        },
    }
}

/// What an error of MEM_EXTRACT_PADDR means.
fn extract_error(error: io::Error) -> MemError {
    if error.kind() == io::ErrorKind::Unsupported && error.raw_os_error().is_none() {
        return MemError::NeedsFreeBsd;
    }
    match error.raw_os_error() {
        Some(libc::ENOTTY | libc::EOPNOTSUPP) => MemError::NoExtract,
        _ => MemError::Io {
            doing: "translate an address (MEM_EXTRACT_PADDR)",
            source: error,
        },
    }
}

/// Translates an error of MEMRANGE_GET or MEMRANGE_SET.
fn range_error(error: io::Error, base: u64, len: u64, operation: i32) -> MemError {
    if error.kind() == io::ErrorKind::Unsupported && error.raw_os_error().is_none() {
        return MemError::NeedsFreeBsd;
    }
    let known = [MEMRANGE_SET_UPDATE, MEMRANGE_SET_REMOVE].contains(&operation);
    match error.raw_os_error().unwrap_or(0) {
        libc::EOPNOTSUPP if !known => MemError::BadRangeOperation { operation },
        // A port without these requests returns ENOTTY.
        libc::EOPNOTSUPP | libc::ENOTTY => MemError::NoRangeDriver,
        libc::ENXIO => MemError::NoRanges,
        libc::EINVAL => MemError::BadRange {
            base: PhysAddr(base),
            len,
            why: "the hardware does not support it, or it overlaps another range",
        },
        libc::EBUSY => MemError::RangeBusy {
            base: PhysAddr(base),
            len,
        },
        libc::ENOSPC => MemError::NoFreeRange,
        libc::ENOENT => MemError::NoSuchRange {
            base: PhysAddr(base),
            len,
        },
        libc::EACCES => MemError::UnknownKind {
            base: PhysAddr(base),
            len,
        },
        libc::EPERM => MemError::FixedRange {
            base: PhysAddr(base),
            len,
        },
        _ => MemError::Io {
            doing: "get or set memory ranges",
            source: error,
        },
    }
}

/// Translates an error of MEM_KERNELDUMP.
pub(crate) fn dump_error(error: io::Error, request: &DumpRequest) -> MemError {
    if error.kind() == io::ErrorKind::Unsupported && error.raw_os_error().is_none() {
        return MemError::NeedsFreeBsd;
    }
    let fd = request.fd;
    match error.raw_os_error().unwrap_or(0) {
        // Kernels before 14 do not have the request.
        libc::EOPNOTSUPP | libc::ENOTTY => MemError::KernelCannotLiveDump,
        libc::EPERM => MemError::NotPermitted {
            why: "PRIV_KMEM_READ is denied",
        },
        libc::EBADF => MemError::BadDescriptor { fd },
        libc::EINVAL if request.flags != 0 => MemError::BadFlags {
            flags: request.flags,
        },
        libc::EINVAL if request.compression == 0 => MemError::NotAFile { fd },
        libc::EINVAL => MemError::BadCompression {
            compression: request.compression,
        },
        libc::EBUSY => MemError::AnotherDumpRunning,
        libc::ENOSPC | libc::EDQUOT | libc::EFBIG => MemError::NoSpace(error),
        libc::ECANCELED => MemError::Cancelled,
        libc::EAGAIN => MemError::CompressorFailed,
        libc::EIO if request.compression != 0 => MemError::CompressorFailed,
        _ => MemError::Io {
            doing: "take a live dump (MEM_KERNELDUMP)",
            source: error,
        },
    }
}

impl DumpRequest {
    /// The argument of the ioctl.
    pub fn to_arg(&self) -> MemLivedumpArg {
        MemLivedumpArg {
            fd: self.fd,
            flags: self.flags,
            compression: self.compression,
            ..MemLivedumpArg::default()
        }
    }
}

impl<K: MemIoctl> MemDevice for FreeBsd<K> {
    fn read(&self, device: Device, offset: u64, buf: &mut [u8]) -> Result<usize, MemError> {
        // pread(2) takes a signed offset; for character devices all 64 bits are used.
        FileExt::read_at(self.device(device)?, buf, offset)
            .map_err(|e| transfer_error(e, offset, "reading"))
    }

    fn write(&self, device: Device, offset: u64, bytes: &[u8]) -> Result<usize, MemError> {
        self.device(device)?
            .write_at(bytes, offset)
            .map_err(|e| transfer_error(e, offset, "writing"))
    }

    fn extract_paddr(&self, vaddr: VirtAddr) -> Result<Extracted, MemError> {
        let mut extract = MemExtract {
            me_vaddr: vaddr.0,
            ..MemExtract::default()
        };
        self.issue(Request::ExtractPaddr(&mut extract))
            .map_err(extract_error)?;
        let unmapped = |state| Ok(Extracted::unmapped(state));
        match MeState::from_raw(extract.me_state) {
            Some(MeState::Mapped) => Ok(Extracted {
                state: MeState::Mapped,
                paddr: PhysAddr(extract.me_paddr),
                domain: extract.me_domain,
            }),
            Some(state) => unmapped(state),
            None => Err(MemError::Io {
                doing: "translate an address (MEM_EXTRACT_PADDR)",
                source: io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("unknown state {}", extract.me_state),
                ),
            }),
        }
    }

    fn ranges(&self) -> Result<Vec<MemRange>, MemError> {
        let get = |descriptors: &mut [MemRangeDesc]| {
            let mut count = 0;
            self.issue(Request::RangesGet {
                descs: descriptors,
                count: &mut count,
            })
            .map_err(|e| range_error(e, 0, 0, 0))?;
            Ok::<i32, MemError>(count)
        };
        let count = get(&mut [])?.clamp(0, RANGES_MAX);
        let mut descriptors = vec![MemRangeDesc::default(); count as usize];
        let filled = get(&mut descriptors)?.clamp(0, count);
        descriptors.truncate(filled as usize);
        Ok(descriptors.iter().map(MemRange::from_desc).collect())
    }

    fn set_range(&self, range: &MemRange, operation: i32) -> Result<(), MemError> {
        let mut desc = range.to_desc();
        self.issue(Request::RangesSet {
            desc: &mut desc,
            operation,
        })
        .map_err(|e| range_error(e, range.base.0, range.len, operation))
    }

    fn kernel_dump(&self, request: &DumpRequest) -> Result<(), MemError> {
        self.issue(Request::KernelDump(&request.to_arg()))
            .map_err(|e| dump_error(e, request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem4::range::Owner;
    use crate::sys::memrange::{
        MEM_EXTRACT_PADDR, MEM_KERNELDUMP, MEMRANGE_GET, MEMRANGE_SET, Mdf,
    };
    use std::os::fd::BorrowedFd;
    use std::sync::Mutex;

    /// A kernel that records requests and returns prepared answers.
    #[derive(Debug, Default)]
    struct Record {
        asked: Mutex<Vec<String>>,
        error: Option<i32>,
    }

    impl MemIoctl for Record {
        fn issue(&self, _mem: BorrowedFd<'_>, request: Request<'_>) -> io::Result<()> {
            let number = request.number();
            let note = match request {
                Request::RangesGet { descs, count } => {
                    for (i, desc) in descs.iter_mut().enumerate() {
                        desc.mr_base = i as u64 * 4096;
                        desc.mr_len = 4096;
                        desc.mr_flags = Mdf::ACTIVE.to_raw();
                        desc.mr_owner = *b"BIOS\0\0\0\0";
                    }
                    *count = if descs.is_empty() { 3 } else { 2 };
                    format!("get {}", descs.len())
                }
                Request::RangesSet { desc, operation } => format!("set {operation} {desc:x?}"),
                Request::ExtractPaddr(extract) => {
                    (extract.me_paddr, extract.me_domain, extract.me_state) = (0x5000, 1, 2);
                    format!("extract {:#x}", extract.me_vaddr)
                }
                Request::KernelDump(arg) => format!("dump {arg:?}"),
            };
            self.asked
                .lock()
                .unwrap()
                .push(format!("{number:#x} {note}"));
            self.error
                .map_or(Ok(()), |e| Err(io::Error::from_raw_os_error(e)))
        }
    }

    fn device(error: Option<i32>) -> FreeBsd<Record> {
        let kernel = Record {
            error,
            ..Record::default()
        };
        let null = Path::new("/dev/zero");
        FreeBsd::open_at(null, null, Access::READ, kernel).unwrap()
    }

    fn asked(device: &FreeBsd<Record>) -> Vec<String> {
        device.kernel.asked.lock().unwrap().clone()
    }

    const RANGE: fn() -> MemRange = || MemRange {
        base: PhysAddr(0x8000_0000),
        len: 0x1000,
        flags: Mdf::WRITEBACK | Mdf::FORCE,
        owner: Owner::new(b"me"),
    };

    #[test]
    fn requests_have_the_right_numbers_and_structures() {
        let device = device(None);
        let ranges = device.ranges().unwrap();
        assert_eq!(ranges.len(), 2, "the count of the second answer");
        assert_eq!(ranges[1].base, PhysAddr(4096));
        device.set_range(&RANGE(), MEMRANGE_SET_REMOVE).unwrap();
        assert_eq!(
            device.extract_paddr(VirtAddr(0x7fff_1234)).unwrap(),
            Extracted {
                state: MeState::Mapped,
                paddr: PhysAddr(0x5000),
                domain: 1
            }
        );
        let request = DumpRequest {
            fd: 7,
            flags: 0,
            compression: 2,
        };
        device.kernel_dump(&request).unwrap();
        let desc = "MemRangeDesc { mr_base: 80000000, mr_len: 1000, mr_flags: 80000008, \
                    mr_owner: [6d, 65, 0, 0, 0, 0, 0, 0], pad: 0 }";
        let arg = "MemLivedumpArg { fd: 7, flags: 0, compression: 2, \
                   pad1: [0, 0, 0, 0, 0, 0, 0], pad2: [0, 0] }";
        assert_eq!(
            asked(&device),
            [
                format!("{MEMRANGE_GET:#x} get 0"),
                format!("{MEMRANGE_GET:#x} get 3"),
                format!("{MEMRANGE_SET:#x} set 1 {desc}"),
                format!("{MEM_EXTRACT_PADDR:#x} extract 0x7fff1234"),
                format!("{MEM_KERNELDUMP:#x} dump {arg}"),
            ]
        );
    }

    /// Whether an error is the expected one.
    type Is = fn(&MemError) -> bool;

    #[test]
    fn dump_errors_convert_from_errno_and_back() {
        let request = |flags, compression| DumpRequest {
            fd: 3,
            flags,
            compression,
        };
        let cases: [(_, _, _, Is); 11] = [
            (libc::EOPNOTSUPP, 0, 0, |e| {
                matches!(e, MemError::KernelCannotLiveDump)
            }),
            (libc::EPERM, 0, 0, |e| {
                matches!(e, MemError::NotPermitted { .. })
            }),
            (libc::EINVAL, 1, 0, |e| {
                matches!(e, MemError::BadFlags { flags: 1 })
            }),
            (libc::EINVAL, 0, 0, |e| {
                matches!(e, MemError::NotAFile { fd: 3 })
            }),
            (libc::EINVAL, 0, 2, |e| {
                matches!(e, MemError::BadCompression { compression: 2 })
            }),
            (libc::EBADF, 0, 0, |e| {
                matches!(e, MemError::BadDescriptor { fd: 3 })
            }),
            (libc::EBUSY, 0, 0, |e| {
                matches!(e, MemError::AnotherDumpRunning)
            }),
            (libc::ENOSPC, 0, 0, |e| matches!(e, MemError::NoSpace(_))),
            (libc::EDQUOT, 0, 0, |e| matches!(e, MemError::NoSpace(_))),
            (libc::ECANCELED, 0, 0, |e| matches!(e, MemError::Cancelled)),
            (libc::EIO, 0, 1, |e| matches!(e, MemError::CompressorFailed)),
        ];
        for (number, flags, compression, is_expected) in cases {
            let error = device(Some(number))
                .kernel_dump(&request(flags, compression))
                .unwrap_err();
            assert_eq!(error.errno(), number, "{error}");
            assert!(is_expected(&error), "{error}");
        }
        let error = device(Some(libc::ENOTTY))
            .kernel_dump(&request(0, 0))
            .unwrap_err();
        assert!(matches!(error, MemError::KernelCannotLiveDump), "{error}");
    }

    #[test]
    fn range_errors_convert_from_errno_and_back() {
        const BASE: u64 = 0x8000_0000;
        let cases: [(_, Is); 8] = [
            (libc::EOPNOTSUPP, |e| matches!(e, MemError::NoRangeDriver)),
            (libc::ENXIO, |e| matches!(e, MemError::NoRanges)),
            (libc::EINVAL, |e| {
                matches!(
                    e,
                    MemError::BadRange {
                        base: PhysAddr(BASE),
                        ..
                    }
                )
            }),
            (libc::EBUSY, |e| {
                matches!(
                    e,
                    MemError::RangeBusy {
                        base: PhysAddr(BASE),
                        ..
                    }
                )
            }),
            (libc::ENOSPC, |e| matches!(e, MemError::NoFreeRange)),
            (libc::ENOENT, |e| {
                matches!(
                    e,
                    MemError::NoSuchRange {
                        base: PhysAddr(BASE),
                        len: 0x1000
                    }
                )
            }),
            (libc::EACCES, |e| {
                matches!(
                    e,
                    MemError::UnknownKind {
                        base: PhysAddr(BASE),
                        ..
                    }
                )
            }),
            (libc::EPERM, |e| {
                matches!(
                    e,
                    MemError::FixedRange {
                        base: PhysAddr(BASE),
                        ..
                    }
                )
            }),
        ];
        for (number, is_expected) in cases {
            let error = device(Some(number))
                .set_range(&RANGE(), MEMRANGE_SET_UPDATE)
                .unwrap_err();
            assert_eq!(error.errno(), number, "{error}");
            assert!(is_expected(&error), "{error}");
        }
        let error = device(Some(libc::EOPNOTSUPP))
            .set_range(&RANGE(), 9)
            .unwrap_err();
        assert!(matches!(
            error,
            MemError::BadRangeOperation { operation: 9 }
        ));
        let error = device(Some(libc::ENOTTY)).ranges().unwrap_err();
        assert!(matches!(error, MemError::NoRangeDriver), "{error}");
    }

    #[test]
    fn device_errors_of_open_and_write() {
        let zero = Path::new("/dev/zero");
        let device = FreeBsd::open_at(zero, zero, Access::READ, Record::default()).unwrap();
        let mut buf = [1; 4];
        assert_eq!(device.read(Device::Kmem, 0x1000, &mut buf).unwrap(), 4);
        assert_eq!(buf, [0; 4]);
        let error = device.write(Device::Mem, 0, b"x").unwrap_err();
        assert!(matches!(error, MemError::NotOpenedFor { .. }), "{error}");
        let missing = Path::new("/nonexistent/mem");
        let Err(error) = FreeBsd::open_at(missing, missing, Access::READ, Record::default()) else {
            panic!("opened a missing device");
        };
        assert!(
            matches!(error, MemError::NoDevice { jailed: false }),
            "{error}"
        );
    }

    #[test]
    fn errors_of_open_are_the_mode_of_the_device_and_the_drivers_check() {
        for number in [libc::EACCES, libc::EPERM] {
            let error = open_error(io::Error::from_raw_os_error(number));
            assert!(matches!(error, MemError::NotPermitted { .. }), "{error}");
            assert_eq!(error.errno(), libc::EPERM);
        }
    }

    #[test]
    fn kernel_without_the_request_cannot_translate() {
        let error = device(Some(libc::ENOTTY))
            .extract_paddr(VirtAddr(0))
            .unwrap_err();
        assert!(matches!(error, MemError::NoExtract), "{error}");
    }
}
