//! Facts of the manual pages that are neither arguments nor help texts: environment variables and
//! files.

/// To which verbs a fact applies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Verbs {
    /// To all verbs: only livecore(1) lists it.
    All,
    /// To the verbs with one of these options.
    With(&'static [&'static str]),
    /// To these verbs.
    Of(&'static [&'static str]),
}

/// The verbs that search for a kernel with debuginfod(8) servers.
const DOWNLOADS: Verbs = Verbs::Of(&[
    "convert", "dmesg", "drgn", "gdb", "kgdb", "mount", "pack", "ps", "read", "serve", "threads",
    "triage",
]);

/// An environment variable, or several with one meaning; what it does; the verbs that use it.
pub(crate) type Variable = (&'static [&'static str], &'static str, Verbs);

/// The environment variables that the program reads. A test compares them with the code.
pub(crate) const VARIABLES: &[Variable] = &[
    (
        &[
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
        ],
        "Files with credentials for object stores. The other variables of S3 clients apply too (docs/stores.md).",
        Verbs::All,
    ),
    (
        &["CI", "GITHUB_ACTIONS", "GITLAB_CI", "TF_BUILD"],
        "In a CI job, `dmesg` escapes lines that the job's runner would execute as commands.",
        Verbs::Of(&["dmesg"]),
    ),
    (
        &["DEBUGINFOD_URLS"],
        "URLs of debuginfod(8) servers, separated by spaces: livecore downloads a kernel or a debug file that it does \
         not find. The default is none.",
        DOWNLOADS,
    ),
    (
        &[
            "DEBUGINFOD_MAXSIZE",
            "DEBUGINFOD_MAXTIME",
            "DEBUGINFOD_TIMEOUT",
        ],
        "Maximum size in bytes of a file from these servers, number of seconds for it, and number of seconds that a \
         server may be silent.",
        DOWNLOADS,
    ),
    (
        &["LIVECORE_KERNEL"],
        "Kernel file, if neither --kernel nor --kernel-path is given.",
        Verbs::With(&["kernel", "kernel-path"]),
    ),
    (
        &["LIVECORE_KERNEL_PATH"],
        "Kernel files and directories to search, separated by colons, if there is no --kernel-path.",
        Verbs::With(&["kernel-path"]),
    ),
    (
        &["LIVECORE_KEY"],
        "File with the private key for encrypted dumps, if there is no --key.",
        Verbs::All,
    ),
    (
        &["LIVECORE_SANDBOX"],
        "`require`: fail without a sandbox. `try`: use what the system supports (the default). `off`: no sandbox, \
         as --no-sandbox.",
        Verbs::All,
    ),
    (
        &["LIVECORE_STORE_RETRIES", "LIVECORE_STORE_TIMEOUT"],
        "How often a request to an object store is repeated (5), and the seconds that a server may be silent (30).",
        Verbs::All,
    ),
    (
        &["NO_COLOR", "TERM"],
        "No colors if NO_COLOR is not empty, or TERM is not set or `dumb`, unless --color is `always`.",
        Verbs::All,
    ),
    (
        &["PATH"],
        "Directories to search for debuggers and other programs.",
        Verbs::Of(&["drgn", "gdb", "kgdb", "mount"]),
    ),
    (
        &["SSL_CERT_DIR", "SSL_CERT_FILE"],
        "Certificate authorities for object stores, instead of those of the system.",
        Verbs::All,
    ),
    (
        &["TMPDIR"],
        "Directory for temporary files. The default is /tmp; for a dump of the running system it is /var/tmp.",
        Verbs::All,
    ),
    (
        &["XDG_CONFIG_HOME"],
        "The sockets of a user's libvirt domains are below libvirt/qemu/lib in XDG_CONFIG_HOME, or else in .config in \
         HOME.",
        Verbs::With(&["qmp"]),
    ),
    (
        &["XDG_CACHE_HOME", "HOME"],
        "The cache of restart points is the directory livecore in XDG_CACHE_HOME, or else in .cache in HOME.",
        Verbs::All,
    ),
    (
        &["XDG_RUNTIME_DIR"],
        "Directory for the private directory with the socket for debuggers, before the one for temporary files.",
        Verbs::Of(&["serve", "gdb"]),
    ),
];

/// A file: its name, its contents, the verbs that use it.
pub(crate) type File = (&'static str, &'static str, Verbs);

/// Files of the program and of the system.
pub(crate) const FILES: &[File] = &[
    (
        "/boot/kernel/kernel",
        "Kernel file that is tried after those in the directory of the dump.",
        Verbs::With(&["kernel", "kernel-path"]),
    ),
    (
        "/usr/lib/debug",
        "Directory that is searched for debug files of kernels and modules.",
        Verbs::With(&["kernel", "kernel-path"]),
    ),
    (
        "/dev/mem",
        "Physical memory of the running system, and the request for a live dump; see mem(4).",
        Verbs::Of(&["take", "mem"]),
    ),
    (
        "/dev/fuse",
        "Device of FUSE, which serves the mounted files.",
        Verbs::Of(&["mount"]),
    ),
    (
        "/dev/dumpdev",
        "Link to the dump device of this system, see dumpon(8).",
        Verbs::Of(&["save"]),
    ),
    (
        "/etc/fstab",
        "Other dump devices: entries with type swap or dump, see fstab(5).",
        Verbs::Of(&["save"]),
    ),
    (
        "/var/crash",
        "Directory of dumps, if no dump or directory is named.",
        Verbs::Of(&[
            "dmesg", "drgn", "gdb", "info", "kgdb", "list", "ps", "serve", "threads", "triage",
        ]),
    ),
    (
        "~/.cache/livecore",
        "Restart points of single compressed streams, see livecore-cache(1).",
        Verbs::All,
    ),
    (
        "docs/",
        "Documentation in the sources of livecore, to which the manual pages refer.",
        Verbs::All,
    ),
    (
        "livecore.N",
        "Dump of a running system. A suffix .gz or .zst names the compression.",
        Verbs::Of(&["take"]),
    ),
    (
        "vmcore.N",
        "Dump of a crashed system. A suffix .gz or .zst names the compression.",
        Verbs::Of(&["save", "export"]),
    ),
    (
        "info.N",
        "Properties of dump N as text, as savecore(8) writes them.",
        Verbs::Of(&["take", "save", "export"]),
    ),
    (
        "bounds",
        "The number of the next dump in a directory.",
        Verbs::Of(&["take", "save", "export"]),
    ),
    (
        "minfree",
        "The space in KiB that a dump must leave free in its file system.",
        Verbs::Of(&["take", "save"]),
    ),
];

/// The manual page that contains a page of the documentation.
pub(crate) fn page_of(word: &str) -> Option<&'static str> {
    match word {
        "docs/machines.md" => Some("livecore-machine(5)"),
        "docs/sealed.md" => Some("livecore-sealed(5)"),
        _ => None,
    }
}

/// Whether `word` is the name of an environment variable.
pub(crate) fn is_variable(word: &str) -> bool {
    // `CI`, `PATH` and `TERM` are also words of sentences.
    word.contains('_') && VARIABLES.iter().any(|(names, ..)| names.contains(&word))
        || word == "TMPDIR"
}
