//! How far long work is: a bar for those who watch, a line for those who ask.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::session::Session;
use crate::signals::Interrupt;
use crate::text::Short;

/// A piece of work and how far it is.
#[derive(Debug)]
pub struct Work {
    label: String,
    total: Option<u64>,
    content: AtomicU64,
    stored: AtomicU64,
    began: Instant,
}

impl Work {
    fn new(label: impl Into<String>, total: Option<u64>) -> Self {
        Self {
            label: label.into(),
            total,
            content: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            began: Instant::now(),
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = self.content.load(Ordering::Relaxed);
        let stored = self.stored.load(Ordering::Relaxed);
        let seconds = self.began.elapsed().as_secs_f64();
        write!(f, "{}: {}", self.label, Short(content))?;
        if let Some(total) = self.total.filter(|t| *t > 0) {
            let share = content.min(total) as f64 * 100.0 / total as f64;
            write!(f, " of {} ({share:.0} %)", Short(total))?;
        }
        if stored > 0 {
            write!(f, ", {} stored", Short(stored))?;
        }
        write!(f, ", {seconds:.1} s")?;
        if seconds > 0.0 {
            let rate = content as f64 / seconds;
            write!(f, ", {}/s", Short(rate as u64))?;
        }
        Ok(())
    }
}

/// Hears of progress, draws it if somebody watches, and passes on the request to stop.
pub struct Bar {
    work: Arc<Work>,
    bar: ProgressBar,
    interrupt: Interrupt,
}

impl Bar {
    /// Work called `label` over `total` bytes of content, if that is known. Nothing is drawn if it
    /// is to be `silent`, nor unless `session` draws.
    pub fn new(
        session: &Session<'_>,
        label: impl Into<String>,
        silent: bool,
        total: Option<u64>,
    ) -> Self {
        let drawn = session.draws() && !silent;
        Self::drawn(&session.env.interrupt, label, drawn, total)
    }

    /// The same where there is no session at hand: drawn if that is said.
    pub fn drawn(
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

    /// An estimate of how far the work is: `done` of about `total` bytes, 0 if that is not known.
    pub fn reach(&self, done: u64, total: u64) {
        self.work.content.store(done, Ordering::Relaxed);
        if total > 0 {
            self.bar.set_length(total.max(done));
        }
        self.bar.set_position(done);
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
    use crate::env::Env;
    use livecore_compress::Progress;

    #[test]
    fn status_line_counts_what_was_advanced() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let env = Env::detached();
        let interrupt = env.interrupt.clone();
        let session = Session::new(&mut out, &mut err, env, false);
        let bar = Bar::new(&session, "convert", false, Some(8 << 20));
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
        drop(session);
        assert_eq!(interrupt.status(), "nothing to count yet");
        assert!(err.is_empty(), "no bar where nobody watches");
    }
}
