//! The recipes in `testdata/dumps`.

use std::io;
use std::path::PathBuf;

use crate::expect::{Expectation, expectation};

/// A minidump of amd64 for a dump device.
pub const MINIDUMP: &str = "minidump amd64 3
    kernbase 0xffffffff80000000
    kernend 0xffffffffc0000000
    avail 0x1000 0x9000
    avail 0x200000 0x20a000
    msgbuf text \"booting\\n\"
    page 0x1000 text \"the first page\"
    pages 0x200000 8 seed 1
    map 0xffffffff80200000 0x200000 2M rx
    container device
";

/// One recipe.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// File name without `.dump`.
    pub name: String,
    /// Text of the recipe.
    pub text: String,
    /// The expected verdict; `None` if it is missing or malformed.
    pub expectation: Option<Expectation>,
}

/// The folder of the recipes.
#[must_use]
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/dumps")
}

/// Every recipe, by name.
///
/// # Errors
///
/// The folder or a file in it cannot be read, or a file name does not end in `.dump`.
pub fn recipes() -> io::Result<Vec<Recipe>> {
    let mut recipes = Vec::new();
    for entry in std::fs::read_dir(folder())? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let Some(name) = name.strip_suffix(".dump") else {
            let message = format!("{}: name does not end in .dump", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        };
        let text = std::fs::read_to_string(&path)?;
        let expectation = expectation(&text);
        recipes.push(Recipe {
            name: name.to_owned(),
            text,
            expectation,
        });
    }
    recipes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(recipes)
}
