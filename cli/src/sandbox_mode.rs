//! How much the sandbox matters to a run.

use std::ffi::OsString;

use crate::failure::Failure;

/// The environment variable that says so.
pub const VARIABLE: &str = "LIVECORE_SANDBOX";

/// How much the sandbox matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Without the whole sandbox nothing is done.
    Require,
    /// What the system has is used.
    Try,
    /// There is none.
    Off,
}

impl Mode {
    /// What the command line and the environment ask for.
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
                Err(Failure::usage(what))
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
