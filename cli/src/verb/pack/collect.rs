//! Finds the files of a pack.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use livecore_compress::{NoProgress, Progress, ReadAt};
use livecore_defs::text::hex;
use livecore_kernel::{Pair, debug_file};
use livecore_minidump::elf::sections::Sections;
use livecore_minidump::pack::{self, Contents, Kind, Manifest, Member, Missing, is_usable};
use livecore_minidump::{AnyDump, info};

use crate::failure::Failure;
use crate::id::Id;
use crate::text::Bytes;

/// Maximum number of modules. A kernel has fewer; a damaged list may have more.
const MODULES: usize = 512;

/// The members of a pack.
pub(super) struct Collected {
    pub(super) manifest: Manifest,
    /// The contents of the members, in the order of the manifest.
    pub(super) contents: Contents,
    files: Vec<Opened>,
}

/// An open file, and what shows that it changed.
struct Opened {
    path: PathBuf,
    file: Arc<File>,
    size: u64,
    modified: Option<SystemTime>,
}

impl Collected {
    /// A pack of `dump`, without members.
    pub(super) fn new(dump: &AnyDump, name: &Path) -> Result<Self, Failure> {
        let attachment = dump.envelope().stream().attachment();
        let seal = attachment.map(|bytes| pack::digest(&bytes, &NoProgress));
        let seal = seal.transpose().map_err(|e| Failure::from(e).about(name))?;
        let header = dump.envelope().kerneldumpheader();
        let version = header.map(|header| String::from_utf8_lossy(&header.versionstring));
        Ok(Self {
            manifest: Manifest {
                schema: crate::json::SCHEMA,
                pack: pack::VERSION,
                livecore: env!("CARGO_PKG_VERSION").into(),
                architecture: dump.arch().name.into(),
                kernel_version: version.map(|text| text.trim_end().to_owned()),
                seal: seal.map(|(_, digest)| digest),
                ..Manifest::default()
            },
            contents: Contents::new(),
            files: Vec::new(),
        })
    }

    /// Size of the contents in bytes.
    pub(super) fn size(&self) -> u64 {
        self.manifest.members.iter().map(|member| member.size).sum()
    }

    /// Records that a file is missing.
    pub(super) fn lacks(&mut self, name: &str, kind: Kind, why: &str) {
        self.manifest.missing.push(Missing {
            name: name.into(),
            kind,
            why: why.into(),
        });
    }

    /// Adds the kernel, the files of its modules and their debug files.
    pub(super) fn add_kernel(
        &mut self,
        pair: &Pair,
        places: &[PathBuf],
        dump: &Path,
        progress: &dyn Progress,
    ) -> Result<(), Failure> {
        self.add(pack::KERNEL, Kind::Kernel, pair.path(), progress)?;
        self.add_debug(pack::KERNEL, pair.path(), progress)?;
        let kernel = pair.kernel();
        // Without the list of modules, their names are unknown.
        let modules = kernel.modules().unwrap_or_default();
        let mut directories: Vec<PathBuf> = places.iter().filter(|p| p.is_dir()).cloned().collect();
        for path in [pair.path(), dump] {
            let real = path.canonicalize().ok();
            directories.extend(real.and_then(|path| path.parent().map(Path::to_owned)));
        }
        let mut names = HashSet::new();
        let others = modules.list.iter().filter(|module| !module.is_kernel);
        for module in others.take(MODULES) {
            let recorded = Path::new(&module.path);
            let file = recorded.file_name().and_then(|name| name.to_str());
            let file = file.unwrap_or(&module.name);
            let name = format!("kernel/{file}");
            if !is_usable(&name) || file.contains('/') || !names.insert(name.clone()) {
                continue;
            }
            let candidates = directories.iter().map(|directory| directory.join(file));
            let candidates = candidates.chain(recorded.is_absolute().then(|| recorded.to_owned()));
            let mut why = "not found".to_owned();
            let mut found = None;
            for path in candidates.filter(|path| path.is_file()) {
                match File::open(&path).map(|file| kernel.place(module, &file)) {
                    Ok(Ok(_)) => {
                        found = Some(path);
                        break;
                    }
                    Ok(Err(error)) => why = error.to_string(),
                    Err(error) => why = error.to_string(),
                }
            }
            match found {
                Some(path) => {
                    self.add(&name, Kind::Module, &path, progress)?;
                    self.add_debug(&name, &path, progress)?;
                }
                None => self.lacks(&name, Kind::Module, &why),
            }
        }
        Ok(())
    }

    /// Adds the debug file of the member `name`, the file `path`.
    fn add_debug(
        &mut self,
        name: &str,
        path: &Path,
        progress: &dyn Progress,
    ) -> Result<(), Failure> {
        let debug = format!("{name}.debug");
        if !is_usable(&debug) {
            return Ok(());
        }
        match debug_file(path) {
            Some(path) => self.add(&debug, Kind::Debug, &path, progress),
            None => {
                self.lacks(&debug, Kind::Debug, "not found");
                Ok(())
            }
        }
    }

    /// Adds the info file and the dump, the file `path`.
    pub(super) fn add_dump(
        &mut self,
        dump: &AnyDump,
        path: &Path,
        progress: &dyn Progress,
    ) -> Result<(), Failure> {
        let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let file = real.file_name().and_then(|name| name.to_str());
        let file = file.filter(|name| is_usable(name) && *name != pack::MANIFEST);
        let of_codec = || format!("vmcore{}", dump.envelope().codec().suffix());
        let name = file.map_or_else(of_codec, str::to_owned);
        if let Some(info) = info::path_of(path)
            && let Some(name) = info.file_name().and_then(|name| name.to_str())
            && info::read(&info).is_ok_and(|bytes| (bytes.len() as u64) < info::MAX_LEN)
        {
            let name = name.to_owned();
            self.add(&name, Kind::Info, &info, progress)?;
        }
        self.add(&name, Kind::Dump, path, progress)?;
        // The order is that in which the members are read.
        let mut all: Vec<_> = self
            .manifest
            .members
            .drain(..)
            .zip(self.contents.drain(..))
            .collect();
        all.sort_by_key(|(member, _)| member.kind);
        (self.manifest.members, self.contents) = all.into_iter().unzip();
        Ok(())
    }

    fn add(
        &mut self,
        name: &str,
        kind: Kind,
        path: &Path,
        progress: &dyn Progress,
    ) -> Result<(), Failure> {
        let about = |failure: Failure| failure.about(path);
        let file = Arc::new(File::open(path).map_err(|e| about(e.into()))?);
        let is_elf = matches!(kind, Kind::Kernel | Kind::Module | Kind::Debug);
        let len = file.size().map_err(|e| about(e.into()))?;
        if is_elf && len > pack::FILE_MAX {
            let what = format_args!(
                "{}, a pack accepts files of at most {}",
                Bytes(len),
                Bytes(pack::FILE_MAX)
            );
            return Err(about(Failure::could_not(what).id_is(Id::TooLarge)));
        }
        let found = pack::digest(&file, progress);
        let (size, sha256) = found.map_err(|e| about(e.into()))?;
        let build_id = || Sections::read(&file).ok()?.build_id(&file);
        let build_id = is_elf.then(build_id).flatten();
        self.manifest.members.push(Member {
            name: name.into(),
            kind,
            size,
            sha256,
            build_id: build_id.map(|(id, _)| hex(&id)),
        });
        self.files.push(Opened {
            path: path.into(),
            file: Arc::clone(&file),
            size,
            modified: file.modified(),
        });
        self.contents.push(file);
        Ok(())
    }

    /// Checks that no file changed since its digest was computed.
    pub(super) fn require_unchanged(&self) -> Result<(), Failure> {
        let changed = self.files.iter().find(|opened| {
            let size = opened.file.size().ok();
            size != Some(opened.size) || opened.file.modified() != opened.modified
        });
        match changed {
            Some(opened) => {
                let what = "changed while it was packed";
                Err(Failure::could_not(what).about(&opened.path))
            }
            None => Ok(()),
        }
    }
}
