//! Draws the progress of `take` and prints its notes.

use std::path::Path;

use livecore_compress::Progress;
use livecore_livedump::take::{Note, Observer, Stage};

use crate::id::Id;
use crate::interrupt::Interrupt;
use crate::progress::{Bar, Show};
use crate::session::Voice;

/// Draws progress bars and prints notes.
pub(super) struct Listener<'a, 'v> {
    /// The name of the machine in messages.
    pub(super) name: &'a Path,
    pub(super) voice: &'a Voice<'v>,
    pub(super) interrupt: &'a Interrupt,
    pub(super) show: Show,
}

impl Observer for Listener<'_, '_> {
    fn begin(&mut self, stage: Stage, total: Option<u64>) -> Box<dyn Progress> {
        let bar = Bar::new(self.interrupt, stage.name(), self.show, total);
        Box::new(bar)
    }

    fn say(&mut self, note: &Note) {
        let name = self.name.display();
        self.voice
            .say(Id::of_note(note), format_args!("{name}: {note}"));
    }
}
