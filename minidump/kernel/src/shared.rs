//! A borrowed or reference-counted value.

use std::ops::Deref;
use std::sync::Arc;

/// A borrowed or reference-counted value.
#[derive(Debug)]
pub enum Shared<'a, T> {
    /// Borrowed.
    Borrowed(&'a T),
    /// Reference-counted.
    Counted(Arc<T>),
}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        match self {
            Self::Borrowed(value) => Self::Borrowed(value),
            Self::Counted(value) => Self::Counted(Arc::clone(value)),
        }
    }
}

impl<T> Deref for Shared<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Borrowed(value) => value,
            Self::Counted(value) => value,
        }
    }
}

impl<'a, T> From<&'a T> for Shared<'a, T> {
    fn from(value: &'a T) -> Self {
        Self::Borrowed(value)
    }
}

impl<T> From<Arc<T>> for Shared<'_, T> {
    fn from(value: Arc<T>) -> Self {
        Self::Counted(value)
    }
}
