//! The tiny machine, written to files, and its devices.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use livecore_livedump::emulated::Parts;
use livecore_livedump::emulated::{Credentials, Emulated};
use livecore_livedump::image;
use livecore_livedump::mem4::Access;
use livecore_minidump::KernelElf;
use livecore_synth::{Machine, write_out};

/// Bytes per page.
pub(crate) const PAGE: usize = 4096;

/// The tiny machine, written to files.
pub(crate) struct Fixture {
    pub(crate) machine: Machine,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) fn fixture() -> Fixture {
    let text = include_str!("../../../../testdata/machines/tiny.toml");
    let machine = Machine::parse(text).unwrap();
    let dir = tempfile::tempdir().unwrap();
    write_out(&machine, dir.path().join("m")).unwrap();
    Fixture { machine, dir }
}

impl Fixture {
    pub(crate) fn elf(&self) -> Arc<KernelElf> {
        Arc::new(KernelElf::from_bytes(self.machine.kernel().to_vec()).unwrap())
    }

    pub(crate) fn ram(&self) -> PathBuf {
        self.dir.path().join("m/ram")
    }

    pub(crate) fn parts(&self) -> Parts {
        Parts::of_image(
            image::layout::open(self.ram(), true).unwrap(),
            Some(self.elf()),
            true,
        )
    }

    pub(crate) fn device(&self) -> Emulated {
        Emulated::open(self.parts(), Access::READ_WRITE, Credentials::default()).unwrap()
    }

    pub(crate) fn file(&self, name: &str) -> File {
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.dir.path().join(name))
            .unwrap()
    }

    pub(crate) fn symbol(&self, name: &str) -> u64 {
        self.machine.truth().symbol(name).unwrap()
    }
}
