//! The encoding of FreeBSD's ioctl request numbers.
//!
//! FreeBSD `sys/sys/ioccom.h`: the direction in the top three bits, the argument's size in 13 bits
//! from bit 16, a group letter from bit 8, a number from bit 0. `IN` is data that the kernel copies
//! in.

/// `IOC_OUT`: the kernel writes the argument.
pub(crate) const IOC_OUT: u32 = 0x4000_0000;
/// `IOC_IN`: the kernel reads the argument.
pub(crate) const IOC_IN: u32 = 0x8000_0000;
/// `IOCPARM_MASK`: the argument's size.
pub(crate) const IOCPARM_MASK: u32 = 0x1fff;

/// `_IOC`
pub(crate) const fn ioc(direction: u32, group: u8, number: u8, size: usize) -> u32 {
    assert!(size <= IOCPARM_MASK as usize);
    direction | (size as u32) << 16 | (group as u32) << 8 | number as u32
}

/// `_IOR`: the kernel writes a `T`.
#[cfg_attr(
    not(target_os = "freebsd"),
    expect(dead_code, reason = "only disks of FreeBSD")
)]
pub(crate) const fn ior<T>(group: u8, number: u8) -> u32 {
    ioc(IOC_OUT, group, number, size_of::<T>())
}

/// `_IOW`: the kernel reads a `T`.
pub(crate) const fn iow<T>(group: u8, number: u8) -> u32 {
    ioc(IOC_IN, group, number, size_of::<T>())
}

/// `_IOWR`: the kernel reads a `T` and writes it back.
pub(crate) const fn iowr<T>(group: u8, number: u8) -> u32 {
    ioc(IOC_IN | IOC_OUT, group, number, size_of::<T>())
}
