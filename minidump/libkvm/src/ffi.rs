//! The exported functions (FreeBSD `lib/libkvm/kvm.h`). Each converts the pointers of the caller and
//! calls safe code. A panic becomes an error. The library releases its locks before it calls a
//! function of the caller.
//!
//! What a caller must guarantee is what libkvm(3) requires: a string ends with a zero byte, an array of
//! symbols with a null or empty name, and a buffer has the length that is passed with it. A `kvm_t *`
//! may have any value.
#![allow(
    unsafe_code,
    clippy::missing_safety_doc,
    reason = "the C interface: the only unsafe code of the crate"
)]

use std::ffi::{CStr, OsStr, c_char, c_double, c_int, c_long, c_uint, c_ulong, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::abi::{
    _POSIX2_LINE_MAX, CPUSTATES, N_UNDF, kinfo_proc, kssize_t, kvaddr_t, kvm_nlist, kvm_page,
    kvm_swap, kvm_t, nlist,
};
use crate::failure::Failure;
use crate::handle::{self, Handle, caught, line};
use crate::opened::{Opened, Resolver};
use crate::procs::Wanted;
use crate::symbols::Found;
use crate::{cpus, procs, system, walk};

/// The size of the pieces in which memory is read.
const PIECE: usize = 1 << 18;

/// Runs `work` with the open dump `kd`. An error is reported as its program wants it; the result is
/// then `failed`.
fn with<T>(kd: *mut kvm_t, failed: T, work: impl FnOnce(&Handle) -> Result<T, Failure>) -> T {
    let Some(handle) = handle::find(kd.addr()) else {
        errno::set_errno(errno::Errno(libc::EINVAL));
        return failed;
    };
    caught(|| work(&handle)).unwrap_or_else(|failure| {
        handle.report(&failure);
        failed
    })
}

/// The string at `text`, or `None` for a null pointer.
///
/// # Safety
///
/// A string that ends with a zero byte is at `text`, or it is null.
unsafe fn string<'a>(text: *const c_char) -> Option<&'a CStr> {
    // SAFETY: the caller guarantees it.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })
}

/// Copies as many elements as `out` has space for.
///
/// # Safety
///
/// `out` points to `space` elements.
unsafe fn store<T: Copy>(out: *mut T, space: usize, from: &[T]) {
    let count = from.len().min(space);
    if !out.is_null() {
        // SAFETY: the caller guarantees the space, and a new slice does not overlap it.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), out, count) };
    }
}

/// Opens a dump.
///
/// # Safety
///
/// Both paths are strings or null.
unsafe fn open(
    exec: *const c_char,
    core: *const c_char,
    flags: c_int,
    program: Option<&CStr>,
    resolver: Option<Resolver>,
) -> Result<*mut kvm_t, Failure> {
    // SAFETY: the caller guarantees it.
    let exec = unsafe { string(exec) };
    // SAFETY: the caller guarantees it.
    let core = unsafe { string(core) };
    caught(|| {
        let path = |text: &CStr| Path::new(OsStr::from_bytes(text.to_bytes())).to_owned();
        let (exec, core) = (exec.map(path), core.map(path));
        if flags & !libc::O_ACCMODE != 0 || flags & libc::O_ACCMODE == libc::O_ACCMODE {
            return Err(Failure::hard("bad flags arg"));
        }
        let opened = Opened::open(exec.as_deref(), core.as_deref(), resolver)?;
        let program = program.map(|name| name.to_bytes().to_vec());
        let number = handle::enter(Handle::new(opened, program))?;
        Ok(std::ptr::without_provenance_mut(number))
    })
}

/// Returns the handle, or null with the error in `errbuf`.
///
/// # Safety
///
/// `errbuf` has `_POSIX2_LINE_MAX` bytes, or it is null.
unsafe fn finish(opened: Result<*mut kvm_t, Failure>, errbuf: *mut c_char) -> *mut kvm_t {
    opened.unwrap_or_else(|failure| {
        let text: Vec<c_char> = handle::characters(&line(&failure)).chain([0]).collect();
        // SAFETY: the caller guarantees the space.
        unsafe { store(errbuf, _POSIX2_LINE_MAX, &text) };
        std::ptr::null_mut()
    })
}

/// Opens a dump. Errors are printed after `errstr`, unless it is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_open(
    execfile: *const c_char,
    corefile: *const c_char,
    _swapfile: *const c_char,
    flags: c_int,
    errstr: *const c_char,
) -> *mut kvm_t {
    // SAFETY: a caller passes strings or null.
    let program = unsafe { string(errstr) };
    // SAFETY: a caller passes strings or null.
    let opened = unsafe { open(execfile, corefile, flags, program, None) };
    opened.unwrap_or_else(|failure| {
        if let Some(program) = program {
            handle::print(program.to_bytes(), &failure);
        }
        std::ptr::null_mut()
    })
}

/// Opens a dump. An error is written into `errbuf`, unless it is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_openfiles(
    execfile: *const c_char,
    corefile: *const c_char,
    _swapfile: *const c_char,
    flags: c_int,
    errbuf: *mut c_char,
) -> *mut kvm_t {
    // SAFETY: a caller passes strings or null.
    let opened = unsafe { open(execfile, corefile, flags, None, None) };
    // SAFETY: a caller passes a buffer or null.
    unsafe { finish(opened, errbuf) }
}

/// Opens a dump. `resolver`, unless it is null, looks up symbols instead of the kernel file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_open2(
    execfile: *const c_char,
    corefile: *const c_char,
    flags: c_int,
    errbuf: *mut c_char,
    resolver: Option<unsafe extern "C" fn(name: *const c_char, address: *mut kvaddr_t) -> c_int>,
) -> *mut kvm_t {
    let resolver = resolver.map(|resolver| {
        Box::new(move |name: &CStr| {
            let mut address = 0;
            // SAFETY: a caller passes a function of this type.
            let failed = unsafe { resolver(name.as_ptr(), &mut address) };
            (failed == 0).then_some(address)
        }) as Resolver
    });
    // SAFETY: a caller passes strings or null.
    let opened = unsafe { open(execfile, corefile, flags, None, resolver) };
    // SAFETY: a caller passes a buffer or null.
    unsafe { finish(opened, errbuf) }
}

/// Closes a dump.
#[unsafe(no_mangle)]
pub extern "C" fn kvm_close(kd: *mut kvm_t) -> c_int {
    match caught(|| Ok(handle::close(kd.addr()))) {
        Ok(true) => 0,
        _ => {
            errno::set_errno(errno::Errno(libc::EINVAL));
            -1
        }
    }
}

/// The last error: a string that is valid in the calling thread until it calls the function again.
#[unsafe(no_mangle)]
pub extern "C" fn kvm_geterr(kd: *mut kvm_t) -> *mut c_char {
    use std::cell::RefCell;
    thread_local! {
        static TEXT: RefCell<[c_char; _POSIX2_LINE_MAX]> = const { RefCell::new([0; _POSIX2_LINE_MAX]) };
    }
    let text = match handle::find(kd.addr()) {
        Some(handle) => handle.error(),
        None if kd.is_null() => Vec::new(),
        None => b"the kvm_t is not open".to_vec(),
    };
    let written = TEXT.try_with(|buffer| {
        let mut buffer = buffer.borrow_mut();
        // An error has at least one byte less than the buffer.
        for (slot, c) in buffer.iter_mut().zip(handle::characters(&text).chain([0])) {
            *slot = c;
        }
        buffer.as_mut_ptr()
    });
    // Only while the thread ends.
    written.unwrap_or(c"".as_ptr().cast_mut())
}

/// Looks up symbols of a kernel with the types of this host. Returns the number of those that were not
/// found.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_nlist(kd: *mut kvm_t, nl: *mut nlist) -> c_int {
    with(kd, -1, |handle| {
        handle.opened.native("kvm_nlist of non-native vmcore")?;
        let symbol = |n_name: *const c_char, found: Found| nlist {
            n_name,
            n_type: found.kind,
            n_other: 0,
            n_desc: 0,
            // The kernel has the host's width.
            n_value: found.value as c_ulong,
        };
        // SAFETY: a caller passes an array that ends with a null or empty name.
        Ok(unsafe { look_up(handle, nl, symbol) })
    })
}

/// Looks up symbols of any kernel. Returns the number of those that were not found.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_nlist2(kd: *mut kvm_t, nl: *mut kvm_nlist) -> c_int {
    with(kd, -1, |handle| {
        let symbol = |n_name: *const c_char, found: Found| kvm_nlist {
            n_name,
            n_type: found.kind,
            n_value: found.value,
        };
        // SAFETY: a caller passes an array that ends with a null or empty name.
        Ok(unsafe { look_up(handle, nl, symbol) })
    })
}

/// Looks up the symbols of an array, whose first member is the name. Returns the number of those that
/// were not found.
///
/// # Safety
///
/// The array ends with a null or empty name.
unsafe fn look_up<T: Copy>(
    handle: &Handle,
    list: *mut T,
    symbol: impl Fn(*const c_char, Found) -> T,
) -> c_int {
    let (mut names, mut copies) = (Vec::new(), Vec::new());
    while !list.is_null() {
        let name = list.wrapping_add(names.len()).cast::<*const c_char>();
        // SAFETY: the elements before this one had names, so the array has this one.
        let name = unsafe { name.read() };
        // SAFETY: a name is a string or null.
        match unsafe { string(name) } {
            Some(text) if !text.is_empty() => {
                names.push(name);
                copies.push(text.to_owned());
            }
            _ => break,
        }
    }
    let found = handle.symbols.find(&handle.opened, &copies);
    const NOT_FOUND: Found = Found {
        kind: N_UNDF,
        value: 0,
    };
    let named = names.iter().zip(&found);
    let symbols: Vec<T> = named
        .map(|(name, found)| symbol(*name, found.unwrap_or(NOT_FOUND)))
        .collect();
    // SAFETY: the array has at least as many elements as names.
    unsafe { store(list, symbols.len(), &symbols) };
    let missing = found.iter().filter(|found| found.is_none()).count();
    c_int::try_from(missing).unwrap_or(c_int::MAX)
}

/// Reads memory. Returns the number of bytes before the first that cannot be read, or -1 if there are
/// none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_read2(
    kd: *mut kvm_t,
    kva: kvaddr_t,
    buf: *mut c_void,
    len: usize,
) -> isize {
    with(kd, -1, |handle| {
        // SAFETY: a caller passes a buffer of this length.
        unsafe { read(handle, kva, buf, len) }
    })
}

/// Reads memory, as `kvm_read2` does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_read(
    kd: *mut kvm_t,
    kva: c_ulong,
    buf: *mut c_void,
    len: usize,
) -> isize {
    // `c_ulong` has 32 bits on some hosts.
    #[allow(clippy::useless_conversion, reason = "not on all hosts")]
    let kva = kvaddr_t::from(kva);
    // SAFETY: a caller passes a buffer of this length.
    unsafe { kvm_read2(kd, kva, buf, len) }
}

/// Reads memory into `buf`, through a buffer of our own: that of the caller may be uninitialized.
///
/// # Safety
///
/// `buf` has `len` bytes.
unsafe fn read(handle: &Handle, at: u64, buf: *mut c_void, len: usize) -> Result<isize, Failure> {
    let mut done = 0;
    // No object is larger.
    let len = len.min(isize::MAX as usize);
    let mut piece = vec![0_u8; len.min(PIECE)];
    while done < len {
        let wanted = piece.len().min(len - done);
        let from = at.wrapping_add(done as u64);
        let (got, failed) = handle.opened.read(from, &mut piece[..wanted]);
        let to = buf.cast::<u8>().wrapping_add(done);
        // SAFETY: `done` is less than `len`, and at most the rest of the buffer is written.
        unsafe { store(to, len - done, &piece[..got]) };
        done += got;
        match failed {
            Some(failure) if done == 0 => return Err(failure),
            Some(failure) => {
                handle.report(&failure);
                break;
            }
            None => {}
        }
    }
    Ok(done as isize)
}

/// Fails: a dump is not modified.
#[unsafe(no_mangle)]
pub extern "C" fn kvm_write(
    kd: *mut kvm_t,
    _kva: c_ulong,
    _buf: *const c_void,
    _len: usize,
) -> isize {
    with(kd, -1, |_| {
        Err(Failure::hard("kvm_write not implemented for dead kernels"))
    })
}

/// Passes the pages of the dump to `callback` until it returns 0. Returns 1 if it never did.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_walk_pages(
    kd: *mut kvm_t,
    callback: Option<unsafe extern "C" fn(page: *mut kvm_page, closure: *mut c_void) -> c_int>,
    closure: *mut c_void,
) -> c_int {
    with(kd, 0, |handle| {
        let Some(callback) = callback else {
            return Err(Failure::hard("kvm_walk_pages: no function"));
        };
        let whole = walk::pages(&handle.opened, &mut |mut page| {
            // SAFETY: a caller passes a function of this type.
            unsafe { callback(&mut page, closure) != 0 }
        })?;
        Ok(c_int::from(whole))
    })
}

/// Returns whether the kernel has the types of this host.
#[unsafe(no_mangle)]
pub extern "C" fn kvm_native(kd: *mut kvm_t) -> c_int {
    with(kd, 0, |handle| Ok(c_int::from(handle.opened.is_native())))
}

/// Returns the displacement of the kernel from its linked addresses: not 0 on powerpc64 only.
#[unsafe(no_mangle)]
pub extern "C" fn kvm_kerndisp(kd: *mut kvm_t) -> kssize_t {
    with(kd, 0, |handle| {
        let kernel = handle.opened.kernel_if_any();
        Ok(kernel.map_or(0, |kernel| kernel.displacement() as kssize_t))
    })
}

/// Reads processes or threads. The array is valid until the next call for this dump, or until it is
/// closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_getprocs(
    kd: *mut kvm_t,
    op: c_int,
    arg: c_int,
    cnt: *mut c_int,
) -> *mut kinfo_proc {
    with(kd, std::ptr::null_mut(), |handle| {
        let found = procs::read(&handle.opened, Wanted::new(op, arg)?)?;
        let count = c_int::try_from(found.len()).unwrap_or(c_int::MAX);
        // SAFETY: a caller passes the address of a counter.
        unsafe { store(cnt, 1, &[count]) };
        Ok(handle.keep(found))
    })
}

/// Fails: a dump has no memory of user programs.
#[unsafe(no_mangle)]
pub extern "C" fn kvm_getargv(
    kd: *mut kvm_t,
    _process: *const kinfo_proc,
    _nchr: c_int,
) -> *mut *mut c_char {
    with(kd, std::ptr::null_mut(), |_| Err(no_user_space()))
}

/// Fails: a dump has no memory of user programs.
#[unsafe(no_mangle)]
pub extern "C" fn kvm_getenvv(
    kd: *mut kvm_t,
    _process: *const kinfo_proc,
    _nchr: c_int,
) -> *mut *mut c_char {
    with(kd, std::ptr::null_mut(), |_| Err(no_user_space()))
}

fn no_user_space() -> Failure {
    Failure::hard("cannot read user space from dead kernel")
}

/// Returns the number of CPUs that the kernel is compiled for.
#[unsafe(no_mangle)]
pub extern "C" fn kvm_getmaxcpu(kd: *mut kvm_t) -> c_int {
    // FreeBSD's library then forgets the number.
    if kd.is_null() {
        return 0;
    }
    with(kd, -1, |handle| {
        Ok(cpus::max(handle.opened.kernel()?)? as c_int)
    })
}

/// Returns the number of CPUs.
#[unsafe(no_mangle)]
pub extern "C" fn kvm_getncpus(kd: *mut kvm_t) -> c_int {
    with(kd, -1, |handle| {
        Ok(cpus::present(handle.opened.kernel()?)? as c_int)
    })
}

/// Returns a copy of the `struct pcpu` of a CPU, which the caller frees with free(3); null if there is
/// no such CPU, and -1 if it cannot be read.
#[unsafe(no_mangle)]
pub extern "C" fn kvm_getpcpu(kd: *mut kvm_t, cpu: c_int) -> *mut c_void {
    // FreeBSD's library then forgets the addresses.
    if kd.is_null() {
        return std::ptr::null_mut();
    }
    with(kd, std::ptr::without_provenance_mut(usize::MAX), |handle| {
        let Some(bytes) = cpus::pcpu(&handle.opened, cpu)? else {
            return Ok(std::ptr::null_mut());
        };
        // SAFETY: any size is valid.
        let copy = unsafe { libc::malloc(bytes.len()) };
        if copy.is_null() {
            return Err(Failure::hard("out of memory"));
        }
        // SAFETY: malloc(3) has returned this many bytes.
        unsafe { store(copy.cast::<u8>(), bytes.len(), &bytes) };
        Ok(copy)
    })
}

/// Selects the CPU whose DPCPU variables `kvm_nlist` returns.
#[unsafe(no_mangle)]
pub extern "C" fn kvm_dpcpu_setcpu(kd: *mut kvm_t, cpu: c_uint) -> c_int {
    with(kd, -1, |handle| {
        handle.symbols.set_cpu(&handle.opened, cpu)?;
        Ok(0)
    })
}

/// Reads a CPU's copy of memory from a per-CPU zone.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_read_zpcpu(
    kd: *mut kvm_t,
    base: c_ulong,
    buf: *mut c_void,
    size: usize,
    cpu: c_int,
) -> isize {
    #[allow(clippy::useless_conversion, reason = "not on all hosts")]
    let base = kvaddr_t::from(base);
    with(kd, -1, |handle| {
        let at = cpus::zone_address(&handle.opened, base, cpu)?;
        // SAFETY: a caller passes a buffer of this length.
        unsafe { read(handle, at, buf, size) }
    })
}

/// Returns the value of a counter(9), or 0.
#[unsafe(no_mangle)]
pub extern "C" fn kvm_counter_u64_fetch(kd: *mut kvm_t, base: c_ulong) -> u64 {
    #[allow(clippy::useless_conversion, reason = "not on all hosts")]
    let base = kvaddr_t::from(base);
    with(kd, 0, |handle| cpus::counter(&handle.opened, base))
}

/// Writes the times of all CPUs together, in ticks of the statistics clock.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_getcptime(kd: *mut kvm_t, cp_time: *mut c_long) -> c_int {
    // FreeBSD's library then forgets the address.
    if kd.is_null() {
        return 0;
    }
    with(kd, -1, |handle| {
        let times = cpus::times(&handle.opened)?;
        // SAFETY: a caller passes an array of CPUSTATES elements.
        unsafe { store(cp_time, CPUSTATES, &times) };
        Ok(0)
    })
}

/// Writes up to three load averages. Returns their number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_getloadavg(
    kd: *mut kvm_t,
    loadavg: *mut c_double,
    nelem: c_int,
) -> c_int {
    with(kd, -1, |handle| {
        let averages = system::load(&handle.opened)?;
        let count = usize::try_from(nelem).unwrap_or(0).min(averages.len());
        // SAFETY: a caller passes an array of `nelem` elements.
        unsafe { store(loadavg, count, &averages) };
        Ok(count as c_int)
    })
}

/// Writes up to `swap_max - 1` swap devices, and after them their sum. Returns the number of devices
/// written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_getswapinfo(
    kd: *mut kvm_t,
    swap_ary: *mut kvm_swap,
    swap_max: c_int,
    flags: c_int,
) -> c_int {
    // FreeBSD's library then forgets the addresses.
    if kd.is_null() {
        return 0;
    }
    with(kd, -1, |handle| {
        let mut found = system::swap(&handle.opened, flags)?;
        let space = usize::try_from(swap_max).unwrap_or(0);
        let Some(devices) = space.checked_sub(1) else {
            return Ok(-1);
        };
        let total = found.pop();
        found.truncate(devices);
        let count = found.len();
        found.extend(total);
        // SAFETY: a caller passes an array of `swap_max` elements.
        unsafe { store(swap_ary, space, &found) };
        Ok(count as c_int)
    })
}
