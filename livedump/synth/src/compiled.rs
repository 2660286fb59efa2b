//! A kernel compiled from `kernel.c`, for its debug information.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use goblin::elf::Elf;
use goblin::elf::program_header::PT_LOAD;
use goblin::elf::section_header::SHN_ABS;
use goblin::elf::sym::{STT_FILE, STT_FUNC, STT_SECTION};

use super::chains;
use super::code;
use super::description::Description;
use super::error::Error;
use super::kernel::{Kernel, Section, Variable};
use super::layout::{Layout, Release};
use super::port;
use super::processor::Space;
use super::source;
use super::truth::Symbol;

const KERNEL_C: &str = include_str!("kernel.c");

/// Flags for a kernel: no start files, no library, frame pointers, no inlined calls other than those that
/// the source requires.
const FLAGS: [&str; 24] = [
    "-g",
    "-O1",
    "-std=gnu11",
    "-w",
    "-ffreestanding",
    "-fno-builtin",
    "-fno-common",
    "-mcmodel=kernel",
    "-mno-red-zone",
    "-mno-sse",
    "-fno-pic",
    "-fno-pie",
    "-no-pie",
    "-static",
    "-nostdlib",
    "-fno-omit-frame-pointer",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-fcf-protection=none",
    "-foptimize-sibling-calls",
    "-fno-inline",
    "-fno-ipa-ra",
    "-Wl,--build-id=sha1",
    "-Wl,-z,max-page-size=4096",
];

/// Compiles the kernel with `compiler`.
pub(crate) fn kernel(
    compiler: &str,
    description: &Description,
    layout: &Layout,
    space: &Space,
    version: &str,
    wanted: &[Variable],
) -> Result<Kernel, Error> {
    let optimized = description.release() >= Release::R15;
    let dir = tempfile::tempdir().map_err(|source| Error::Io {
        path: std::env::temp_dir(),
        source,
    })?;
    let path = dir.path();
    let io = |name: &str| {
        let path = path.join(name);
        move |source| Error::Io { path, source }
    };
    for (name, text) in [
        ("kernel.c", KERNEL_C.to_owned()),
        ("layout.h", source::layout(description, layout, version)),
        (
            "functions.h",
            source::functions(port::of(description).names(description), optimized),
        ),
        (
            "kernel.ld",
            source::script(description, space.kernbase, space.kernstart),
        ),
    ] {
        fs::write(path.join(name), text).map_err(io(name))?;
    }
    compile(compiler, path)?;
    let mut elf = fs::read(path.join("kernel")).map_err(io("kernel"))?;
    // EI_OSABI: FreeBSD.
    if let Some(osabi) = elf.get_mut(7) {
        *osabi = 9;
    }
    let tail_calls: &[_] = match optimized {
        true => &chains::TAIL_CALLS,
        false => &[],
    };
    Ok(Kernel {
        tail_calls,
        ..read(elf, wanted)?
    })
}

fn compile(compiler: &str, dir: &Path) -> Result<(), Error> {
    let failed = |why: String| Error::Compiler {
        compiler: compiler.into(),
        why,
    };
    let output = Command::new(compiler)
        .current_dir(dir)
        .args(FLAGS)
        .arg(format!(
            "-ffile-prefix-map={}=/usr/src/sys/synth",
            dir.display()
        ))
        .args(["-T", "kernel.ld", "-o", "kernel", "kernel.c"])
        .output()
        .map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(failed(
        why.lines()
            .find(|line| line.contains("error"))
            .unwrap_or("it failed")
            .to_owned(),
    ))
}

/// Reads the linker's output, and checks that it has the variables that the builder writes.
fn read(bytes: Vec<u8>, wanted: &[Variable]) -> Result<Kernel, Error> {
    let bad = |e: goblin::error::Error| Error::Kernel(e.to_string());
    let elf = Elf::parse(&bytes).map_err(bad)?;
    let mut loads = Vec::new();
    let mut end = 0;
    for header in elf.program_headers.iter().filter(|h| h.p_type == PT_LOAD) {
        let contents = bytes
            .get(header.file_range())
            .ok_or_else(|| Error::Kernel("a segment extends past the end of the file".into()))?;
        if !contents.is_empty() {
            loads.push((header.p_vaddr, contents.to_vec()));
        }
        end = end.max(header.p_vaddr.saturating_add(header.p_memsz));
    }
    loads.sort_by_key(|(va, _)| *va);
    let mut symbols = BTreeMap::new();
    let mut functions = Vec::new();
    for symbol in &elf.syms {
        let name = elf.strtab.get_at(symbol.st_name).unwrap_or("");
        if name.is_empty() || [STT_FILE, STT_SECTION].contains(&symbol.st_type()) {
            continue;
        }
        if symbol.st_type() == STT_FUNC {
            functions.push((symbol.st_value, name.to_owned()));
        }
        symbols.entry(name.to_owned()).or_insert(Symbol {
            value: symbol.st_value,
            size: symbol.st_size,
            absolute: symbol.st_shndx == SHN_ABS as usize,
        });
    }
    functions.sort();
    for variable in wanted {
        let found = symbols.get(variable.name).copied();
        let fits = found.is_some_and(|symbol| {
            symbol.absolute == (variable.section == Section::Absolute)
                && (symbol.absolute || symbol.size == variable.size)
        });
        if !fits {
            return Err(Error::Kernel(format!(
                "`{}` is {found:?}, expected {} bytes",
                variable.name, variable.size
            )));
        }
    }
    let start = loads.first().map_or(0, |(va, _)| *va);
    Ok(Kernel {
        elf: bytes,
        loads,
        start,
        end,
        symbols,
        functions,
        code: &code::AMD64,
        tail_calls: &[],
    })
}
