//! Modules, definitions and paths of a source file.

use std::collections::BTreeSet;

/// A module path from the crate's root, or the segments of a path.
pub(super) type Path = Vec<String>;

/// One `use`, or one path in an expression or type.
pub(super) struct Named {
    /// The module that contains it.
    pub(super) module: Path,
    pub(super) segments: Path,
    /// The name that a `use` binds; `*` for a glob.
    pub(super) alias: Option<String>,
    pub(super) line: usize,
}

/// A token and its line.
pub(super) type Token = (String, usize);

/// The tokens of code without comments and strings.
pub(super) fn tokens(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (number, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let part = |c: char| c.is_alphanumeric() || c == '_';
            let len = if part(first) {
                rest.find(|c| !part(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push((rest[..len].to_owned(), number + 1));
            rest = rest[len..].trim_start();
        }
    }
    tokens
}

/// Scanner of one file's tokens.
pub(super) struct Scan {
    pub(super) tokens: Vec<Token>,
    /// The module at the current token.
    pub(super) module: Path,
    pub(super) defines: BTreeSet<String>,
    pub(super) inline: Vec<Path>,
    pub(super) for_tests: Vec<Path>,
    pub(super) named: Vec<Named>,
}

impl Scan {
    fn at(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |(text, _)| text)
    }

    fn is(&self, at: usize, tokens: &[&str]) -> bool {
        tokens
            .iter()
            .enumerate()
            .all(|(n, token)| self.at(at + n) == *token)
    }

    pub(super) fn items(&mut self) {
        const DEFINES: [&str; 10] = [
            "fn",
            "struct",
            "enum",
            "union",
            "const",
            "static",
            "type",
            "trait",
            "macro_rules",
            "mod",
        ];
        let mut depth = 0;
        // The depth at which each inline module ends.
        let mut inline = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            if self.is(at, &["#", "[", "cfg", "(", "test", ")", "]"]) {
                at = self.skip_item(at + 7);
                continue;
            }
            let word = self.at(at).to_owned();
            let word = word.as_str();
            match word {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if inline.last() == Some(&depth) {
                        inline.pop();
                        self.module.pop();
                    }
                }
                "mod" if self.at(at + 2) == "{" => {
                    self.module.push(self.at(at + 1).to_owned());
                    self.inline.push(self.module.clone());
                    inline.push(depth);
                    depth += 1;
                    at += 3;
                    continue;
                }
                "use" if self.at(at - usize::from(at > 0)) != "." => {
                    at = self.tree(at + 1, &Vec::new());
                    continue;
                }
                _ if DEFINES.contains(&word) => {
                    let name = if self.at(at + 1) == "!" {
                        at + 2
                    } else {
                        at + 1
                    };
                    self.defines.insert(self.at(name).to_owned());
                }
                _ if self.at(at + 1) == "::" && word != "::" => {
                    at = self.path(at);
                    continue;
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Skips the `#[cfg(test)]` item at `at`.
    fn skip_item(&mut self, mut at: usize) -> usize {
        while self.is(at, &["#", "["]) {
            at = self.skip_group(at + 1);
        }
        let mut word = at;
        if self.at(word) == "pub" {
            word += 1;
            if self.at(word) == "(" {
                word = self.skip_group(word);
            }
        }
        if self.at(word) == "mod" {
            let module = [&self.module[..], &[self.at(word + 1).to_owned()]].concat();
            self.for_tests.push(module);
        }
        let is_use = self.at(word) == "use";
        // A field, variant or arm ends at a comma; an item can have commas in its generics.
        let item = [
            "fn", "impl", "struct", "enum", "trait", "type", "const", "static", "unsafe", "async",
        ];
        let is_item = is_use || item.contains(&self.at(word));
        while at < self.tokens.len() {
            match self.at(at) {
                ";" => return at + 1,
                "," if !is_item => return at + 1,
                "{" if !is_use => return self.skip_group(at),
                "{" | "(" | "[" => at = self.skip_group(at),
                "}" => return at,
                _ => at += 1,
            }
        }
        at
    }

    /// Skips the bracketed group at `at`.
    fn skip_group(&self, mut at: usize) -> usize {
        let mut depth = 0;
        while at < self.tokens.len() {
            match self.at(at) {
                "{" | "(" | "[" => depth += 1,
                "}" | ")" | "]" => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                break;
            }
        }
        at
    }

    /// Reads a path in an expression or type.
    fn path(&mut self, at: usize) -> usize {
        let visibility = at > 2 && self.is(at - 3, &["pub", "(", "in"]);
        let mut segments = vec![self.at(at).to_owned()];
        let mut end = at + 1;
        while self.at(end) == "::" && self.at(end + 1).starts_with(|c: char| c.is_alphabetic()) {
            segments.push(self.at(end + 1).to_owned());
            end += 2;
        }
        if !visibility && segments.len() > 1 {
            self.name(segments, None, at);
        }
        end.max(at + 1)
    }

    /// Reads one tree of a `use` below `prefix`.
    fn tree(&mut self, mut at: usize, prefix: &Path) -> usize {
        let mut path = prefix.clone();
        if self.at(at) == "::" {
            at += 1;
        }
        loop {
            match self.at(at) {
                "{" => {
                    at += 1;
                    while self.at(at) != "}" && at < self.tokens.len() {
                        at = self.tree(at, &path);
                        at += usize::from(self.at(at) == ",");
                    }
                    return at + 1;
                }
                "*" => {
                    self.name(path, Some("*".to_owned()), at);
                    return at + 1;
                }
                // `a::{self}` is `a`.
                "self" if !path.is_empty() => {}
                segment => path.push(segment.to_owned()),
            }
            at += 1;
            if self.at(at) != "::" {
                break;
            }
            at += 1;
        }
        let mut alias = path.last().cloned();
        let name = at - 1;
        if self.at(at) == "as" {
            alias = Some(self.at(at + 1).to_owned());
            at += 2;
        }
        self.name(path, alias, name);
        at
    }

    fn name(&mut self, segments: Path, alias: Option<String>, at: usize) {
        self.named.push(Named {
            module: self.module.clone(),
            segments,
            alias,
            line: self.tokens[at].1,
        });
    }
}
