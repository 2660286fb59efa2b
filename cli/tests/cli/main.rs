//! Tests of the program as scripts and people meet it: its command line, output, files, exit codes.

mod compare;
mod damage;
mod debuggers;
mod debuggers_real;
mod every_kind;
mod grid;
mod guest;
mod guests;
mod guests_false;
mod guests_i386;
mod harness;
mod images;
mod kinds;
mod machine;
mod mem;
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
