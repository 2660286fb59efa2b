//! Room in a pipe.

use std::os::fd::AsFd;

/// What a pipe is asked to hold: a frame of the default size, and as much as Linux grants to
/// everybody (`/proc/sys/fs/pipe-max-size`).
#[cfg(target_os = "linux")]
const ROOM: usize = 1 << 20;

/// Makes `fd` hold a frame, if it is a pipe and the system has a say in that (Linux's
/// `F_SETPIPE_SZ`; the 64 KiB that a pipe begins with mean 16 turns of writer and reader for
/// each frame). Anything else, and a pipe that is larger, is left as it is.
pub fn widen(fd: impl AsFd) {
    #[cfg(target_os = "linux")]
    {
        use rustix::pipe::{fcntl_getpipe_size, fcntl_setpipe_size};
        if fcntl_getpipe_size(&fd).is_ok_and(|room| room < ROOM) {
            // A user who has too many large pipes gets a small one.
            let _ = fcntl_setpipe_size(&fd, ROOM);
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
    fn a_widened_pipe_takes_a_frame_that_nobody_reads() {
        let (from, mut to) = std::io::pipe().unwrap();
        widen(&to);
        to.write_all(&vec![1; ROOM]).unwrap();
        drop(from);
        assert!(to.write_all(&[1]).is_err());
    }

    #[test]
    fn what_is_no_pipe_is_left_alone() {
        let file = tempfile::tempfile().unwrap();
        widen(&file);
        assert_eq!(file.metadata().unwrap().len(), 0);
    }
}
