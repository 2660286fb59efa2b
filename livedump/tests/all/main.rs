//! The integration tests of this crate, in one binary to link only once.

mod bank;
mod common;
mod dumped;
mod example;
mod guest;
mod guest_ports;
mod hole;
mod hostile;
mod live;
mod mem4;
mod partial;
mod publish;
mod run;
mod take;
mod threads;
