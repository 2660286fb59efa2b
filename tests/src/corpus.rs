//! The recipes in `testdata/dumps`.

use std::io;
use std::path::PathBuf;

use crate::expect::{Expectation, expectation};

/// One recipe.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// File name without `.dump`.
    pub name: String,
    /// The whole text.
    pub text: String,
    /// Its verdict; `None` if it has none that can be read.
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
/// The folder or a file in it cannot be read, or a file is no recipe by its name.
pub fn recipes() -> io::Result<Vec<Recipe>> {
    let mut recipes = Vec::new();
    for entry in std::fs::read_dir(folder())? {
        let path = entry?.path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let Some(name) = name.strip_suffix(".dump") else {
            let message = format!("{} is no recipe", path.display());
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
