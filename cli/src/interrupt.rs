//! A request to stop, and the progress of the current work.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::work::Work;

/// A request to stop, and the current work. Clones share both.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// 0 if no signal was raised.
    signal: Arc<AtomicUsize>,
    work: Mutex<Option<Arc<Work>>>,
}

impl Interrupt {
    /// Requests a stop, as signal `number` does.
    pub fn raise(&self, number: i32) {
        // Numbers of signals are positive.
        let number = usize::try_from(number).unwrap_or(0);
        self.0.signal.store(number, Ordering::Relaxed);
    }

    /// The signal that requested a stop.
    pub fn raised(&self) -> Option<i32> {
        match self.0.signal.load(Ordering::Relaxed) {
            0 => None,
            number => i32::try_from(number).ok(),
        }
    }

    /// The number of the signal, for a handler.
    pub(crate) fn signal(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.0.signal)
    }

    /// Sets the current work.
    pub(crate) fn set_work(&self, work: Option<Arc<Work>>) {
        *self.0.work.lock().unwrap_or_else(PoisonError::into_inner) = work;
    }

    /// The progress of the current work as one line.
    pub fn status(&self) -> String {
        match &*self.0.work.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(work) => work.to_string(),
            None => "no progress yet".into(),
        }
    }
}
