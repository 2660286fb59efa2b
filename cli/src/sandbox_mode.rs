//! The mode of the sandbox.

use std::ffi::OsString;

use crate::failure::Failure;
use crate::id::Id;

/// The environment variable that selects the mode.
pub(crate) const VARIABLE: &str = "LIVECORE_SANDBOX";

/// The mode of the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Fail if a part of the sandbox is not available.
    Require,
    /// Use the parts that the system supports.
    Try,
    /// No sandbox.
    Off,
}

impl Mode {
    /// The mode that the command line and the environment select.
    ///
    /// # Errors
    ///
    /// A failure of the command line if the variable has another value.
    pub fn asked(no_sandbox: bool) -> Result<Self, Failure> {
        match std::env::var_os(VARIABLE) {
            _ if no_sandbox => Ok(Self::Off),
            Some(value) => Self::of_value(&value),
            None => Ok(Self::Try),
        }
    }

    fn of_value(value: &OsString) -> Result<Self, Failure> {
        match value.to_str() {
            Some("require") => Ok(Self::Require),
            Some("try" | "") => Ok(Self::Try),
            Some("off") => Ok(Self::Off),
            _ => {
                let found = value.to_string_lossy();
                let what = format_args!("{VARIABLE} is {found}, expected require, try or off");
                Err(Failure::usage(what).id_is(Id::InvalidValue))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn mode_is_one_of_three_words() {
        for (word, mode) in [
            ("require", Mode::Require),
            ("try", Mode::Try),
            ("", Mode::Try),
            ("off", Mode::Off),
        ] {
            assert_eq!(Mode::of_value(&word.into()).unwrap(), mode, "{word}");
        }
        let failure = Mode::of_value(&"yes".into()).unwrap_err();
        assert_eq!(failure.exit(), Exit::USAGE);
    }
}
