//! The access mode of a device.

/// The access mode of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
}

impl Access {
    /// Neither: only for requests.
    pub const NONE: Self = Self {
        read: false,
        write: false,
    };
    /// Reading only.
    pub const READ: Self = Self {
        read: true,
        write: false,
    };
    /// Reading and writing.
    pub const READ_WRITE: Self = Self {
        read: true,
        write: true,
    };
}
