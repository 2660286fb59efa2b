//! Tests of the program as scripts and people meet it: its command line, output, files, exit codes.

mod compare;
mod damage;
mod grid;
mod harness;
mod machine;
mod mem;
mod ports;
mod real;
mod schema;
mod stops;
mod usage;
