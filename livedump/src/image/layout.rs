//! `machine.json`: what a directory that `synth --out` wrote says of its files.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::RawImage;

/// The file's name.
pub const LAYOUT_FILE: &str = "machine.json";

/// The most bytes that are read of it.
const LIMIT: u64 = 1 << 20;

/// A memory image and what was found beside it.
#[derive(Debug)]
pub struct Opened {
    /// The memory.
    pub image: RawImage,
    /// The memory's file.
    pub ram: PathBuf,
    /// The kernel's file, if a layout names one.
    pub kernel: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Layout {
    format: u32,
    ram: String,
    kernel: String,
    ranges: Vec<(u64, u64)>,
}

/// Opens a memory image: a directory with a [`LAYOUT_FILE`], or a raw file. If the raw file's
/// directory has a layout that names it, the layout says which of its addresses are memory;
/// otherwise all of them are.
pub fn open(path: &Path, writable: bool) -> io::Result<Opened> {
    if path.is_dir() {
        let layout = read(path)?.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("{}: no {LAYOUT_FILE} in it", path.display()),
            )
        })?;
        return with_layout(path, &layout, writable);
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    match read(directory)? {
        Some(layout) if path.file_name().is_some_and(|name| name == &*layout.ram) => {
            with_layout(directory, &layout, writable)
        }
        _ => {
            let len = std::fs::metadata(path)?.len();
            let whole = 0..len - len % minidump::defs::amd64::PAGE_SIZE;
            Ok(Opened {
                image: image(path, std::slice::from_ref(&whole), writable)?,
                ram: path.into(),
                kernel: None,
            })
        }
    }
}

fn image(path: &Path, ranges: &[Range<u64>], writable: bool) -> io::Result<RawImage> {
    if writable {
        RawImage::open_writable(path, ranges)
    } else {
        RawImage::new(File::open(path)?, ranges)
    }
}

fn with_layout(directory: &Path, layout: &Layout, writable: bool) -> io::Result<Opened> {
    let ranges = layout
        .ranges
        .iter()
        .map(|(start, end)| *start..*end)
        .collect::<Vec<_>>();
    let ram = directory.join(&layout.ram);
    Ok(Opened {
        image: image(&ram, &ranges, writable)?,
        kernel: Some(directory.join(&layout.kernel)),
        ram,
    })
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
        return Err(invalid(format!("format {}, known is 1", layout.format)));
    }
    if !is_name(&layout.ram) || !is_name(&layout.kernel) {
        return Err(invalid(
            "ram and kernel must be names of files beside it".into(),
        ));
    }
    Ok(Some(layout))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PhysMemory;

    fn directory(layout: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ram"), vec![5; 4 * 4096]).unwrap();
        std::fs::write(dir.path().join(LAYOUT_FILE), layout).unwrap();
        dir
    }

    #[test]
    fn the_layout_says_what_is_memory_however_the_image_is_named() {
        let dir = directory(
            r#"{"format":1,"architecture":"amd64","ram":"ram","kernel":"kernel",
                "ranges":[[0,4096],[8192,16384]]}"#,
        );
        for path in [dir.path().to_owned(), dir.path().join("ram")] {
            let opened = open(&path, false).unwrap();
            assert_eq!(opened.image.ranges(), [0..4096, 8192..16384]);
            assert_eq!(opened.kernel, Some(dir.path().join("kernel")));
        }
    }

    #[test]
    fn a_file_that_no_layout_names_is_memory_throughout() {
        let dir = directory(r#"{"format":1,"ram":"other","kernel":"kernel","ranges":[]}"#);
        let opened = open(&dir.path().join("ram"), false).unwrap();
        assert_eq!(opened.image.ranges(), std::slice::from_ref(&(0..16384)));
        assert_eq!(opened.kernel, None);
    }

    #[test]
    fn layouts_that_lead_elsewhere_or_make_no_sense_are_refused() {
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
