//! A process that makes one system call and exits.
//!
//! MEM_KERNELDUMP cannot be interrupted: its caller blocks in the kernel until the dump is written.
//! A child process makes the call, so that its parent can exit. The child is a copy of a process
//! with threads, of which only the forking one exists: it must not allocate, lock or panic. It has
//! only the descriptors it needs, so that it keeps no pipe open, and no signal reaches it.
#![expect(unsafe_code, reason = "fork(2) and what follows it have no safe form")]

use std::ffi::CStr;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::mem_ioctl::{MemIoctl, Request};
use super::memrange::MemLivedumpArg;

/// A child started by [`kernel_dump`].
#[derive(Debug)]
pub(crate) struct Child {
    pid: libc::pid_t,
    line: UnixStream,
}

/// A name that the child removes after its work if the parent has exited.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RemoveIfOrphaned<'a> {
    /// The directory.
    pub directory: BorrowedFd<'a>,
    /// The name in it.
    pub name: &'a CStr,
}

/// Starts a child that issues MEM_KERNELDUMP on `mem`. `file` is the descriptor in `arg`.
///
/// # Errors
///
/// The system's error for the pipe or the process.
pub(crate) fn kernel_dump(
    kernel: &dyn MemIoctl,
    mem: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    arg: &MemLivedumpArg,
    orphan: Option<RemoveIfOrphaned<'_>>,
) -> io::Result<Child> {
    let (line, other_end) = UnixStream::pair()?;
    let line_fd = other_end.as_raw_fd();
    let directory = orphan.map_or(line_fd, |orphan| orphan.directory.as_raw_fd());
    let mut kept = [line_fd, mem.as_raw_fd(), file.as_raw_fd(), directory];
    kept.sort_unstable();

    // Block signals before the fork, so that no handler runs in the child.
    let before = block_all()?;
    // SAFETY: the child calls only async-signal-safe functions (setsid, close, ioctl by the promise
    // of `MemIoctl`, write, read, unlinkat, _exit) and never returns from here.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: setsid(2) takes nothing and touches no memory.
        unsafe { libc::setsid() };
        let mut from = 0;
        for fd in kept {
            close_range(from, fd - 1);
            from = from.max(fd + 1);
        }
        close_range(from, RawFd::MAX);
        let number = match kernel.issue(mem, Request::KernelDump(arg)) {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(libc::ENOTSUP),
        }
        .to_ne_bytes();
        let mut taken_over = [0_u8];
        // SAFETY: the buffer is live and has that many bytes; SIGPIPE is blocked.
        unsafe { libc::write(line_fd, number.as_ptr().cast(), number.len()) };
        // SAFETY: the buffer is live and has one byte. A parent that is gone is an end of file.
        let answered = unsafe { libc::read(line_fd, taken_over.as_mut_ptr().cast(), 1) };
        if answered != 1
            && let Some(orphan) = orphan
        {
            // SAFETY: an open directory and a NUL terminated name.
            unsafe { libc::unlinkat(orphan.directory.as_raw_fd(), orphan.name.as_ptr(), 0) };
        }
        // SAFETY: ends the process at once, without destructors or handlers.
        unsafe { libc::_exit(0) };
    }
    let error = io::Error::last_os_error();
    set_mask(&before)?;
    if pid == -1 {
        return Err(error);
    }
    Ok(Child { pid, line })
}

/// Closes the descriptors from `first` to `last`. Does not allocate or lock.
fn close_range(first: RawFd, last: RawFd) {
    let (Ok(from), Ok(to)) = (libc::c_uint::try_from(first), libc::c_uint::try_from(last)) else {
        return;
    };
    if from > to {
        return;
    }
    // The binding of musl has no function for this call.
    #[cfg(target_os = "linux")]
    // SAFETY: in the child nothing uses these descriptors any more.
    let result = unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
    #[cfg(target_os = "freebsd")]
    // SAFETY: as above.
    let result = unsafe { libc::close_range(from, to, 0) };
    #[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
    let result = -1;
    if result == 0 {
        return;
    }
    // The system lacks the call: close as many as a process usually may open.
    for fd in first..=last.min(1 << 16) {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
}

impl Child {
    /// Waits until the child has done its work. `Ok(Err(..))` is the error of the system call; the
    /// outer error means that the child died.
    ///
    /// # Errors
    ///
    /// The system's error for the process. What the kernel answered is the inner result.
    pub(crate) fn wait(mut self) -> io::Result<io::Result<()>> {
        let mut number = [0; 4];
        let result = self
            .line
            .set_read_timeout(None)
            .and_then(|()| self.line.read_exact(&mut number));
        // The parent owns the name again. A child that died does not read this.
        let _ = self.line.write_all(&[1]);
        let status = self.reap();
        if let Err(error) = result {
            return Err(match (error.kind(), status) {
                (io::ErrorKind::UnexpectedEof, Ok(status)) if libc::WIFSIGNALED(status) => {
                    let signal = libc::WTERMSIG(status);
                    io::Error::other(format!("the dumping process was killed by signal {signal}"))
                }
                (io::ErrorKind::UnexpectedEof, _) => {
                    io::Error::other("the dumping process exited unexpectedly")
                }
                _ => error,
            });
        }
        Ok(match i32::from_ne_bytes(number) {
            0 => Ok(()),
            number => Err(io::Error::from_raw_os_error(number)),
        })
    }

    /// Waits until the process has exited, and returns its status.
    fn reap(&self) -> io::Result<libc::c_int> {
        loop {
            let mut status = 0;
            // SAFETY: `pid` is a child of this process that nothing else waits for, and `status` a
            // live integer.
            if unsafe { libc::waitpid(self.pid, &raw mut status, 0) } == self.pid {
                return Ok(status);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// Whether the child has done its work, after waiting at most `timeout`.
    ///
    /// # Errors
    ///
    /// The system's error for the process.
    pub(crate) fn is_done(&self, timeout: Duration) -> io::Result<bool> {
        self.line.set_read_timeout(Some(timeout))?;
        let mut byte = MaybeUninit::<u8>::uninit();
        // SAFETY: `byte` is live and has one byte; MSG_PEEK leaves what is read where it is.
        let n = unsafe {
            libc::recv(
                self.line.as_raw_fd(),
                byte.as_mut_ptr().cast(),
                1,
                libc::MSG_PEEK,
            )
        };
        let error = io::Error::last_os_error();
        self.line.set_read_timeout(None)?;
        if n >= 0 {
            return Ok(true);
        }
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {
                Ok(false)
            }
            _ => Err(error),
        }
    }
}

fn block_all() -> io::Result<libc::sigset_t> {
    // SAFETY: a signal set is plain bits, and sigfillset sets all that mean anything.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `all` is a live signal set.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: as above; it is filled by the call below.
    let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: both are live signal sets; the call changes this thread's mask alone.
    let rc = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    match rc {
        0 => Ok(before),
        rc => Err(io::Error::from_raw_os_error(rc)),
    }
}

fn set_mask(mask: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `mask` is a live signal set; a null pointer asks for nothing back.
    let rc = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
    match rc {
        0 => Ok(()),
        rc => Err(io::Error::from_raw_os_error(rc)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    /// A kernel that writes a few bytes and returns this error; -1 kills the caller.
    struct Fake(File, i32);

    impl MemIoctl for Fake {
        fn issue(&self, _mem: BorrowedFd<'_>, request: Request<'_>) -> io::Result<()> {
            if self.1 < 0 {
                let own = rustix::process::getpid();
                let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
            }
            let Request::KernelDump(_) = request else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            self.0.write_at(b"from the child", 0)?;
            match self.1 {
                0 => Ok(()),
                number => Err(io::Error::from_raw_os_error(number)),
            }
        }
    }

    fn child(fake: &Fake, orphan: Option<RemoveIfOrphaned<'_>>) -> Child {
        let (mem, file) = (fake.0.as_fd(), fake.0.as_fd());
        kernel_dump(fake, mem, file, &MemLivedumpArg::default(), orphan).unwrap()
    }

    #[test]
    fn child_issues_the_request_and_returns_its_error() {
        let fake = Fake(tempfile::tempfile().unwrap(), 0);
        let running = child(&fake, None);
        while !running.is_done(Duration::from_millis(50)).unwrap() {}
        running.wait().unwrap().unwrap();
        let mut written = [0; 14];
        fake.0.read_exact_at(&mut written, 0).unwrap();
        assert_eq!(&written, b"from the child");
        let fake = Fake(tempfile::tempfile().unwrap(), libc::EBUSY);
        let error = child(&fake, None).wait().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    }

    #[test]
    fn child_closes_all_other_descriptors() {
        // The child's copy of the write end would keep the pipe open.
        let (mut from, to) = io::pipe().unwrap();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let wanted = 5000;
        if limit.current.is_some_and(|current| current <= wanted) {
            let raised = rustix::process::Rlimit {
                current: limit.maximum,
                ..limit
            };
            let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised);
        }
        // SAFETY: fcntl(2) takes any numbers, and F_DUPFD_CLOEXEC no pointer.
        let high =
            unsafe { libc::fcntl(to.as_raw_fd(), libc::F_DUPFD_CLOEXEC, wanted as libc::c_int) };
        if high == -1 {
            // The limit cannot be raised.
            return;
        }
        let (listen, mut release) = io::pipe().unwrap();
        let blocked = Blocked(listen);
        let file = tempfile::tempfile().unwrap();
        let arg = MemLivedumpArg::default();
        let running = kernel_dump(&blocked, blocked.0.as_fd(), file.as_fd(), &arg, None).unwrap();
        drop(to);
        // SAFETY: the descriptor was made above and nothing else uses it.
        unsafe { libc::close(high) };
        // The write end is closed while the child still works.
        assert_eq!(from.read(&mut [0]).unwrap(), 0);
        release.write_all(b"x").unwrap();
        running.wait().unwrap().unwrap();
    }

    /// A kernel that blocks until it gets a byte.
    struct Blocked(io::PipeReader);

    impl MemIoctl for Blocked {
        fn issue(&self, _mem: BorrowedFd<'_>, _: Request<'_>) -> io::Result<()> {
            (&self.0).read_exact(&mut [0])
        }
    }

    #[test]
    fn slow_child_is_awaited_after_is_done() {
        let (listen, mut release) = io::pipe().unwrap();
        let blocked = Blocked(listen);
        let file = tempfile::tempfile().unwrap();
        let arg = MemLivedumpArg::default();
        let running = kernel_dump(&blocked, blocked.0.as_fd(), file.as_fd(), &arg, None).unwrap();
        assert!(!running.is_done(Duration::from_millis(1)).unwrap());
        assert_eq!(running.line.read_timeout().unwrap(), None);
        release.write_all(b"x").unwrap();
        running.wait().unwrap().unwrap();
    }

    #[test]
    fn dead_child_is_an_error() {
        let fake = Fake(tempfile::tempfile().unwrap(), -1);
        let error = child(&fake, None).wait().unwrap_err();
        assert!(error.to_string().contains("signal 9"), "{error}");
    }

    #[test]
    fn orphaned_child_removes_the_name() {
        let dir = tempfile::tempdir().unwrap();
        let directory = File::open(dir.path()).unwrap();
        let fake = Fake(File::create_new(dir.path().join("spool")).unwrap(), 0);
        let orphan = RemoveIfOrphaned {
            directory: directory.as_fd(),
            name: c"spool",
        };
        // A parent that exited has closed its end of the pipe.
        drop(child(&fake, Some(orphan)));
        for _ in 0..500 {
            if !dir.path().join("spool").exists() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the name still exists");
    }
}
