//! Restart points: offsets at which the decoding of a foreign stream can be resumed.

pub(crate) mod deflate;
pub(crate) mod followed;
mod fse;
mod sequences;
#[cfg(test)]
mod tests;
pub(crate) mod zstd;
