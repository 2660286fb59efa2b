//! A restart point whose state will be stored when the pass is a window further: only then is it known
//! which content of the state is needed.

use std::fs::File;
use std::sync::Arc;

use super::point::Point;
use super::restarts::Restarts;
use crate::Error;
use crate::decode::StreamPosition;
use crate::restart::followed::Followed;
use crate::restart::zstd::prune;

/// A restart point.
pub(super) struct Unstored {
    place: StreamPosition,
    /// The decoder's state.
    state: Vec<u8>,
    /// The file for it.
    file: Arc<File>,
}

impl Unstored {
    /// A restart point with a state that ends with the content before it.
    pub(super) fn new(place: StreamPosition, state: Vec<u8>, file: Arc<File>) -> Self {
        Self { place, state, file }
    }

    /// Whether no block refers to content before the point, when the pass has returned `made` bytes.
    pub(super) fn is_complete(&self, made: u64) -> bool {
        made.saturating_sub(self.place.content) >= self.place.window.unwrap_or(0)
    }

    /// Stores the state, without content to which none of the blocks refers. Returns its memory too.
    pub(super) fn store(
        mut self,
        restarts: &Restarts,
        followed: Option<Followed>,
    ) -> (Vec<u8>, Result<Option<Point>, Error>) {
        if let Some(followed) = followed {
            // At most WINDOW_MAX.
            let window = self.place.window.unwrap_or(0) as usize;
            prune(&followed, &mut self.state, window);
        }
        let point = restarts.store(self.place, &self.state, &self.file);
        (self.state, point)
    }
}
