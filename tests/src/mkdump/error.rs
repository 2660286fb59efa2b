//! What is wrong with a recipe, and where.

use thiserror::Error;

/// A recipe that cannot be built. Every variant names the line, counted from 1;
/// line 0 stands for the recipe as a whole.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BuildError {
    /// The text of a statement is not the language.
    #[error("line {line}: expected {expected}, found {found}")]
    Syntax {
        /// Line of the recipe.
        line: usize,
        /// What the grammar allows here.
        expected: &'static str,
        /// The rest of the line.
        found: String,
    },
    /// A field, section, architecture or constant that nobody defined.
    #[error("line {line}: no {kind} is called {name}")]
    UnknownName {
        /// Line of the recipe.
        line: usize,
        /// The kind of name: field, section, constant.
        kind: &'static str,
        /// The name as written.
        name: String,
    },
    /// A number that does not fit its place.
    #[error("line {line}: {what} is {found:#x}, expected {expected}")]
    Value {
        /// Line of the recipe.
        line: usize,
        /// What the number is for.
        what: &'static str,
        /// The number.
        found: u64,
        /// The condition it fails.
        expected: String,
    },
    /// An expression that leaves the 64-bit numbers or divides by zero.
    #[error("line {line}: the expression has no 64-bit value")]
    Arithmetic {
        /// Line of the recipe.
        line: usize,
    },
    /// Two statements want different things of the same place.
    #[error("line {line}: {what} at {at:#x} is already taken")]
    Conflict {
        /// Line of the recipe.
        line: usize,
        /// What is contended.
        what: &'static str,
        /// The address.
        at: u64,
    },
    /// A statement that this kind of recipe has no use for.
    #[error("line {line}: {what}")]
    Meaningless {
        /// Line of the recipe.
        line: usize,
        /// Why it makes no sense here.
        what: &'static str,
    },
    /// A codec refused.
    #[error("the codec failed: {0}")]
    Codec(String),
}

/// The result of everything in the builder.
pub(crate) type Result<T> = std::result::Result<T, BuildError>;
