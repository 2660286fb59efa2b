//! The open dump that a `Dump` and the objects that it returned share.

use std::sync::{Arc, PoisonError, RwLock};

use pyo3::prelude::*;

use crate::detached::detached;
use crate::failure::Failure;
use crate::opened::Opened;

/// An open dump, which may be closed. A clone is closed with the original.
#[derive(Clone)]
pub(crate) struct Handle(Arc<RwLock<Option<Arc<Opened>>>>);

impl Handle {
    pub(crate) fn new(opened: Opened) -> Self {
        Self(Arc::new(RwLock::new(Some(Arc::new(opened)))))
    }

    /// The open dump. It can be read until it is dropped, even if another thread closes the dump.
    pub(crate) fn opened(&self) -> PyResult<Arc<Opened>> {
        let opened = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(opened.clone().ok_or_else(Failure::closed)?)
    }

    /// Runs `work` with the open dump and without the interpreter's lock.
    pub(crate) fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&Opened) -> Result<T, Failure> + Send,
    ) -> PyResult<T> {
        let opened = self.opened()?;
        detached(py, || work(&opened))
    }

    pub(crate) fn close(&self, py: Python<'_>) {
        let opened = {
            let mut opened = self.0.write().unwrap_or_else(PoisonError::into_inner);
            opened.take()
        };
        // Freeing a large dump takes time.
        py.detach(|| drop(opened));
    }
}
