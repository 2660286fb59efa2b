//! What `monitor verify` runs.

/// How much `monitor verify` checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Header and sections.
    Quick,
    /// What `livecore verify` checks.
    Default,
    /// Pages and kernel structures as well.
    Deep,
}

/// Checks the dump and reports in text, or says why it could not.
pub type Check = Box<dyn Fn(Depth) -> Result<String, String> + Send + Sync>;
