//! Producers of FreeBSD kernel dumps, the machines they read, and where dumps go.

pub mod phys;
pub mod place;
pub mod sys;

pub use phys::PhysMemory;
