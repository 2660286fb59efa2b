//! The files, sockets and programs that each verb needs. The sandbox denies all others.
//!
//! docs/sandbox.md lists the permissions.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use livecore_compress::{Codec, ReadAt};
use livecore_livedump::gdb;
use livecore_livedump::publish::Destination;
use livecore_livedump::qmp::Address;
use livecore_livedump::sys::sandbox::{self, Allowed, Files, Sockets};

use crate::debuginfod;
use crate::emulated;
use crate::env::{Env, make_private};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::input::KernelArgs;
use crate::remote::is_remote;
use crate::sandbox_mode::{Mode, VARIABLE};
use crate::verb::Verb;
use crate::verb::mem::Operation;
use crate::verb::mem::source::Source;

/// Maximum number of symbolic links whose targets are permitted.
const LINKS: usize = 1024;

/// Directories with kernels and debug files.
const KERNELS: [&str; 2] = ["/boot", "/usr/lib/debug"];

/// Files that the standard library and the time zone code read.
const SYSTEM: [&str; 5] = [
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/proc/self/cgroup",
    "/proc/self/mountinfo",
    "/sys/fs/cgroup",
];

/// Files that an HTTP client needs: addresses of hosts, and certificates.
const NETWORK: [&str; 14] = [
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/pki",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl",
    "/run/systemd/resolve",
    "/usr/local/etc/ssl",
    "/usr/local/share/certs",
    "/usr/share/ca-certificates",
    "/usr/share/certs",
];

/// Environment variables that name more of them, or files with credentials.
const NETWORK_VARIABLES: [&str; 4] = [
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

/// Restricts the process to what `verb` needs. Call it before the first thread starts.
///
/// # Errors
///
/// Fails if `LIVECORE_SANDBOX=require` and a part of the sandbox is not available.
pub(crate) fn enter(verb: &Verb, env: &Env) -> Result<(), Failure> {
    let allowed = match env.sandbox {
        Mode::Off => None,
        _ => allowed(verb, env),
    };
    let Some(allowed) = allowed else {
        return Ok(());
    };
    let status = sandbox::enter(&allowed);
    match status.missing() {
        Some(part) if env.sandbox == Mode::Require => {
            let failure = Failure::new(Exit::COULD_NOT, part)
                .id_is(Id::NoSandbox)
                .about("sandbox".as_ref());
            Err(failure.next(format_args!("use {VARIABLE}=try to run without it")))
        }
        _ => Ok(()),
    }
}

/// Enters the strictest sandbox and returns the state of each of its parts, one per line. For
/// `livecore --version -v`, which only prints afterwards.
pub(crate) fn report(args: &[OsString], env: &Env) -> String {
    let no_sandbox = args.iter().any(|arg| arg == "--no-sandbox");
    let parts = match Mode::asked(no_sandbox) {
        Err(failure) => return format!("sandbox: {failure}\n"),
        Ok(Mode::Off) => return "sandbox: off\n".into(),
        Ok(_) if !env.is_process => return "sandbox: off (livecore is used as a library)\n".into(),
        Ok(_) => sandbox::enter(&Allowed {
            files: Some(Files::default()),
            closes_paths: true,
            ..Allowed::default()
        }),
    };
    let lines = parts.parts.iter().map(|part| format!("sandbox: {part}\n"));
    lines.collect()
}

/// The permissions of `verb`. `None` if the verb parses no untrusted file, or dumps the running system.
fn allowed(verb: &Verb, env: &Env) -> Option<Allowed> {
    let mut files = Access::new(env);
    let mut sockets = Sockets::None;
    let mut programs = false;
    let mut text = None;
    match verb {
        Verb::Info(args) => args.dumps.iter().for_each(|path| {
            files.dump(path);
            files.cache(path, env);
        }),
        Verb::Verify(args) => {
            args.dumps.iter().for_each(|path| files.dump(path));
            for directory in args.dumps.iter().filter(|path| path.is_dir()) {
                files.links(directory, args.recursive);
            }
            files.kernel(args.kernel.as_deref());
        }
        Verb::Group(args) => {
            args.dumps.iter().for_each(|path| files.dump(path));
            for directory in args.dumps.iter().filter(|path| path.is_dir()) {
                files.links(directory, args.recursive);
            }
            // Thousands of files are in few directories.
            files.0.read.sort();
            files.0.read.dedup();
            files.kernel(None);
            files.kernels(&args.kernel_path);
        }
        Verb::List(args) => {
            files.dump(&args.directory);
            if args.signatures {
                files.kernel(None);
                files.kernels(&args.kernel_path);
            }
            if args.prune {
                files.0.write.push(args.directory.clone());
            }
        }
        Verb::Compare(args) => {
            files.dump(&args.a);
            files.dump(&args.b);
            files.kernel(args.kernel.as_deref());
        }
        Verb::Convert(args) => {
            files.dump(&args.input);
            files.cache(&args.input, env);
            files.kernel(args.kernel.as_deref());
            files.kernels(&args.kernel_path);
            args.encryption
                .encrypt
                .iter()
                .for_each(|path| files.read(path));
            files.output(&args.output);
        }
        Verb::Decrypt(args) => {
            files.dump(&args.input);
            files.output(&args.output);
        }
        Verb::Salvage(args) => {
            files.dump(&args.input);
            files.output(&args.output);
        }
        Verb::Export(args) => {
            files.dump(&args.dump);
            files.cache(&args.dump, env);
            files.output(&args.output);
        }
        Verb::Estimate(args) => {
            match &args.image {
                Some(image) => {
                    files.dump(image);
                    files.kernel(args.kernel.as_deref());
                }
                None => args.dump.iter().for_each(|dump| {
                    files.dump(dump);
                    files.cache(dump, env);
                }),
            }
            files.0.read.extend(args.directory());
        }
        Verb::Pack(args) => {
            files.dump_and_kernel(&args.dump, &args.kernel(), env);
            files.output(&args.output());
        }
        Verb::Read(args) => files.dump_and_kernel(&args.dump, &args.kernel, env),
        Verb::Dmesg(args) => files.dump_and_kernel(args.dump.path(), &args.kernel, env),
        Verb::Ps(args) => files.dump_and_kernel(args.dump.path(), &args.kernel, env),
        Verb::Threads(args) => files.dump_and_kernel(args.dump.path(), &args.kernel, env),
        Verb::Triage(args) => {
            files.dump_and_kernel(args.dump.path(), &args.kernel, env);
            args.html.iter().for_each(|path| files.output(path));
            if let Some(other) = &args.compare {
                files.dump(other);
                files.cache(other, env);
            }
        }
        Verb::Isf(args) => {
            files.kernel(Some(&args.kernel));
            files.output(&args.output);
        }
        // It is mounted, and another process unmounts it.
        Verb::Mount(args) => files.dump_and_kernel(&args.dump, &args.kernel, env),
        Verb::Serve(args) => {
            files.dump_and_kernel(args.dump.path(), &args.kernel, env);
            // `serve` removes its Unix socket. Without --unix, the socket is in one of these.
            match &args.unix {
                Some(path) => files.0.remove.push(parent(path).to_owned()),
                None if args.stdio || args.listen.is_some() => {}
                None => {
                    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
                    files.0.remove.extend(runtime);
                    files.0.remove.push("/tmp".into());
                }
            }
            sockets = match args.stdio {
                true => Sockets::None,
                false => Sockets::Listening,
            };
        }
        Verb::Synth(args) => {
            text = Some(&args.machine);
            files.output_directory(&args.out);
        }
        Verb::Take(args) => {
            files.output(&args.out);
            args.encryption
                .encrypt
                .iter()
                .for_each(|path| files.read(path));
            files.kernel(args.kernel.as_deref());
            if let Some(stub) = &args.gdb {
                sockets = match gdb::address(stub) {
                    Address::Unix(path) => Sockets::Unix(path),
                    Address::Tcp(_, port) => {
                        files.network();
                        Sockets::Tcp(port)
                    }
                };
            }
            match (&args.machine, &args.image, &args.qmp) {
                (Some(machine), ..) => text = Some(machine),
                (_, Some(image), _) => files.dump(image),
                // QEMU names the file with the guest's memory. The guard process runs this program.
                (.., Some(socket)) => {
                    files.0.read.push("/".into());
                    // The standard streams of the guard.
                    files.0.write.push("/dev/null".into());
                    files.0.run.extend(std::env::current_exe());
                    sockets = match Address::find(socket) {
                        Address::Unix(path) => Sockets::Unix(path),
                        Address::Tcp(_, port) => Sockets::Tcp(port),
                    };
                    programs = true;
                }
                _ if args.gdb.is_some() => {}
                _ => return None,
            }
        }
        Verb::Save(args) => {
            let devices = args.devices().unwrap_or_default();
            files.disks(&devices, args.clears());
            args.encryption
                .encrypt
                .iter()
                .for_each(|path| files.read(path));
            let directory = args.split().0;
            if !args.check && !args.clear && is_remote(directory) {
                files.1 = true;
            } else if !args.check && !args.clear {
                files.0.write.push(directory.to_owned());
            }
        }
        Verb::Clear(args) => files.disks(&args.devices, true),
        Verb::Mem(args) => match &args.operation {
            Operation::Read(args) => text = files.machine(&args.source, false)?,
            Operation::Kerneldump(args) => text = files.machine(&args.source, false)?,
            Operation::Paddr(args) => text = files.machine(&args.source, false)?,
            Operation::Write(args) => {
                text = files.machine(&args.source, true)?;
                args.from.iter().for_each(|path| files.read(path));
            }
            Operation::Ranges(args) => text = files.machine(args.source(), true)?,
        },
        // Sockets, names of hosts and the process for hooks are open.
        Verb::Netdump(args) => {
            files.0.write.push(args.out.clone());
            files
                .0
                .write
                .extend(args.metrics.as_deref().map(parent).map(Path::to_owned));
        }
        // The debugger inherits the restrictions.
        Verb::Gdb(_) | Verb::Drgn(_) | Verb::Kgdb(_) => {
            return Some(Allowed {
                files: None,
                sockets: Sockets::All,
                programs: true,
                closes_paths: false,
            });
        }
        // It parses QEMU's messages only. Its dumps are those of `take`, `verify` and `triage`, which run as
        // programs with their own sandboxes; the command of --hook has none.
        Verb::Watch(_) => return None,
        Verb::Cache(_)
        | Verb::Completions(_)
        | Verb::Man(_)
        | Verb::QmpGuard
        | Verb::KgdbGuard(_)
        | Verb::MountGuard(_)
        | Verb::NetdumpHook(_) => return None,
    }
    files.downloads(env);
    if files.1 {
        // `serve` also accepts connections to the socket that it has opened.
        sockets = match sockets {
            Sockets::Listening => Sockets::All,
            _ => Sockets::Connecting,
        };
        files.network();
    }
    let is_remote = files.1;
    let compiles = text.is_some_and(|path| emulated::runs_compiler(path));
    text.iter().for_each(|path| files.read(path));
    programs |= compiles;
    Some(Allowed {
        // A compiler reads and writes files that livecore does not know.
        files: Some(files.0).filter(|_| !compiles),
        sockets,
        programs,
        closes_paths: match verb {
            _ if is_remote => false,
            Verb::Verify(_) => true,
            // To name a page, `compare` opens the dumps again.
            Verb::Compare(args) => args.kernel.is_none(),
            _ => false,
        },
    })
}

/// The files that a verb may use.
struct Access(
    Files,
    /// Whether it connects to other hosts: an input or an output is on an object store, or it downloads kernels.
    bool,
);

impl Access {
    /// The files that every verb needs.
    fn new(env: &Env) -> Self {
        let files = Files {
            read: SYSTEM.iter().map(PathBuf::from).collect(),
            write: vec![env.spool_dir.clone()],
            ..Files::default()
        };
        let mut files = Self(files, false);
        if let Some(kernel) = &env.kernel {
            files.kernel(Some(kernel));
        }
        files.kernels(&env.kernel_path);
        files
    }

    /// What an HTTP client reads: the addresses of hosts, certificates and credentials.
    fn network(&mut self) {
        self.0.read.extend(NETWORK.map(PathBuf::from));
        let named = NETWORK_VARIABLES.iter().filter_map(std::env::var_os);
        self.0.read.extend(named.map(PathBuf::from));
    }

    fn read(&mut self, path: &Path) {
        if path != Path::new("-") {
            self.0.read.push(path.to_owned());
        }
    }

    /// Disks or their images.
    fn disks(&mut self, disks: &[PathBuf], changes: bool) {
        for disk in disks {
            self.read(disk);
            if changes {
                self.0.write.push(disk.clone());
            }
        }
    }

    /// A dump or an image, and the files in its directory.
    fn dump(&mut self, path: &Path) {
        if path == Path::new("-") {
            return;
        }
        if is_remote(path) {
            self.1 = true;
            return;
        }
        self.read(path);
        if path.is_dir() {
            self.links(path, false);
        } else {
            self.directory_of(path);
            self.0.read.extend(livecore_minidump::info::path_of(path));
        }
    }

    /// The cache of restart points, if a dump may need it: a compressed file. Creates the directory,
    /// because a rule cannot name one that does not exist.
    fn cache(&mut self, dump: &Path, env: &Env) {
        let is_compressed = || {
            let mut magic = [0; 8];
            let file = fs::File::open(dump).ok().filter(|_| dump.is_file())?;
            file.read_full_at(&mut magic, 0).ok()?;
            (Codec::sniff(&magic) != Codec::None).then_some(())
        };
        if let Some(dir) = &env.cache_dir
            && is_compressed().is_some()
            && (dir.is_dir() || make_private(dir).is_ok())
        {
            self.0.write.push(dir.clone());
        }
    }

    /// Downloads from the servers in `DEBUGINFOD_URLS`. [`Env::debuginfod`] is empty for verbs that search for
    /// no kernel.
    fn downloads(&mut self, env: &Env) {
        let Some(directory) = debuginfod::directory(env) else {
            return;
        };
        if directory.is_dir() || make_private(&directory).is_ok() {
            self.0.write.push(directory);
        }
        self.1 = true;
    }

    fn dump_and_kernel(&mut self, dump: &Path, kernel: &KernelArgs, env: &Env) {
        self.dump(dump);
        self.cache(dump, env);
        self.kernel(kernel.kernel.as_deref());
        self.kernels(&kernel.kernel_path);
    }

    /// A kernel file, its directory with debug files and modules, and [`KERNELS`].
    fn kernel(&mut self, path: Option<&Path>) {
        if let Some(path) = path {
            self.read(path);
            self.directory_of(path);
        }
        self.0.read.extend(KERNELS.map(PathBuf::from));
    }

    fn kernels(&mut self, places: &[PathBuf]) {
        places.iter().for_each(|path| self.kernel(Some(path)));
    }

    /// The parent directory of a path, and that of its target if it is a symbolic link.
    fn directory_of(&mut self, path: &Path) {
        let parent = parent(path);
        let real = path.canonicalize().ok();
        let real = real.as_deref().and_then(Path::parent);
        for directory in [Some(parent), real].into_iter().flatten() {
            // Of the root directory, permit only the files, without subdirectories.
            match directory.canonicalize() {
                Ok(root) if root == Path::new("/") => self.files_in(&root),
                _ => self.0.read.push(directory.to_owned()),
            }
        }
    }

    fn files_in(&mut self, directory: &Path) {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        self.0.read.extend(paths.filter(|path| path.is_file()));
    }

    /// The targets of symbolic links in a directory of dumps.
    fn links(&mut self, directory: &Path, recursive: bool) {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        for entry in entries {
            match entry.file_type() {
                Ok(kind) if kind.is_symlink() && self.0.read.len() < LINKS => {
                    self.0.read.push(entry.path());
                }
                Ok(kind) if kind.is_dir() && recursive => self.links(&entry.path(), true),
                _ => {}
            }
        }
    }

    /// The directory of an output file or of numbered dumps.
    fn output(&mut self, path: &Path) {
        if is_remote(path) {
            self.1 = true;
            return;
        }
        match Destination::parse(path) {
            Destination::Stdout => {}
            Destination::Directory(directory) => self.0.write.push(directory),
            Destination::File(file) => match file.metadata() {
                // A pipe or a device is opened, not replaced.
                Ok(found) if !found.is_file() => {
                    self.0.read.push(parent(&file).to_owned());
                    self.0.write.push(file);
                }
                _ => self.0.write.push(parent(&file).to_owned()),
            },
        }
    }

    /// An output directory, which the verb creates if it does not exist.
    fn output_directory(&mut self, path: &Path) {
        let path = match path.as_os_str().is_empty() {
            true => Path::new("."),
            false => path,
        };
        let there = path.ancestors().find(|path| path.is_dir());
        self.0
            .write
            .push(there.unwrap_or(Path::new(".")).to_owned());
    }

    /// An emulated machine. Returns its description; `None` if the source is the running system.
    fn machine<'s>(&mut self, source: &'s Source, changes: bool) -> Option<Option<&'s PathBuf>> {
        self.kernel(source.kernel.as_deref());
        if let Some(path) = &source.image {
            self.dump(path);
            if changes && path.is_dir() {
                self.0.write.push(path.clone());
            } else if changes {
                self.0.write.push(parent(path).to_owned());
            }
        }
        source.is_emulated().then_some(source.machine.as_ref())
    }
}

/// The parent directory of `path`.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        // The root has no parent.
        None => path,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_in_the_root_directory_does_not_open_everything() {
        let mut files = Access::new(&Env::detached());
        files.directory_of(Path::new("/vmcore.0"));
        assert!(!files.0.read.contains(&PathBuf::from("/")));
    }
}
