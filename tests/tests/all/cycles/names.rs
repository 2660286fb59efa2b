//! The import graph of a crate's files.

use std::collections::{BTreeMap, BTreeSet};

use super::scan::{Path, Scan, tokens};
use crate::rust_source::{code_only, files, read};

pub(super) struct File {
    pub(super) path: String,
    /// The file's module; determines parent and child.
    pub(super) module: Path,
    pub(super) defines: BTreeSet<String>,
    /// Imported files, each with the line and path of the first import.
    pub(super) edges: BTreeMap<usize, (usize, String)>,
}

/// The files, modules and imports of a crate.
pub(super) struct Names {
    pub(super) files: Vec<File>,
    pub(super) modules: BTreeMap<Path, usize>,
    pub(super) imports: BTreeMap<Path, Vec<(String, Path)>>,
}

impl Names {
    pub(super) fn of(folder: &str) -> Names {
        let paths = files(&format!("{folder}/src"), "rs");
        let texts = paths.into_iter().map(|path| (path.clone(), read(&path)));
        Names::read(folder, texts.collect())
    }

    pub(super) fn read(folder: &str, texts: Vec<(String, String)>) -> Names {
        let mut names = Names {
            files: Vec::new(),
            modules: BTreeMap::new(),
            imports: BTreeMap::new(),
        };
        let mut named = Vec::new();
        let mut for_tests = Vec::new();
        for (path, text) in texts {
            let relative = path[folder.len() + "/src/".len()..].trim_end_matches(".rs");
            if relative == "main" || relative.starts_with("bin/") {
                continue;
            }
            let mut module = relative.split('/').map(ToOwned::to_owned).collect::<Path>();
            module.pop_if(|last| last == "mod" || relative == "lib");
            let number = names.files.len();
            names.modules.insert(module.clone(), number);
            let mut scan = Scan {
                tokens: tokens(&code_only(&text)),
                module: module.clone(),
                defines: BTreeSet::new(),
                inline: Vec::new(),
                for_tests: Vec::new(),
                named: Vec::new(),
            };
            scan.items();
            for inline in scan.inline {
                names.modules.insert(inline, number);
            }
            for_tests.append(&mut scan.for_tests);
            named.push(scan.named);
            names.files.push(File {
                path,
                module,
                defines: scan.defines,
                edges: BTreeMap::new(),
            });
        }
        let test_only = |module: &Path| for_tests.iter().any(|t| module.starts_with(t));
        for one in named.iter().flatten() {
            if let Some(alias) = &one.alias {
                let imports = names.imports.entry(one.module.clone()).or_default();
                imports.push((alias.clone(), one.segments.clone()));
            }
        }
        for (from, named) in named.iter().enumerate() {
            if test_only(&names.files[from].module) {
                continue;
            }
            for one in named {
                if let Some(to) = names.resolve(&one.module, &one.segments, 0)
                    && to != from
                    && !test_only(&names.files[to].module)
                {
                    let what = (one.line, one.segments.join("::"));
                    names.files[from].edges.entry(to).or_insert(what);
                }
            }
        }
        names.without(|file| test_only(&file.module))
    }

    /// Removes the files that `removed` selects and the edges to them.
    fn without(mut self, removed: impl Fn(&File) -> bool) -> Names {
        let mut kept = 0;
        let number = |file: &File| {
            let keep = !removed(file);
            kept += usize::from(keep);
            keep.then(|| kept - 1)
        };
        let numbers = self.files.iter().map(number).collect::<Vec<_>>();
        self.files.retain(|file| !removed(file));
        for file in &mut self.files {
            let edges = std::mem::take(&mut file.edges).into_iter();
            file.edges = edges
                .filter_map(|(to, why)| Some((numbers[to]?, why)))
                .collect();
        }
        self
    }

    /// The file that defines the item that the path `segments` names in `module`.
    fn resolve(&self, module: &Path, segments: &[String], depth: usize) -> Option<usize> {
        let (first, rest) = segments.split_first()?;
        if depth > 20 {
            return None;
        }
        match first.as_str() {
            "crate" => self.look_up(&Vec::new(), rest, depth),
            "self" => self.look_up(module, rest, depth),
            "super" => self.resolve_in_parent(module, rest, depth),
            _ => {
                let child = [&module[..], std::slice::from_ref(first)].concat();
                let known = self.modules.contains_key(&child);
                let imported = || self.import(module, first).is_some();
                (known || imported()).then(|| self.look_up(module, segments, depth))?
            }
        }
    }

    fn resolve_in_parent(&self, module: &Path, rest: &[String], depth: usize) -> Option<usize> {
        let parent = module[..module.len().checked_sub(1)?].to_vec();
        match rest.first().map(String::as_str) {
            Some("super") => self.resolve_in_parent(&parent, &rest[1..], depth),
            _ => self.look_up(&parent, rest, depth),
        }
    }

    fn import(&self, module: &Path, name: &str) -> Option<&Path> {
        let imports = self.imports.get(module)?;
        imports
            .iter()
            .find(|(alias, _)| alias == name)
            .map(|(_, path)| path)
    }

    /// The file that defines `segments` of `module`.
    fn look_up(&self, module: &Path, segments: &[String], depth: usize) -> Option<usize> {
        let file = *self.modules.get(module)?;
        let Some((first, rest)) = segments.split_first() else {
            return Some(file);
        };
        let child = [&module[..], std::slice::from_ref(first)].concat();
        if self.modules.contains_key(&child) {
            return self.look_up(&child, rest, depth);
        }
        if let Some(path) = self.import(module, first) {
            // Imported from this crate or from another.
            let whole = [&path[..], rest].concat();
            return self.resolve(module, &whole, depth + 1);
        }
        if !self.files[file].defines.contains(first) {
            let globs = self.imports.get(module).into_iter().flatten();
            for (_, path) in globs.filter(|(alias, _)| alias == "*") {
                let through = self.resolve(module, path, depth + 1);
                if through.is_some_and(|f| self.files[f].defines.contains(first)) {
                    return through;
                }
            }
        }
        Some(file)
    }

    /// Strongly connected components with an edge that does not join parent and child.
    pub(super) fn cycles(&self) -> Vec<BTreeSet<usize>> {
        let reach = (0..self.files.len())
            .map(|f| self.reached(f))
            .collect::<Vec<_>>();
        let mut seen = BTreeSet::new();
        let mut cycles = Vec::new();
        for file in 0..self.files.len() {
            let back = |other: &&usize| reach[**other].contains(&file);
            let component = reach[file]
                .iter()
                .filter(back)
                .copied()
                .collect::<BTreeSet<_>>();
            let odd = |f: &usize| {
                let edges = self.files[*f]
                    .edges
                    .keys()
                    .filter(|e| component.contains(e));
                edges.into_iter().any(|e| !self.parent_and_child(*f, *e))
            };
            if seen.insert(component.clone()) && component.iter().any(odd) {
                cycles.push(component);
            }
        }
        cycles
    }

    fn parent_and_child(&self, a: usize, b: usize) -> bool {
        let (a, b) = (&self.files[a].module, &self.files[b].module);
        let (short, long) = if a.len() < b.len() { (a, b) } else { (b, a) };
        long.len() == short.len() + 1 && long.starts_with(short)
    }

    fn reached(&self, from: usize) -> BTreeSet<usize> {
        let mut reached = BTreeSet::new();
        let mut left = vec![from];
        while let Some(file) = left.pop() {
            left.extend(
                self.files[file]
                    .edges
                    .keys()
                    .filter(|e| reached.insert(**e)),
            );
        }
        reached
    }
}
