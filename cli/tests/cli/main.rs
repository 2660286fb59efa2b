//! Tests of the program as scripts and people meet it: its command line, output, files, exit codes.

mod compare;
mod damage;
mod debuggers;
mod debuggers_core;
mod debuggers_hostile;
mod debuggers_real;
mod displaced;
mod every_kind;

mod foreign;
mod grid;
mod guest;
mod guests;
mod guests_amd64;
mod guests_false;
mod guests_i386;
mod habits;
mod harness;
mod images;
mod kinds;
mod law;
mod machine;
mod mem;
mod memory;
mod names;
mod ports;
mod real;
mod salvage;
mod schema;
mod serve;
mod served;
mod stops;
mod threads;
mod usage;
mod validators;
mod verify;
