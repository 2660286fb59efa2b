//! Tests of the program as scripts and people meet it: its command line, output, files, exit codes.

mod harness;
mod usage;
