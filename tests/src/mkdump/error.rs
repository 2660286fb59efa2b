//! Errors in recipes.

use thiserror::Error;

/// Why a recipe cannot be built. Lines count from 1; line 0 is the recipe as a whole.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BuildError {
    /// Syntax error.
    #[error("line {line}: expected {expected}, found {found}")]
    Syntax {
        /// Line of the recipe.
        line: usize,
        /// What the grammar allows.
        expected: &'static str,
        /// The rest of the line.
        found: String,
    },
    /// Undefined field, section, architecture or constant.
    #[error("line {line}: unknown {kind} {name}")]
    UnknownName {
        /// Line of the recipe.
        line: usize,
        /// The kind of name: field, section, constant.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A number is out of range.
    #[error("line {line}: {what} is {found:#x}, expected {expected}")]
    Value {
        /// Line of the recipe.
        line: usize,
        /// What the number is.
        what: &'static str,
        /// The number.
        found: u64,
        /// The allowed values.
        expected: String,
    },
    /// An expression overflows 64 bits or divides by zero.
    #[error("line {line}: expression overflows 64 bits or divides by zero")]
    Arithmetic {
        /// Line of the recipe.
        line: usize,
    },
    /// Two statements define the same thing.
    #[error("line {line}: {what} at {at:#x} is already in use")]
    Conflict {
        /// Line of the recipe.
        line: usize,
        /// What is in use.
        what: &'static str,
        /// The address.
        at: u64,
    },
    /// A statement is not valid in this recipe.
    #[error("line {line}: {what}")]
    Invalid {
        /// Line of the recipe.
        line: usize,
        /// Why it is not valid.
        what: &'static str,
    },
    /// A codec failed.
    #[error("the codec failed: {0}")]
    Codec(String),
}

/// Result of building a recipe.
pub(crate) type Result<T> = std::result::Result<T, BuildError>;
