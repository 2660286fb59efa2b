//! Draws how far a run is, and says what it finds.

use std::path::Path;

use livecore_compress::Progress;
use livecore_livedump::take::{Observer, Stage};

use crate::interrupt::Interrupt;
use crate::progress::{Bar, Show};
use crate::session::Voice;

/// Hears of a run, for whoever runs the program.
pub(super) struct Listener<'a, 'v> {
    /// The name under which people know the machine.
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

    fn say(&mut self, note: &str) {
        let name = self.name.display();
        self.voice.say(format_args!("{name}: {note}"));
    }
}
