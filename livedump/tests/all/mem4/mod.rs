//! mem(4) of an emulated machine: each guarantee and each error of the manual.

mod dump;
mod fixture;
mod process;
mod ranges;
mod transfer;
