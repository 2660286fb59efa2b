//! Producers of FreeBSD kernel dumps, the machines they read, and where dumps go.

pub mod image;
pub mod mem4;
pub mod publish;
pub mod qmp;
pub mod sys;
pub mod take;
pub mod torn;
