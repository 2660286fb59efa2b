//! How far long work is: a bar for those who watch, a line for those who ask.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::interrupt::Interrupt;
use crate::text::Short;
use crate::work::Work;

/// Hears of progress, draws it if somebody watches, and passes on the request to stop.
pub struct Bar {
    work: Arc<Work>,
    bar: ProgressBar,
    interrupt: Interrupt,
}

impl Bar {
    /// Work called `label` over `total` bytes of content, if that is known.
    pub fn new(
        interrupt: &Interrupt,
        label: impl Into<String>,
        drawn: bool,
        total: Option<u64>,
    ) -> Self {
        let work = Arc::new(Work::new(label, total));
        let interrupt = interrupt.clone();
        interrupt.set_work(Some(work.clone()));
        let target = if drawn {
            ProgressDrawTarget::stderr_with_hz(10)
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(total, target).with_style(style(total.is_some()));
        bar.set_prefix(work.label.clone());
        Self {
            work,
            bar,
            interrupt,
        }
    }

    /// Seconds since the work began.
    pub fn elapsed(&self) -> Duration {
        self.work.began.elapsed()
    }
}

fn style(bounded: bool) -> ProgressStyle {
    let template = if bounded {
        "{prefix} [{bar:30}] {percent:>3} % {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left {msg}"
    } else {
        "{prefix} {spinner} {binary_bytes}, {binary_bytes_per_sec}, {elapsed} {msg}"
    };
    // A template that does not parse costs the look, not the work.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

impl livecore_compress::Progress for Bar {
    fn advance(&self, content: u64, stored: u64) {
        self.work.content.fetch_add(content, Ordering::Relaxed);
        let before = self.work.stored.fetch_add(stored, Ordering::Relaxed);
        self.bar.inc(content);
        if stored > 0 {
            self.bar
                .set_message(format!("({} stored)", Short(before + stored)));
        }
    }

    fn cancelled(&self) -> bool {
        self.interrupt.raised().is_some()
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
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
        let bar = Bar::new(&interrupt, "convert", false, Some(8 << 20));
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
        assert_eq!(interrupt.status(), "nothing to count yet");
    }
}
