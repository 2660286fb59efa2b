//! What the verifier found.

use livecore_verify::render::{line, report_value};
use livecore_verify::{Finding as Found, Report as Verified, Severity};
use pyo3::prelude::*;

use crate::json;

/// A place at which a dump breaks a rule. `str(finding)` is its line in `livecore verify`.
#[pyclass(frozen, module = "livecore")]
pub(crate) struct Finding(Found);

#[pymethods]
impl Finding {
    /// The id of the rule; docs/verify.md has them all.
    #[getter]
    fn rule(&self) -> &'static str {
        self.0.rule.id
    }

    /// What the rule states.
    #[getter]
    fn claim(&self) -> &'static str {
        self.0.rule.claim
    }

    /// What to do.
    #[getter]
    fn advice(&self) -> &'static str {
        self.0.rule.advice
    }

    /// `"error"`, `"warning"` or `"note"`.
    #[getter]
    fn severity(&self) -> &'static str {
        self.0.rule.severity.name()
    }

    /// The part of the dump: `page bitmap`, `zstd frame 12`.
    #[getter]
    fn region(&self) -> &str {
        &self.0.region
    }

    /// What `offset` counts from: `"file"`, `"payload"`, `"info"` (lines) or `"dump"`.
    #[getter]
    fn space(&self) -> &'static str {
        self.0.space.name()
    }

    /// The offset of the first wrong byte or line.
    #[getter]
    fn offset(&self) -> u64 {
        self.0.offset
    }

    /// What the dump contains.
    #[getter]
    fn found(&self) -> &str {
        &self.0.found
    }

    /// What it should contain.
    #[getter]
    fn expected(&self) -> &str {
        &self.0.expected
    }

    /// The first wrong bytes, at most 64; None if they do not help.
    #[getter]
    fn data(&self) -> Option<&[u8]> {
        self.0.bytes.as_ref().map(|excerpt| &*excerpt.bytes)
    }

    fn __str__(&self) -> String {
        format!("{}, {}", self.0.rule.id, line(&self.0))
    }

    fn __repr__(&self) -> String {
        format!("<livecore.Finding {}>", self.__str__())
    }
}

/// The result of verifying a dump.
#[pyclass(frozen, module = "livecore")]
pub(crate) struct Report {
    inner: Verified,
    findings: Vec<Py<Finding>>,
}

impl Report {
    pub(crate) fn new(py: Python<'_>, inner: Verified) -> PyResult<Self> {
        let findings = inner.findings.iter().cloned();
        let findings = findings.map(|found| Py::new(py, Finding(found)));
        let findings = findings.collect::<PyResult<_>>()?;
        Ok(Self { inner, findings })
    }
}

#[pymethods]
impl Report {
    /// The path of the dump.
    #[getter]
    fn name(&self) -> &str {
        &self.inner.name
    }

    /// `"sound"`, `"warnings"`, `"broken"`, `"not-a-dump"` or `"failed"`.
    #[getter]
    fn verdict(&self) -> &'static str {
        self.inner.verdict.name()
    }

    /// Why the verdict is `"not-a-dump"` or `"failed"`; None otherwise.
    #[getter]
    fn reason(&self) -> Option<&str> {
        self.inner.verdict.reason()
    }

    /// The findings: by severity, then by location. A bounded number for each rule.
    #[getter]
    fn findings(&self, py: Python<'_>) -> Vec<Py<Finding>> {
        self.findings
            .iter()
            .map(|found| found.clone_ref(py))
            .collect()
    }

    /// The number of errors, with those that `findings` omits.
    #[getter]
    fn errors(&self) -> u64 {
        self.inner.count(Severity::Error)
    }

    /// The number of warnings, with those that `findings` omits.
    #[getter]
    fn warnings(&self) -> u64 {
        self.inner.count(Severity::Warning)
    }

    /// The report as a dict: what `livecore verify --json` prints for a dump.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::parsed(py, &report_value(&self.inner).to_string())
    }

    fn __repr__(&self) -> String {
        let (name, verdict) = (&self.inner.name, self.inner.verdict.name());
        format!("<livecore.Report {name:?}: {verdict}>")
    }
}
