//! File names in the directory of an emulated machine, as `livecore synth --out` writes it.

/// The machine's description: architecture, file names, the ranges that are RAM.
pub const LAYOUT_FILE: &str = "machine.json";

/// The memory range attributes that `livecore mem ranges` has set.
pub const RANGES_FILE: &str = "memory-ranges.json";
