//! mem(4) over an emulated machine: each promise and each error of the manual, by name.

mod dump;
mod fixture;
mod process;
mod ranges;
mod transfer;
