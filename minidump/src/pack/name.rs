//! Names of members.

/// Maximum length of a name, in bytes: the field in a header of the first tar format.
pub const NAME_MAX: usize = 100;

/// Whether a member can have this name: a relative path of letters, digits and `._+-`, without `..`, so
/// that unpacking it writes no file in another directory.
pub fn is_usable(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    name.len() <= NAME_MAX
        && name.split('/').all(|part| {
            !part.is_empty()
                && !part.starts_with('-')
                && part.bytes().all(is_plain)
                && part.bytes().any(|byte| byte != b'.')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_leave_the_directory_are_not_usable() {
        for name in ["vmcore.0.zst", "kernel/kernel", "kernel/if_em.ko.debug"] {
            assert!(is_usable(name), "{name}");
        }
        let long = "a".repeat(NAME_MAX + 1);
        for name in [
            "",
            "/etc/passwd",
            "../x",
            "a/../b",
            "a//b",
            "a/",
            ".",
            "a/.",
            "...",
            "-rf",
            "a\n",
            "a b",
            "ä",
            "a\\b",
            "a:b",
            &long,
        ] {
            assert!(!is_usable(name), "{name}");
        }
        assert!(is_usable(&long[1..]));
    }
}
