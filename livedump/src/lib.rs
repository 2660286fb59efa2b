//! Producers of FreeBSD kernel dumps, the machines they read, and where dumps go.

pub mod phys;

pub use phys::PhysMemory;
