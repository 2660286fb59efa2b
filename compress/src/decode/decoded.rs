//! The result of a decoder's step.

/// The result of decoding some bytes.
pub(crate) struct Decoded {
    /// Number of stored bytes consumed.
    pub(crate) used: usize,
    /// Number of content bytes produced.
    pub(crate) made: usize,
    /// Whether the frame has ended, or why it does not decode.
    pub(crate) ended: Result<bool, String>,
}
