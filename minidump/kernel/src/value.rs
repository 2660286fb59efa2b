//! Reads kernel variables as Rust integers.

use crate::error::KernelError;
use crate::kernel::Kernel;

/// An integer type of a kernel variable.
pub trait Value: Copy {
    /// The size in bytes: 1, 2, 4 or 8.
    const SIZE: usize;

    /// Converts the low [`Value::SIZE`] bytes of `bits`.
    fn from_bits(bits: u64) -> Self;
}

macro_rules! values {
    ($($name:ty),*) => {
        $(impl Value for $name {
            const SIZE: usize = size_of::<Self>();

            fn from_bits(bits: u64) -> Self {
                bits as Self // the low bytes
            }
        })*
    };
}

values!(u8, i8, u16, i16, u32, i32, u64, i64);

impl Kernel<'_> {
    /// Reads the variable `name`.
    ///
    /// # Errors
    ///
    /// Returns [`KernelError::NoSymbol`] if the kernel file has no such variable and
    /// [`KernelError::Unreadable`] if the memory cannot be read.
    pub fn read_value<T: Value>(&self, name: &str) -> Result<T, KernelError> {
        Ok(T::from_bits(self.variable(name, T::SIZE)?))
    }
}
