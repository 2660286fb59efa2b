//! The progress of work.

use std::fmt;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

use crate::text::Short;

/// The progress of work.
#[derive(Debug)]
pub(crate) struct Work {
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

/// A line of `--progress json`; docs/schemas/progress.schema.json.
#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    work: &'a str,
    done: bool,
    bytes: u64,
    total: Option<u64>,
    stored: u64,
    seconds: f64,
    bytes_per_second: u64,
    seconds_left: Option<f64>,
}

impl Work {
    /// Writes how far the work is as a line of JSON. A line that cannot be written is dropped.
    pub(crate) fn write_json(&self, done: bool, out: &mut dyn Write) {
        let bytes = self.content.load(Ordering::Relaxed);
        let seconds = self.began.elapsed().as_secs_f64();
        let rate = bytes as f64 / seconds.max(0.001);
        let left = self.total.map(|total| total.saturating_sub(bytes));
        let tenths = |seconds: f64| (seconds * 10.0).round() / 10.0;
        let line = Line {
            schema: crate::json::SCHEMA,
            work: &self.label,
            done,
            bytes,
            total: self.total,
            stored: self.stored.load(Ordering::Relaxed),
            seconds: tenths(seconds),
            bytes_per_second: rate as u64,
            seconds_left: left
                .filter(|_| rate >= 1.0)
                .map(|left| tenths(left as f64 / rate)),
        };
        if let Ok(mut text) = serde_json::to_string(&line) {
            text.push('\n');
            let _ = out.write_all(text.as_bytes());
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
