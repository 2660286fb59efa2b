//! Deliberate damage: bytes changed, cut off or appended after layout.

use super::cursor::Names;
use super::error::{BuildError, Result};
use super::recipe::{Change, Recipe, Stage};

/// Applies the edits of one stage in recipe order.
pub(crate) fn apply(
    recipe: &Recipe,
    stage: Stage,
    names: &Names,
    bytes: &mut Vec<u8>,
) -> Result<()> {
    for edit in recipe.edits.iter().filter(|edit| edit.stage == stage) {
        let line = edit.line;
        let inside = |at: u64, len: usize, end: usize| {
            let first = usize::try_from(at).unwrap_or(usize::MAX);
            match first.checked_add(len).filter(|last| *last <= end) {
                Some(last) => Ok(first..last),
                None => Err(BuildError::Value {
                    line,
                    what: "offset",
                    found: at,
                    expected: format!("{len:#x} bytes inside {end:#x}"),
                }),
            }
        };
        match &edit.change {
            Change::Patch(at, content) => {
                let at = at.value(line, names)?;
                let patch = content.bytes(at, recipe.big(), names)?;
                let range = inside(at, patch.len(), bytes.len())?;
                bytes[range].copy_from_slice(&patch);
            }
            Change::Flip(at, bit) => {
                let range = inside(at.value(line, names)?, 1, bytes.len())?;
                bytes[range.start] ^= 1 << bit;
            }
            Change::Truncate(at) => {
                let range = inside(at.value(line, names)?, 0, bytes.len())?;
                bytes.truncate(range.start);
            }
            Change::Append(content) => {
                let at = bytes.len() as u64;
                bytes.extend(content.bytes(at, recipe.big(), names)?);
            }
        }
    }
    Ok(())
}
