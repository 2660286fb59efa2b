//! The check that `monitor verify` runs.

/// The depth of `monitor verify`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Headers, sizes and the seal.
    Quick,
    /// The default depth of `livecore verify`.
    Default,
    /// Page tables and kernel lists too.
    Deep,
}

/// Checks the dump and returns the report as text, or the reason why it could not be checked.
pub type Check = Box<dyn Fn(Depth) -> Result<String, String> + Send + Sync>;
