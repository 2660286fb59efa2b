//! A request to stop, and the question how far the work is.

use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::work::Work;

/// A request to stop, and what is being done meanwhile. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// 0 for none.
    signal: AtomicI32,
    work: Mutex<Option<Arc<Work>>>,
}

impl Interrupt {
    /// Asks for the work to stop as if signal `number` had come.
    pub fn raise(&self, number: i32) {
        self.0.signal.store(number, Ordering::Relaxed);
    }

    /// The signal that asked for the work to stop.
    pub fn raised(&self) -> Option<i32> {
        match self.0.signal.load(Ordering::Relaxed) {
            0 => None,
            number => Some(number),
        }
    }

    /// Says what is being done from now on, for those who ask.
    pub(crate) fn set_work(&self, work: Option<Arc<Work>>) {
        *self.0.work.lock().unwrap_or_else(PoisonError::into_inner) = work;
    }

    /// One line of how far the work is.
    pub fn status(&self) -> String {
        match &*self.0.work.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(work) => work.to_string(),
            None => "nothing to count yet".into(),
        }
    }
}
