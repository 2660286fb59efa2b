//! syslog(3): messages to the system's log, on FreeBSD and Linux.

/// The severity of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// `LOG_ALERT`: an operator must read it.
    Alert,
    /// `LOG_ERR`
    Error,
    /// `LOG_NOTICE`
    Notice,
}

/// Connects to the log, for a process that cannot connect later: the sandbox denies it.
pub fn open() {
    #[cfg(any(target_os = "freebsd", target_os = "linux"))]
    system::open();
}

/// Writes `message` to the log under the program's name, facility `LOG_DAEMON`. NUL bytes end it. Other
/// systems ignore it.
pub fn log(severity: Severity, message: &str) {
    #[cfg(any(target_os = "freebsd", target_os = "linux"))]
    system::log(severity, message);
    #[cfg(not(any(target_os = "freebsd", target_os = "linux")))]
    let _ = (severity, message);
}

#[cfg(any(target_os = "freebsd", target_os = "linux"))]
mod system {
    #![expect(unsafe_code, reason = "syslog(3) has no safe form")]

    use std::ffi::CString;

    use super::Severity;

    pub(super) fn open() {
        // SAFETY: the name is NUL terminated and lives as long as the process, since the C library keeps the
        // pointer.
        unsafe { libc::openlog(c"livecore".as_ptr(), libc::LOG_NDELAY, libc::LOG_DAEMON) };
    }

    pub(super) fn log(severity: Severity, message: &str) {
        let priority = match severity {
            Severity::Alert => libc::LOG_ALERT,
            Severity::Error => libc::LOG_ERR,
            Severity::Notice => libc::LOG_NOTICE,
        };
        let end = message.find('\0').unwrap_or(message.len());
        let Ok(text) = CString::new(&message[..end]) else {
            return;
        };
        let priority = priority | libc::LOG_DAEMON;
        // SAFETY: the format has one `%s`, for which `text` is a NUL terminated string that
        // outlives the call.
        unsafe { libc::syslog(priority, c"%s".as_ptr(), text.as_ptr()) };
    }
}
