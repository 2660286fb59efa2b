//! Physical address, virtual address and frame number: three types that do not mix.

use std::fmt;

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// The address `bytes` further on, unless that does not exist.
            pub fn checked_add(self, bytes: u64) -> Option<Self> {
                self.0.checked_add(bytes).map(Self)
            }

            /// The start of the block of `size` bytes (a power of two) that holds this address.
            pub fn align_down(self, size: u64) -> Self {
                Self(self.0 & !(size - 1))
            }

            /// How far into its block of `size` bytes (a power of two) this address lies.
            pub fn offset_in(self, size: u64) -> u64 {
                self.0 & (size - 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

address! {
    /// A physical address of the dumped machine (`vm_paddr_t`).
    PhysAddr
}

address! {
    /// A kernel virtual address of the dumped machine (`vm_offset_t`).
    VirtAddr
}
