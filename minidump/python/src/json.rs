//! JSON documents as Python objects.

use pyo3::prelude::*;
use serde::Serialize;

use crate::failure::{Class, Failure};

/// `document` as JSON.
pub(crate) fn text(document: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(document).map_err(|e| Failure::new(Class::Error, e))
}

/// The object that `json.loads` makes of `text`.
pub(crate) fn parsed<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?.call_method1("loads", (text,))
}
