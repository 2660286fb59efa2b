//! Writes a machine as files for `take --image`: `ram`, `kernel` and `machine.json`.

use livecore_minidump::PhysAddr;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use serde::Serialize;

use super::content::PAGE;
use super::error::Error;
use super::{Architecture, Machine};
use livecore_minidump::PhysMemory;
use livecore_minidump::machine_dir::{LAYOUT_FILE, RANGES_FILE};

/// Number of bytes per read.
const CHUNK: usize = 1 << 20;

/// The contents of `machine.json`.
#[derive(Serialize)]
struct Layout {
    /// 1.
    format: u32,
    /// `MACHINE_ARCH`.
    architecture: Architecture,
    /// File of the physical memory: offset is physical address.
    ram: &'static str,
    /// File of the kernel.
    kernel: &'static str,
    /// Physical ranges that are RAM: start and end.
    ranges: Vec<(u64, u64)>,
}

/// Writes a machine to a directory, which is created if absent: `ram`, a sparse file in which the
/// offset is the physical address; `kernel`, an ELF file; `machine.json`, the ranges of RAM. Only
/// the owner can read the files. Existing files of these names are replaced, and the state of an
/// earlier machine ([`RANGES_FILE`]) is removed.
///
/// # Errors
///
/// [`Error`] if the directory cannot be created or a file cannot be written.
pub fn write_out(machine: &Machine, dir: impl AsRef<Path>) -> Result<(), Error> {
    let dir = dir.as_ref();
    let failed = |name: &str| {
        let path = dir.join(name);
        move |source| Error::Io { path, source }
    };
    fs::create_dir_all(dir).map_err(|source| Error::Io {
        path: dir.to_path_buf(),
        source,
    })?;
    remove(&dir.join(RANGES_FILE)).map_err(failed(RANGES_FILE))?;
    let kernel = create(&dir.join("kernel")).map_err(failed("kernel"))?;
    kernel
        .write_all_at(machine.kernel(), 0)
        .map_err(failed("kernel"))?;
    ram(machine, &dir.join("ram")).map_err(failed("ram"))?;

    let layout = Layout {
        format: 1,
        architecture: machine.truth.architecture,
        ram: "ram",
        kernel: "kernel",
        ranges: machine
            .memory
            .ranges()
            .iter()
            .map(|range| (range.start.0, range.end.0))
            .collect(),
    };
    let mut text = serde_json::to_vec_pretty(&layout)
        .map_err(io::Error::from)
        .map_err(failed(LAYOUT_FILE))?;
    text.push(b'\n');
    create(&dir.join(LAYOUT_FILE))
        .and_then(|file| file.write_all_at(&text, 0))
        .map_err(failed(LAYOUT_FILE))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Creates a file of mode 0600, and replaces an existing one.
fn create(path: &Path) -> io::Result<File> {
    remove(path)?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// Writes the populated pages. The rest of the file is holes.
fn ram(machine: &Machine, path: &Path) -> io::Result<()> {
    let file = create(path)?;
    let end = machine
        .memory
        .ranges()
        .last()
        .map_or(0, |range| range.end.0);
    file.set_len(end)?;
    let mut buf = vec![0; CHUNK];
    for frames in machine.memory.populated() {
        let mut at = frames.start * PAGE as u64;
        let end = frames.end * PAGE as u64;
        while at < end {
            let n = (end - at).min(CHUNK as u64) as usize;
            machine.memory.read(PhysAddr(at), &mut buf[..n])?;
            file.write_all_at(&buf[..n], at)?;
            at += n as u64;
        }
    }
    Ok(())
}
