//! What may stand in a command of gdb or lldb.
//!
//! Both take commands as text: lldb ends one at a newline and runs what stands between backticks,
//! gdb cuts at white space, takes quotes away and evaluates what it takes for an address. Paths and
//! names of sections are somebody else's: who made the dump, packed its directory or built a
//! module. What could mean something to either debugger is refused; the rest is put in quotes.

use std::path::Path;

/// A path that is text and means nothing but itself in double quotes.
///
/// # Errors
///
/// Why a command cannot contain it.
pub fn plain(path: &Path) -> Result<&str, String> {
    let Some(text) = path.to_str() else {
        return Err("its path is no UTF-8, and debuggers' commands are".into());
    };
    let meaning = |c: &char| c.is_control() || matches!(c, '"' | '\\' | '`');
    match text.chars().find(meaning) {
        Some(c) => Err(format!(
            "its path has {c:?} in it, which means something in debuggers' commands"
        )),
        None => Ok(text),
    }
}

/// A path as a word of a command of either debugger.
///
/// # Errors
///
/// Why a command cannot contain it.
pub fn quoted(path: &Path) -> Result<String, String> {
    Ok(format!("\"{}\"", plain(path)?))
}

/// The name of a section as a word of a command of either debugger.
///
/// # Errors
///
/// Why a command cannot contain it.
pub fn section(name: &str) -> Result<&str, String> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$' | '-');
    if name.starts_with('-') || !name.chars().all(harmless) {
        return Err(format!(
            "its section {name:?} is named like no section of a kernel module"
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_in_a_command_is_one_word_and_nothing_else() {
        assert_eq!(
            quoted("/boot/my kernel's/kernel".as_ref()),
            Ok("\"/boot/my kernel's/kernel\"".into())
        );
        for bad in ["a\nb", "a\rb", "a\"b", "a\\b", "a`b`", "a\x1bb", "a\u{9b}b"] {
            assert!(quoted(bad.as_ref()).is_err(), "{bad:?}");
        }
        let bytes = std::os::unix::ffi::OsStrExt::from_bytes(&b"a\xff"[..]);
        let path: &std::ffi::OsStr = bytes;
        assert!(plain(path.as_ref()).is_err());
    }

    #[test]
    fn section_in_a_command_is_named_like_one() {
        for good in [
            ".text",
            "set_sysinit_set",
            ".rodata.str1.1",
            ".note.gnu.build-id",
            "",
        ] {
            assert_eq!(section(good), Ok(good));
        }
        for bad in ["a b", "a;b", "$(x)", "-s", "a\n", "a'", ".text\t", "é"] {
            assert!(section(bad).is_err(), "{bad:?}");
        }
    }
}
