//! Exit codes, common to all verbs.

use std::process::ExitCode;

/// The exit codes of all verbs and their meanings, for `--help` and the manual pages. A test compares the
/// README with them.
pub(crate) const CODES: &[(&str, &str)] = &[
    ("0", "success"),
    (
        "1",
        "failure: I/O error, memory limit, missing permission, address not in the dump",
    ),
    ("2", "the input is broken"),
    ("3", "success with warnings"),
    ("63", "not supported, or not a dump"),
    ("64", "usage error"),
    (
        "128 + n",
        "terminated by signal n, after removing the temporary file",
    ),
    ("141", "the reader closed standard output"),
];

/// The exit code for several inputs, see [`Exit::worst`].
pub(crate) const SEVERAL: &str =
    "For several inputs, the exit code is the worst in the order 1, 2, 63, 3, 0.";

/// The exit code of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Exit(u8);

impl Exit {
    /// Done.
    pub const DONE: Self = Self(0);
    /// Failed: I/O, memory, permission, address not found.
    pub const COULD_NOT: Self = Self(1);
    /// `compare`: the inputs differ.
    pub const DIFFERENT: Self = Self(1);
    /// `compare`: the inputs could not be compared.
    pub const NOT_COMPARED: Self = Self(4);
    /// The input is broken.
    pub const BROKEN: Self = Self(2);
    /// Sound or done, with warnings.
    pub const WARNINGS: Self = Self(3);
    /// Not supported, or not a dump.
    pub const UNSUPPORTED: Self = Self(63);
    /// The command line is wrong.
    pub const USAGE: Self = Self(64);
    /// The reader of standard output exited, as a shell reports SIGPIPE.
    pub const CLOSED_PIPE: Self = Self(128 + 13);

    /// Ended by signal `number`.
    pub fn signal(number: i32) -> Self {
        Self(u8::try_from(number).map_or(u8::MAX, |n| n.saturating_add(128)))
    }

    /// The exit with this code.
    pub fn from_code(code: u8) -> Self {
        Self(code)
    }

    /// The code.
    pub fn code(self) -> u8 {
        self.0
    }

    /// The exit code for several inputs: the worst, in the order 1, 2, 63, 3, 0.
    ///
    /// Any other code (a signal, a closed pipe, usage) ended the run and precedes them.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        let rank = |exit: Self| match exit.0 {
            0 => 0,
            3 => 1,
            63 => 2,
            2 => 3,
            1 => 4,
            _ => 5,
        };
        if rank(other) > rank(self) {
            other
        } else {
            self
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_inputs_exit_with_the_worst_in_the_documented_order() {
        let order = [1, 2, 63, 3, 0].map(Exit);
        for (i, &worse) in order.iter().enumerate() {
            for &better in &order[i..] {
                assert_eq!(worse.worst(better), worse);
                assert_eq!(better.worst(worse), worse);
            }
        }
    }

    #[test]
    fn signal_codes_are_those_of_a_shell() {
        assert_eq!(Exit::signal(2).code(), 130);
        assert_eq!(Exit::signal(15).code(), 143);
        assert_eq!(Exit::signal(300).code(), 255);
    }
}
