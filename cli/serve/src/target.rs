//! The target of debuggers: a dump with its kernel, threads and modules.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use livecore_kernel::PlacedSection;
use livecore_kernel::debug_file;
use livecore_kernel::{Functions, Kernel, Module, Modules, Pair, Thread};

use livecore_minidump::{DumpMemory, VirtAddr};

use super::check::Check;
use super::command;
use super::error::ServeError;
use super::machine::{Machine, Register, THREAD_REGISTER};
use super::memory::Regions;
use super::problem::Problem;
use livecore_defs::text::printable;

/// Threads whose own id cannot be used (0, negative or not unique) get ids from here on.
const REPLACEMENT_IDS: u64 = 0x4000_0000;
/// The most module files that are opened; each keeps a descriptor.
const MODULE_FILES: usize = 512;
/// The most modules of the same name that a file is compared with.
const TRIES: u32 = 4;
/// The most functions of modules that are stored.
const FUNCTIONS: usize = 1 << 20;

/// A thread in the debuggers' list.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The number in the protocol: the kernel's `td_tid`.
    pub(crate) id: u64,
    /// `(pid N) comm[/name]` and the state, escaped.
    pub(crate) title: String,
    /// The kernel's thread; `None` for the placeholder if there is no list.
    pub(crate) thread: Option<Thread>,
}

/// A module whose file was found and can be named in debugger commands.
#[derive(Debug)]
pub struct ModuleFile {
    /// The address of its `struct linker_file`.
    pub(crate) at: VirtAddr,
    /// The name: `zfs.ko`.
    pub(crate) name: String,
    /// The file.
    pub(crate) path: PathBuf,
    /// The path, quoted for a command.
    quoted: String,
    /// The addresses of its sections.
    pub(crate) sections: Vec<PlacedSection>,
}

impl ModuleFile {
    /// The file `path` of `module`. Fails if a command cannot contain its path or a section's name.
    fn new(module: &Module, path: PathBuf, sections: Vec<PlacedSection>) -> Result<Self, Problem> {
        let unsafe_name = sections
            .iter()
            .find_map(|s| command::section(&s.name).err());
        if let Some(why) = unsafe_name {
            return Err(Problem::UnsafeSection { path, why });
        }
        let quoted = match command::quoted(&path) {
            Ok(quoted) => quoted,
            Err(why) => return Err(Problem::UnsafePath { path, why }),
        };
        Ok(Self {
            at: module.at,
            name: module.name.clone(),
            quoted,
            path,
            sections,
        })
    }

    /// The address of `.text`, or else of the first section.
    pub fn text(&self) -> VirtAddr {
        let text = self.sections.iter().find(|s| s.name == ".text");
        text.or(self.sections.first())
            .map_or(VirtAddr(0), |s| s.address)
    }

    /// GDB's command that loads its symbols.
    pub fn command(&self) -> String {
        let mut line = format!("add-symbol-file {} {:#x}", self.quoted, self.text());
        for section in &self.sections {
            if section.name != ".text" && section.size > 0 && !section.name.is_empty() {
                line += &format!(" -s {} {:#x}", section.name, section.address);
            }
        }
        line
    }

    /// lldb's command that sets the addresses of its sections.
    pub fn lldb_command(&self) -> String {
        let mut line = format!("target modules load --file {}", self.quoted);
        for section in &self.sections {
            if section.size > 0 && !section.name.is_empty() {
                line += &format!(" {} {:#x}", section.name, section.address);
            }
        }
        line
    }
}

/// A file that debuggers can read through the protocol.
#[derive(Debug)]
pub(crate) struct SharedFile {
    pub(crate) path: String,
    pub(crate) file: File,
    pub(crate) len: u64,
}

/// A dump that is served.
pub struct Served {
    pub(crate) pair: Pair,
    kernel: Kernel<'static>,
    /// The dump's memory, at the kernel's addresses.
    pub(crate) memory: Arc<dyn DumpMemory>,
    pub(crate) name: PathBuf,
    pub(crate) kernel_path: PathBuf,
    pub(crate) machine: Machine,
    pub(crate) gdb: Vec<Register>,
    pub(crate) lldb: Vec<Register>,
    /// The threads. The first is selected at the start: the one that crashed.
    pub(crate) threads: Vec<Entry>,
    by_id: HashMap<u64, usize>,
    pub(crate) modules: Modules,
    pub(crate) module_files: Vec<ModuleFile>,
    pub(crate) files: Vec<SharedFile>,
    problems: Vec<Problem>,
    pub(crate) regions: OnceLock<Regions>,
    pub(crate) threads_xml: OnceLock<String>,
    /// The functions of each of `module_files`.
    functions: OnceLock<Vec<FunctionList>>,
    /// The check of `monitor verify`.
    pub(crate) check: Option<Check>,
}

impl Served {
    /// Serves the dump `name` with its kernel. Searches for the files of its modules in `places`,
    /// in the kernel's and the dump's directory, and in the directories they were loaded from.
    ///
    /// # Errors
    ///
    /// The kernel's processor is not supported.
    pub fn new(pair: Pair, name: impl AsRef<Path>, places: &[PathBuf]) -> Result<Self, ServeError> {
        let name = name.as_ref();
        let number = pair.elf().machine();
        let Some(machine) = Machine::of(number) else {
            return Err(ServeError::Machine {
                machine: number.0,
                kernel: pair.path().to_owned(),
            });
        };
        let mut problems = Vec::new();
        let kernel = pair.kernel();
        let threads = entries(&kernel, &mut problems);
        let modules = kernel.modules().unwrap_or_else(|error| {
            problems.push(Problem::Modules(error.to_string()));
            Modules::default()
        });
        problems.extend(modules.problems.iter().cloned().map(Problem::Modules));
        let by_id = (0..).zip(&threads).map(|(at, t)| (t.id, at)).collect();
        let path = pair.path().canonicalize();
        let path = path.unwrap_or_else(|_| pair.path().to_owned());
        let mut served = Self {
            gdb: machine.gdb_registers(),
            lldb: machine.lldb_registers(),
            machine,
            threads,
            by_id,
            modules,
            module_files: Vec::new(),
            files: Vec::new(),
            problems,
            regions: OnceLock::new(),
            threads_xml: OnceLock::new(),
            functions: OnceLock::new(),
            check: None,
            memory: pair.memory(),
            pair,
            kernel,
            name: name.to_owned(),
            kernel_path: path,
        };
        served.find_module_files(places);
        served.share_files();
        Ok(served)
    }

    /// Sets the check that `monitor verify` runs.
    #[must_use]
    pub fn with_check(mut self, check: Check) -> Self {
        self.check = Some(check);
        self
    }

    /// The kernel in the dump.
    pub(crate) fn kernel(&self) -> &Kernel<'static> {
        &self.kernel
    }

    /// What was not found or could not be read.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The kernel file.
    pub fn kernel_path(&self) -> &Path {
        &self.kernel_path
    }

    /// FreeBSD's name of the processor.
    pub fn architecture(&self) -> &'static str {
        self.pair.dump().arch().name
    }

    /// GDB's name of the processor.
    pub fn gdb_architecture(&self) -> &'static str {
        self.machine.names.gdb
    }

    /// The number of threads.
    pub fn thread_count(&self) -> usize {
        self.threads.len()
    }

    /// The loaded kernel modules.
    pub fn modules(&self) -> &Modules {
        &self.modules
    }

    /// The modules whose files were found.
    pub fn module_files(&self) -> &[ModuleFile] {
        &self.module_files
    }

    /// The index of the thread `id` in the list.
    pub(crate) fn thread_of(&self, id: u64) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// The known values of a thread's registers, in the order of `list`.
    pub(crate) fn values(&self, thread: usize, list: &[Register]) -> Vec<Option<u64>> {
        let thread = self.threads.get(thread).and_then(|e| e.thread.as_ref());
        let saved = thread.and_then(|thread| self.kernel().registers(thread).ok());
        list.iter()
            .map(|register| match register.name.as_str() {
                THREAD_REGISTER => Some(thread.map_or(0, |t| t.at.0)),
                name => saved.as_ref()?.get(name),
            })
            .collect()
    }

    fn find_module_files(&mut self, search: &[PathBuf]) {
        let mut directories: Vec<PathBuf> = search.iter().filter(|p| p.is_dir()).cloned().collect();
        directories.extend(self.kernel_path.parent().map(Path::to_owned));
        let dump = self.name.canonicalize();
        directories.extend(dump.ok().and_then(|p| p.parent().map(Path::to_owned)));
        // A file is loaded once. A damaged list may name it many times.
        let mut tried: HashMap<PathBuf, u32> = HashMap::new();
        for module in self.modules.list.iter().filter(|m| !m.is_kernel) {
            if self.module_files.len() >= MODULE_FILES {
                self.problems.push(Problem::TooManyModules);
                break;
            }
            let recorded = Path::new(&module.path);
            let Some(file_name) = recorded.file_name().or(Path::new(&module.name).file_name())
            else {
                continue;
            };
            let mut candidates: Vec<PathBuf> =
                directories.iter().map(|d| d.join(file_name)).collect();
            if recorded.is_absolute() {
                candidates.push(recorded.to_owned());
            }
            for path in candidates.into_iter().filter(|p| p.is_file()) {
                let path = path.canonicalize().unwrap_or(path);
                let tries = tried.entry(path.clone()).or_default();
                if *tries >= TRIES {
                    continue;
                }
                *tries += 1;
                let file = match File::open(&path) {
                    Ok(file) => file,
                    Err(source) => {
                        let problem = Problem::UnreadableModule { path, source };
                        self.problems.push(problem);
                        continue;
                    }
                };
                match self.kernel.place(module, &file) {
                    Ok(sections) => {
                        *tries = TRIES;
                        match ModuleFile::new(module, path.clone(), sections) {
                            Ok(file) => self.module_files.push(file),
                            Err(problem) => self.problems.push(problem),
                        }
                        break;
                    }
                    Err(why) => self.problems.push(Problem::OtherModule {
                        path,
                        module: module.name.clone(),
                        why: Box::new(why),
                    }),
                }
            }
        }
    }

    fn share_files(&mut self) {
        let debug = debug_file(&self.kernel_path);
        let paths = std::iter::once(self.kernel_path.clone())
            .chain(debug)
            .chain(self.module_files.iter().map(|m| m.path.clone()));
        for path in paths {
            let opened = File::open(&path).and_then(|file| {
                let len = file.metadata()?.len();
                Ok((file, len))
            });
            // Skip a file that has been removed meanwhile.
            if let (Ok((file, len)), Some(path)) = (opened, path.to_str()) {
                let path = path.to_owned();
                self.files.push(SharedFile { path, file, len });
            }
        }
    }
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served")
            .field("name", &self.name)
            .field("kernel", &self.kernel_path)
            .field("threads", &self.threads.len())
            .finish_non_exhaustive()
    }
}

/// The threads: first the one that crashed, or else one whose registers are known, then the others
/// in the kernel's order. There is always one, since debuggers do not support a target without
/// threads.
fn entries(kernel: &Kernel<'_>, problems: &mut Vec<Problem>) -> Vec<Entry> {
    let list = match kernel.processes() {
        Ok(found) => {
            problems.extend(found.problems.into_iter().map(Problem::Threads));
            found.list.into_iter().flat_map(|p| p.threads).collect()
        }
        Err(error) => {
            problems.push(Problem::Threads(error.to_string()));
            Vec::new()
        }
    };
    let mut used = HashSet::new();
    let mut entries: Vec<Entry> = (REPLACEMENT_IDS..)
        .zip(list)
        .map(|(made_up, thread)| {
            let own = u64::try_from(thread.tid).ok();
            let id = own
                .filter(|id| (1..REPLACEMENT_IDS).contains(id) && used.insert(*id))
                .unwrap_or(made_up);
            Entry {
                id,
                title: printable(&thread.title()),
                thread: Some(thread),
            }
        })
        .collect();
    if let Some(at) = entries.iter().position(Entry::crashed) {
        entries[..=at].rotate_right(1);
    }
    // gdb does not connect if the first thread has no registers, as on a CPU that was not stopped.
    let has_registers = |entry: &Entry| {
        let registers = entry.thread.as_ref().map(|t| kernel.registers(t));
        matches!(registers, Some(Ok(r)) if r.pc().is_some())
    };
    if let Some(at) = entries.iter().position(has_registers) {
        entries[..=at].rotate_right(1);
    }
    if entries.is_empty() {
        entries.push(Entry {
            id: REPLACEMENT_IDS,
            title: "threads cannot be listed".into(),
            thread: None,
        });
    }
    entries
}

impl Entry {
    /// Whether the thread wrote the dump.
    pub(crate) fn crashed(&self) -> bool {
        let context = self.thread.as_ref().map(|t| t.context);
        context == Some(livecore_kernel::Context::Crashed)
    }

    /// The CPU of the thread.
    pub(crate) fn cpu(&self) -> Option<u32> {
        self.thread.as_ref()?.cpu
    }
}

/// Functions with their addresses, in ascending order.
type FunctionList = Vec<(VirtAddr, String)>;
/// A module, its file, and its functions.
type WithFunctions<'a> = (&'a Module, &'a ModuleFile, &'a FunctionList);

/// The functions of loaded modules. Without a module file, a function is an offset from the
/// module's address.
pub(crate) struct ModuleSymbols<'a> {
    all: &'a Modules,
    found: Vec<WithFunctions<'a>>,
}

impl<'a> ModuleSymbols<'a> {
    pub(crate) fn of(served: &'a Served) -> Self {
        let module = |file: &ModuleFile| served.modules.list.iter().find(|m| m.at == file.at);
        let functions = served.functions.get_or_init(|| {
            let mut left = FUNCTIONS;
            let read = |file: &ModuleFile| {
                let opened = File::open(&file.path).ok().filter(|_| left > 0);
                let mut functions = opened
                    .zip(module(file))
                    .map(|(opened, module)| module.functions(&opened, &file.sections))
                    .unwrap_or_default();
                functions.truncate(left);
                left -= functions.len();
                functions
            };
            served.module_files.iter().map(read).collect()
        });
        let found = served.module_files.iter().zip(functions);
        let found = found
            .filter_map(|(file, functions)| Some((module(file)?, file, functions)))
            .collect();
        let all = &served.modules;
        Self { all, found }
    }

    fn named(&self, at: VirtAddr) -> Option<(String, u64)> {
        let (_, file, functions) = (self.found.iter())
            .find(|(m, ..)| at.offset_from(m.address).is_some_and(|skip| skip < m.size))?;
        let after = functions.partition_point(|(start, _)| *start <= at);
        let (start, name) = functions.get(after.checked_sub(1)?)?;
        Some((format!("{}`{name}", file.name), at.0 - start.0))
    }
}

impl Functions for ModuleSymbols<'_> {
    fn function(&self, at: VirtAddr) -> Option<(String, u64)> {
        self.named(at).or_else(|| self.all.function(at))
    }
}
