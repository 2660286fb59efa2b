//! sysctl(3) values of a running FreeBSD.

use std::io;

/// The value of a string sysctl: `kern.bootfile`.
///
/// # Errors
///
/// The system's error, or [`io::ErrorKind::InvalidData`] if the value is not text.
pub fn string(name: &str) -> io::Result<String> {
    let mut bytes = raw(name)?;
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    String::from_utf8(bytes).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("sysctl {name} is not a string"),
        )
    })
}

/// The value of an integer sysctl of 4 or 8 bytes: `vm.stats.vm.v_wire_count`.
///
/// # Errors
///
/// The system's error, or [`io::ErrorKind::InvalidData`] if the value is not a number.
pub fn number(name: &str) -> io::Result<u64> {
    let bytes = raw(name)?;
    match bytes.as_slice() {
        [a, b, c, d] => Ok(u32::from_ne_bytes([*a, *b, *c, *d]).into()),
        eight => eight.try_into().map(u64::from_ne_bytes).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "sysctl {name}: found {} bytes, expected 4 or 8",
                    eight.len()
                ),
            )
        }),
    }
}

#[cfg(target_os = "freebsd")]
fn raw(name: &str) -> io::Result<Vec<u8>> {
    freebsd::raw(name)
}

#[cfg(not(target_os = "freebsd"))]
fn raw(name: &str) -> io::Result<Vec<u8>> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        format!("sysctl {name} needs FreeBSD"),
    ))
}

#[cfg(target_os = "freebsd")]
mod freebsd {
    #![expect(unsafe_code, reason = "sysctlbyname(3) has no safe form")]

    use std::ffi::CString;
    use std::io;

    /// The longest value that is read.
    const LIMIT: usize = 4096;

    pub(super) fn raw(name: &str) -> io::Result<Vec<u8>> {
        let name = CString::new(name)?;
        let mut value = vec![0_u8; LIMIT];
        let mut len = value.len();
        // SAFETY: the name is NUL terminated, `value` has `len` bytes, of which the call sets how
        // many it filled; a null new value changes nothing.
        let rc = unsafe {
            libc::sysctlbyname(
                name.as_ptr(),
                value.as_mut_ptr().cast(),
                &raw mut len,
                std::ptr::null(),
                0,
            )
        };
        if rc != 0 {
            return Err(io::Error::last_os_error());
        }
        value.truncate(len);
        Ok(value)
    }
}
