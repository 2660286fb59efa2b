//! The capacity of pipes.

use std::os::fd::AsFd;

/// The requested capacity: a frame of the default size, and the limit for unprivileged users on
/// Linux (`/proc/sys/fs/pipe-max-size`).
#[cfg(target_os = "linux")]
const CAPACITY: usize = 1 << 20;

/// Increases the capacity of `fd` to a frame, if it is a pipe and the system supports this (Linux's
/// `F_SETPIPE_SZ`; with the default of 64 KiB, writer and reader alternate 16 times for each
/// frame). Does nothing otherwise, or if the pipe is larger.
pub fn widen(fd: impl AsFd) {
    #[cfg(target_os = "linux")]
    {
        use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};
        if fcntl_getpipe_size(&fd).is_ok_and(|size| size < CAPACITY) {
            // This fails for a user with too many large pipes.
            let _ = fcntl_setpipe_size(&fd, CAPACITY);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = fd;
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn widened_pipe_buffers_a_frame() {
        let (from, mut to) = std::io::pipe().unwrap();
        widen(&to);
        to.write_all(&vec![1; CAPACITY]).unwrap();
        drop(from);
        assert!(to.write_all(&[1]).is_err());
    }

    #[test]
    fn other_files_are_not_changed() {
        let file = tempfile::tempfile().unwrap();
        widen(&file);
        assert_eq!(file.metadata().unwrap().len(), 0);
    }
}
