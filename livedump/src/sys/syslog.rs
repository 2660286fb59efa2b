//! syslog(3): messages to the system's log, on FreeBSD only.

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

/// Writes `message` to the log under the program's name, facility `LOG_DAEMON`. NUL bytes end it. Other
/// systems ignore it.
pub fn log(severity: Severity, message: &str) {
    #[cfg(target_os = "freebsd")]
    freebsd::log(severity, message);
    #[cfg(not(target_os = "freebsd"))]
    let _ = (severity, message);
}

#[cfg(target_os = "freebsd")]
mod freebsd {
    #![expect(unsafe_code, reason = "syslog(3) has no safe form")]

    use std::ffi::CString;

    use super::Severity;

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
