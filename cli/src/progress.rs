//! Progress of long work: a bar on a terminal, a line on request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use livecore_livedump::sys::signals::{clear_line, draw_line};

use crate::interrupt::Interrupt;
use crate::work::Work;

/// Draws the progress of work, and passes on the request to stop.
pub struct Bar {
    work: Arc<Work>,
    bar: ProgressBar,
    interrupt: Interrupt,
    /// Whether the bar is to be drawn later.
    hidden: AtomicBool,
    /// The time of the next line of JSON, in milliseconds since the start.
    next_line: Option<AtomicU64>,
    /// How long the bar stays hidden.
    delay: Duration,
    /// Whether it counts stored bytes instead of content.
    counts_stored: bool,
}

/// The form of progress output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// None.
    Nothing,
    /// As a bar, if the work takes a while.
    DelayedBar,
    /// As a bar, at once.
    Bar,
    /// Lines of JSON.
    JsonLines,
}

impl Show {
    /// The same form, but no bar if `silent`.
    #[must_use]
    pub fn unless(self, silent: bool) -> Self {
        match self {
            Self::DelayedBar if silent => Self::Nothing,
            other => other,
        }
    }
}

/// Milliseconds between two lines of JSON.
const BETWEEN_LINES: u64 = 500;

/// The bar appears after this time.
const DELAY: Duration = Duration::from_millis(150);

impl Bar {
    /// A bar for `total` bytes of content, if that is known, with the prefix `label`.
    pub fn new(
        interrupt: &Interrupt,
        label: impl Into<String>,
        show: Show,
        total: Option<u64>,
    ) -> Self {
        let work = Arc::new(Work::new(label, total));
        let interrupt = interrupt.clone();
        interrupt.set_work(Some(work.clone()));
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden())
            .with_style(style(total.is_some()));
        bar.set_prefix(work.label.clone());
        Self {
            work,
            bar,
            interrupt,
            hidden: AtomicBool::new(matches!(show, Show::DelayedBar | Show::Bar)),
            delay: if show == Show::Bar {
                Duration::ZERO
            } else {
                DELAY
            },
            next_line: (show == Show::JsonLines).then(|| AtomicU64::new(BETWEEN_LINES)),
            counts_stored: false,
        }
    }

    /// Writes a line of JSON if it is due.
    fn line(&self) {
        let Some(next) = &self.next_line else { return };
        let now = self.elapsed().as_millis() as u64; // 64 bits of milliseconds are enough
        let due = next.load(Ordering::Relaxed);
        let later = now.saturating_add(BETWEEN_LINES);
        if now >= due
            && next
                .compare_exchange(due, later, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            self.work.write_json(false, &mut std::io::stderr());
        }
    }

    /// Shows the bar after its delay; short work needs none.
    fn show(&self) {
        if self.hidden.load(Ordering::Relaxed)
            && self.work.began.elapsed() >= self.delay
            && self.hidden.swap(false, Ordering::Relaxed)
        {
            draw_line(|| {
                let target = ProgressDrawTarget::stderr_with_hz(10);
                self.bar.set_draw_target(target);
            });
        }
    }

    /// Counts stored bytes instead of content; `total` is the size of the files.
    #[must_use]
    pub fn of_stored(mut self) -> Self {
        self.counts_stored = true;
        self
    }

    /// Hides the bar while `print` runs.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// Time since the work began.
    pub fn elapsed(&self) -> Duration {
        self.work.began.elapsed()
    }
}

/// Each line fits 80 columns; the bar fills the terminal's width.
fn style(bounded: bool) -> ProgressStyle {
    let template = if bounded {
        "{prefix} [{wide_bar}] {percent:>3} % {binary_bytes}, {binary_bytes_per_sec}, {eta} left"
    } else {
        "{prefix} {spinner} {binary_bytes}, {binary_bytes_per_sec}, {elapsed}"
    };
    // An invalid template only changes the appearance.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl livecore_compress::Progress for Bar {
    fn advance(&self, content: u64, stored: u64) {
        self.work.content.fetch_add(content, Ordering::Relaxed);
        self.work.stored.fetch_add(stored, Ordering::Relaxed);
        self.line();
        self.show();
        let step = if self.counts_stored { stored } else { content };
        if self.bar.is_hidden() {
            self.bar.inc(step);
        } else {
            draw_line(|| self.bar.inc(step));
        }
    }

    fn cancelled(&self) -> bool {
        self.interrupt.raised().is_some()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        clear_line(|| self.bar.finish_and_clear());
        if self.next_line.is_some() {
            self.work.write_json(true, &mut std::io::stderr());
        }
        self.interrupt.set_work(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use livecore_compress::Progress;

    #[test]
    fn status_line_counts_what_was_advanced() {
        let interrupt = Interrupt::default();
        let bar = Bar::new(&interrupt, "convert", Show::Nothing, Some(8 << 20));
        bar.advance(2 << 20, 1 << 19);
        bar.advance(2 << 20, 1 << 19);
        let line = interrupt.status();
        assert!(
            line.starts_with("convert: 4.0 MiB of 8.0 MiB (50 %), 1.0 MiB stored, "),
            "{line}"
        );
        assert!(!bar.cancelled());
        interrupt.raise(15);
        assert!(bar.cancelled());
        drop(bar);
        assert_eq!(interrupt.status(), "no progress yet");
    }
}
