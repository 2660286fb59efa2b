//! Quoting for commands of gdb and lldb.
//!
//! Both debuggers read commands as text. lldb ends a command at a newline and executes text in
//! backticks. gdb splits at white space, removes quotes and evaluates expressions. Paths and
//! section names may come from an attacker: from the author of a dump, of an archive or of a
//! module. A name with a character that is special to either debugger is refused; other names are
//! quoted.

use std::path::Path;

/// Returns the path if it is UTF-8 without a character that is special within double quotes.
///
/// # Errors
///
/// The reason why a command cannot contain the path.
pub fn plain<P: AsRef<Path> + ?Sized>(path: &P) -> Result<&str, String> {
    let Some(text) = path.as_ref().to_str() else {
        return Err("path is not UTF-8".into());
    };
    let meaning = |c: &char| c.is_control() || matches!(c, '"' | '\\' | '`');
    match text.chars().find(meaning) {
        Some(c) => Err(format!(
            "path contains {c:?}, which has a special meaning in debugger commands"
        )),
        None => Ok(text),
    }
}

/// Quotes a path as one word of a command of either debugger.
///
/// # Errors
///
/// The reason why a command cannot contain the path.
pub fn quoted(path: impl AsRef<Path>) -> Result<String, String> {
    let path = path.as_ref();
    Ok(format!("\"{}\"", plain(path)?))
}

/// Returns the section name if it is one word of a command of either debugger.
///
/// # Errors
///
/// The reason why a command cannot contain the name.
pub fn section(name: &str) -> Result<&str, String> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$' | '-');
    if name.starts_with('-') || !name.chars().all(harmless) {
        return Err(format!(
            "unexpected section name {name:?} in a kernel module"
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_path_is_one_word_of_a_command() {
        assert_eq!(
            quoted("/boot/my kernel's/kernel"),
            Ok("\"/boot/my kernel's/kernel\"".into())
        );
        for bad in ["a\nb", "a\rb", "a\"b", "a\\b", "a`b`", "a\x1bb", "a\u{9b}b"] {
            assert!(quoted(bad).is_err(), "{bad:?}");
        }
        let bytes = std::os::unix::ffi::OsStrExt::from_bytes(&b"a\xff"[..]);
        let path: &std::ffi::OsStr = bytes;
        assert!(plain(path).is_err());
    }

    #[test]
    fn section_names_with_special_characters_are_refused() {
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
