//! Refuses URLs: the program was built without the feature `store`.

use std::convert::Infallible;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_compress::ReadAt;

use super::Listed;
use crate::env::Env;
use crate::exit::Exit;
use crate::failure::Failure;

/// No object stores.
#[derive(Debug, Clone)]
pub(crate) struct Stores;

/// No upload.
pub(crate) struct Upload(Infallible);

const WHAT: &str = "this livecore was built without the feature `store`";
const ADVICE: &str = "build it with `cargo build --release --features store`";

fn refused(path: &Path) -> Failure {
    let failure = Failure::new(Exit::UNSUPPORTED, WHAT).about(path);
    failure.next(ADVICE)
}

impl Stores {
    pub(crate) fn new(_: &Env) -> Self {
        Self
    }

    pub(crate) fn open(&self, path: &Path) -> Result<Arc<dyn ReadAt>, Failure> {
        Err(refused(path))
    }

    pub(crate) fn companion(
        &self,
        path: &Path,
        _: &str,
    ) -> Result<Option<(PathBuf, Vec<u8>)>, Failure> {
        Err(refused(path))
    }

    pub(crate) fn list(&self, _: &Path) -> io::Result<Vec<Listed>> {
        let line = format!("{WHAT}; {ADVICE}");
        Err(io::Error::new(io::ErrorKind::Unsupported, line))
    }

    pub(crate) fn create(&self, path: &Path, _: Option<u64>, _: bool) -> Result<Upload, Failure> {
        Err(refused(path))
    }

    pub(crate) fn summary(&self) -> Option<String> {
        None
    }
}

impl Upload {
    pub(crate) fn failure(&self) -> Option<Failure> {
        match self.0 {}
    }

    pub(crate) fn complete(self) -> Result<(), Failure> {
        match self.0 {}
    }

    pub(crate) fn path(&self) -> &Path {
        match self.0 {}
    }
}

impl Write for Upload {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        match self.0 {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0 {}
    }
}
