//! `machine.json`: the description of the files that `synth --out` wrote.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use livecore_compress::Codec;
use livecore_minidump::PhysAddr;
use livecore_minidump::machine_dir::LAYOUT_FILE;
use serde::Deserialize;

use super::candidate::Row;
use super::format::Format;
use super::memory_image::Image;
use super::raw::RawImage;
use super::raw_layout::RawLayout;
use super::source::Source;

/// The largest layout file that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// A memory image with its companion files.
#[derive(Debug)]
pub struct Opened {
    /// The memory.
    pub image: RawImage,
    /// The memory's file.
    pub ram: PathBuf,
    /// The kernel file, if a layout names one.
    pub kernel: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Layout {
    format: u32,
    ram: String,
    kernel: String,
    ranges: Vec<(u64, u64)>,
}

/// The files that a layout names.
struct Described {
    ram: PathBuf,
    kernel: PathBuf,
    ranges: Vec<Range<PhysAddr>>,
}

/// Reads the layout of `path`: a directory, which must have one, or a file, which may be named by a
/// layout in its directory.
fn describe(path: &Path) -> io::Result<Option<Described>> {
    let (directory, file) = if path.is_dir() {
        (path, None)
    } else {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        (parent.unwrap_or(Path::new(".")), path.file_name())
    };
    let layout = match (read(directory)?, file) {
        (Some(layout), None) => layout,
        (Some(layout), Some(name)) if name == &*layout.ram => layout,
        (None, None) => {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no {LAYOUT_FILE} in directory {}", path.display()),
            ));
        }
        _ => return Ok(None),
    };
    Ok(Some(Described {
        ram: directory.join(&layout.ram),
        kernel: directory.join(&layout.kernel),
        ranges: layout
            .ranges
            .iter()
            .map(|(start, end)| PhysAddr(*start)..PhysAddr(*end))
            .collect(),
    }))
}

/// Opens raw memory: a directory with a [`LAYOUT_FILE`], or a raw file. If a layout in the file's
/// directory names the file, it defines which addresses are memory; otherwise all of them are.
///
/// # Errors
///
/// The system's error for a file, or an error that names what is wrong with the layout.
pub fn open(path: impl AsRef<Path>, writable: bool) -> io::Result<Opened> {
    let path = path.as_ref();
    match describe(path)? {
        Some(described) => Ok(Opened {
            image: image(&described.ram, &described.ranges, writable)?,
            kernel: Some(described.kernel),
            ram: described.ram,
        }),
        None => {
            let len = std::fs::metadata(path)?.len();
            let whole = PhysAddr(0)..PhysAddr(len).align_down(livecore_defs::amd64::PAGE_SIZE);
            Ok(Opened {
                image: image(path, std::slice::from_ref(&whole), writable)?,
                ram: path.into(),
                kernel: None,
            })
        }
    }
}

fn image(path: &Path, ranges: &[Range<PhysAddr>], writable: bool) -> io::Result<RawImage> {
    if writable {
        RawImage::open_writable(path, ranges)
    } else {
        RawImage::new(File::open(path)?, ranges)
    }
}

fn read(directory: &Path) -> io::Result<Option<Layout>> {
    let path = directory.join(LAYOUT_FILE);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut text = Vec::new();
    file.take(LIMIT).read_to_end(&mut text)?;
    let invalid = |why: String| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: {why}", path.display()),
        )
    };
    let layout: Layout = serde_json::from_slice(&text).map_err(|e| invalid(e.to_string()))?;
    let is_name = |name: &str| !name.is_empty() && !name.contains('/') && name != "..";
    if layout.format != 1 {
        return Err(invalid(format!(
            "found format {}, expected 1",
            layout.format
        )));
    }
    if !is_name(&layout.ram) || !is_name(&layout.kernel) {
        return Err(invalid(
            "ram and kernel must be names of files in the same directory".into(),
        ));
    }
    Ok(Some(layout))
}

/// A raw file or a directory with a [`LAYOUT_FILE`] that defines its addresses.
pub(super) const MACHINE: Row = Row {
    probe: |candidate| match candidate.path {
        Some(path) => Ok(describe(path)?.is_some()),
        None => Ok(false),
    },
    open: |candidate| {
        let described = match candidate.path {
            Some(path) => describe(path)?,
            None => None,
        };
        let Some(described) = described else {
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        };
        let source = Source::open(&described.ram, candidate.options)?;
        let memory = if source.codec() == Codec::None {
            let image = RawImage::new(File::open(&described.ram)?, &described.ranges)?;
            Image::new(Format::Machine, &source, image)
        } else {
            let ranges = described.ranges.into_iter().map(|r| (r.clone(), r.start.0));
            let memory = RawLayout::Ranges(ranges.collect()).memory(&source, candidate.options)?;
            Image::new(Format::Machine, &source, memory)
        };
        Ok(Image {
            ram: described.ram,
            kernel: Some(described.kernel),
            ..memory
        })
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use livecore_minidump::PhysMemory;

    fn directory(layout: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ram"), vec![5; 4 * 4096]).unwrap();
        std::fs::write(dir.path().join(LAYOUT_FILE), layout).unwrap();
        dir
    }

    #[test]
    fn layout_defines_memory_for_file_and_directory() {
        let dir = directory(
            r#"{"format":1,"architecture":"amd64","ram":"ram","kernel":"kernel",
                "ranges":[[0,4096],[8192,16384]]}"#,
        );
        for path in [dir.path().to_owned(), dir.path().join("ram")] {
            let opened = open(&path, false).unwrap();
            assert_eq!(
                opened.image.ranges(),
                [PhysAddr(0)..PhysAddr(4096), PhysAddr(8192)..PhysAddr(16384)]
            );
            assert_eq!(opened.kernel, Some(dir.path().join("kernel")));
        }
    }

    #[test]
    fn file_without_a_layout_is_all_memory() {
        let dir = directory(r#"{"format":1,"ram":"other","kernel":"kernel","ranges":[]}"#);
        let opened = open(dir.path().join("ram"), false).unwrap();
        assert_eq!(opened.image.ranges(), [PhysAddr(0)..PhysAddr(16384)]);
        assert_eq!(opened.kernel, None);
    }

    #[test]
    fn invalid_layouts_are_refused() {
        for layout in [
            r#"{"format":1,"ram":"../ram","kernel":"kernel","ranges":[]}"#,
            r#"{"format":2,"ram":"ram","kernel":"kernel","ranges":[]}"#,
            r#"{"format":1,"ram":"ram","kernel":"kernel","ranges":[[8192,4096]]}"#,
            r#"{"format":1,"ram":"ram","kernel":"kernel","ranges":[[1,4096]]}"#,
            "junk",
        ] {
            let dir = directory(layout);
            let error = open(dir.path(), false).unwrap_err();
            assert!(error.kind() != io::ErrorKind::NotFound, "{layout}: {error}");
        }
    }
}
