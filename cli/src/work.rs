//! A piece of work and how far it is.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::text::Short;

/// A piece of work and how far it is.
#[derive(Debug)]
pub struct Work {
    pub(crate) label: String,
    total: Option<u64>,
    pub(crate) content: AtomicU64,
    pub(crate) stored: AtomicU64,
    pub(crate) began: Instant,
}

impl Work {
    pub(crate) fn new(label: impl Into<String>, total: Option<u64>) -> Self {
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
