//! Names of files in the directory of an emulated machine (`livecore synth --out`).

/// The description of the machine: architecture, file names, RAM ranges.
pub const LAYOUT_FILE: &str = "machine.json";

/// The memory range attributes set by `livecore mem ranges`.
pub const RANGES_FILE: &str = "memory-ranges.json";
