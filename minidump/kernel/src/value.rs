//! Variables of the kernel as Rust's integers.

use crate::error::KernelError;
use crate::kernel::Kernel;

/// An integer that a kernel's variable can be.
pub trait Value: Copy {
    /// Bytes in memory: 1, 2, 4 or 8.
    const SIZE: usize;

    /// The value whose low [`Value::SIZE`] bytes these are.
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
    /// The value of the variable `name`.
    ///
    /// # Errors
    ///
    /// [`KernelError::NoSymbol`] if the kernel's file does not name it, else
    /// [`KernelError::Unreadable`].
    pub fn read_value<T: Value>(&self, name: &str) -> Result<T, KernelError> {
        Ok(T::from_bits(self.variable(name, T::SIZE)?))
    }
}
