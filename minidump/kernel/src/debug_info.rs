//! Debug information about the code of a kernel, from its file or its debug file. It is read when a
//! backtrace needs it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use livecore_compress::ReadAt;
use livecore_minidump::{Error, KernelElf};

use crate::cfi::Cfi;
use crate::code::Code;
use crate::section;

/// Debug information about the code of a kernel.
#[derive(Default)]
pub(crate) struct DebugInfo {
    /// The file with the debug information, if it is not the kernel file.
    file: Option<Arc<dyn ReadAt>>,
    elf: OnceLock<Option<KernelElf>>,
    cfi: OnceLock<Option<Cfi>>,
    code: OnceLock<Option<Code>>,
    problems: Mutex<Vec<String>>,
}

impl DebugInfo {
    /// The debug information in `file`.
    pub(crate) fn of_file(file: Arc<dyn ReadAt>) -> Self {
        Self {
            file: Some(file),
            ..Self::default()
        }
    }

    fn kept<T>(&self, read: Option<Result<Option<T>, Error>>) -> Option<T> {
        match read? {
            Ok(found) => found,
            Err(error) => {
                let problems = self.problems.lock();
                let mut problems = problems.unwrap_or_else(PoisonError::into_inner);
                problems.push(error.to_string());
                None
            }
        }
    }

    /// The errors of reading it.
    pub(crate) fn problems(&self) -> Vec<String> {
        let problems = self.problems.lock();
        problems.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the kernel file, or else its debug file, that has the section `name`.
    fn file_with<'a>(&'a self, kernel: &'a KernelElf, name: &str) -> Option<&'a KernelElf> {
        if section::exists(kernel, name) {
            return Some(kernel);
        }
        let open = |file| KernelElf::parse_within(Arc::clone(file), kernel.memory());
        let read = || self.kept(self.file.as_ref().map(|file| open(file).map(Some)));
        let elf = self.elf.get_or_init(read).as_ref()?;
        section::exists(elf, name).then_some(elf)
    }

    /// The call frame information of the kernel file `kernel`.
    pub(crate) fn cfi(&self, kernel: &KernelElf) -> Option<&Cfi> {
        let file = || {
            let file = self.file_with(kernel, ".debug_frame");
            file.or_else(|| self.file_with(kernel, ".eh_frame"))
        };
        let read = || self.kept(file().map(Cfi::read));
        self.cfi.get_or_init(read).as_ref()
    }

    /// The source lines, inlined functions and calls of the kernel file `kernel`.
    pub(crate) fn code(&self, kernel: &KernelElf) -> Option<&Code> {
        let file = || self.file_with(kernel, ".debug_info");
        let read = || self.kept(file().map(Code::read));
        self.code.get_or_init(read).as_ref()
    }
}
