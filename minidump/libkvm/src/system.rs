//! Load average and swap devices (FreeBSD `lib/libkvm/kvm_getloadavg.c`, `kvm_getswapinfo.c`).

use std::ffi::{c_int, c_uint};

use livecore_kernel::Kernel;
use livecore_minidump::VirtAddr;

use crate::abi::{SWIF_DEV_PREFIX, kvm_swap};
use crate::failure::Failure;
use crate::handle::characters;
use crate::opened::Opened;
use crate::record::Record;

/// The maximum number of swap devices.
const DEVICES: usize = 1024;

/// The load averages of the last 1, 5 and 15 minutes.
pub(crate) fn load(opened: &Opened) -> Result<[f64; 3], Failure> {
    let kernel = opened.kernel()?;
    let at = kernel.address("averunnable")?;
    let word = kernel.elf().pointer_size() as u64;
    let mut averages = [0.0; 3];
    for (slot, at) in averages
        .iter_mut()
        .zip((0..).map(|i| at.wrapping_add(4 * i)))
    {
        *slot = kernel.uint_at("averunnable", at, 4)? as f64;
    }
    // `struct loadavg`: three numbers of 32 bits, and a `long`.
    let scale = match kernel.variable("fscale", 4) {
        Ok(scale) => scale,
        Err(_) => kernel.long_at(
            "averunnable.fscale",
            at.wrapping_add(12_u64.next_multiple_of(word)),
        )?,
    };
    if scale == 0 {
        return Err(Failure::hard("fscale: found 0x0, expected a divisor"));
    }
    Ok(averages.map(|average| average / scale as f64))
}

/// The swap devices, and their sum at the end. Sizes are in pages.
pub(crate) fn swap(opened: &Opened, flags: c_int) -> Result<Vec<kvm_swap>, Failure> {
    let kernel = opened.typed()?;
    let reserved = |name| kernel.variable(name, 4).ok();
    let reserved = reserved("dmmax").or_else(|| reserved("nsw_cluster_max"));
    let reserved = reserved.unwrap_or(0) as c_uint;
    let mut total = EMPTY;
    let mut found = Vec::new();
    let mut next = kernel.pointer("swtailq")?.0;
    while next != 0 {
        if found.len() == DEVICES {
            return Err(Failure::hard(format_args!(
                "swtailq: more than {DEVICES} devices"
            )));
        }
        let device = Device::read(kernel, next)?;
        let size = device.blocks.wrapping_sub(reserved);
        total.ksw_total = total.ksw_total.wrapping_add(size);
        total.ksw_used = total.ksw_used.wrapping_add(device.used);
        let mut name = device.name;
        if flags & SWIF_DEV_PREFIX != 0 && device.is_device {
            name.splice(0..0, *b"/dev/");
        }
        let mut swap = kvm_swap {
            ksw_total: size,
            ksw_used: device.used,
            ksw_flags: device.flags,
            ..EMPTY
        };
        name.truncate(swap.ksw_devname.len() - 1);
        for (slot, c) in swap.ksw_devname.iter_mut().zip(characters(&name)) {
            *slot = c;
        }
        found.push(swap);
        next = device.next;
    }
    found.push(total);
    Ok(found)
}

const EMPTY: kvm_swap = kvm_swap {
    ksw_devname: [0; 32],
    ksw_used: 0,
    ksw_total: 0,
    ksw_flags: 0,
    ksw_reserved1: 0,
    ksw_reserved2: 0,
};

/// A `struct swdevt` (FreeBSD `sys/vm/swap_pager.h`).
struct Device {
    flags: c_int,
    blocks: c_uint,
    used: c_uint,
    name: Vec<u8>,
    is_device: bool,
    next: u64,
}

impl Device {
    /// Reads the structure with type information, or by the layout of 64-bit kernels since 12.0.
    fn read(kernel: &Kernel<'_>, at: u64) -> Result<Self, Failure> {
        let typed = Record::read(kernel, "swdevt", at);
        let word = kernel.elf().pointer_size();
        if typed.is_none() && word != 8 {
            return Err(Failure::hard(
                "cannot read swap devices: the kernel has no type information about struct swdevt",
            ));
        }
        let member =
            |name: &str, offset: u64, len: usize| match typed.as_ref().and_then(|t| t.uint(name)) {
                Some(value) => Ok(value),
                None => kernel.uint_at(name, VirtAddr(at).wrapping_add(offset), len),
            };
        let device = member("sw_dev", 16, 8)?;
        let is_device = device != u64::MAX;
        let vnode = typed.as_ref().and_then(|t| t.follow("sw_vp", "vnode"));
        let cdev = vnode.and_then(|vnode| vnode.follow("v_rdev", "cdev"));
        let name = cdev.and_then(|cdev| Some(cdev.text("si_name")?.to_vec()));
        // The format of devname(3) for a device without a name.
        let name = name.unwrap_or_else(|| format!("#C:{device:#x}").into_bytes());
        Ok(Self {
            flags: member("sw_flags", 0, 4)? as c_int,
            blocks: member("sw_nblks", 4, 4)? as c_uint,
            used: member("sw_used", 8, 4)? as c_uint,
            name: if is_device {
                name
            } else {
                b"[NFS swap]".to_vec()
            },
            is_device,
            next: member("sw_list.tqe_next", 64, word)?,
        })
    }
}
