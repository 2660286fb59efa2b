//! Members of structures, read from CTF of the independent builder and from DWARF of a C compiler.

use std::path::Path;
use std::process::Command;

use livecore_kernel::Types;
use livecore_kernel::{Member, TypeSource};
use livecore_minidump::{KernelElf, VirtAddr};
use livecore_tests::elf_edit::Elf;
use livecore_tests::mkctf::Ctf;
use livecore_tests::mkelf;

fn kernel(architecture: &str) -> Vec<u8> {
    mkelf::build(&format!("elf {architecture}\nsymbol a 1 abs")).unwrap()
}

fn types(file: Vec<u8>, wanted: &[&str]) -> Types {
    Types::read(&KernelElf::from_bytes(file).unwrap(), wanted)
}

fn at(offset: u64, size: u64) -> Option<Member> {
    Some(Member { offset, size })
}

/// Types of every kind, and structures with both member encodings.
fn sample(version: u8, big: bool) -> Ctf {
    let mut ctf = Ctf::new(version, big);
    let char = ctf.integer("char", 1);
    let short = ctf.integer("uint16_t", 2);
    let long = ctf.integer("unsigned long", 8);
    let paddr = ctf.qualified(10, "vm_paddr_t", long);
    let forward = ctf.forward("vm_object");
    let object = ctf.pointer(forward);
    let comm = ctf.array(char, 20);
    let state = ctf.enumeration("state", &[("A", 1), ("B", 2), ("C", 3)]);
    ctf.function(long, &[char, short, long]);
    ctf.function(long, &[char, short]);
    let list = ctf.structure("", 16, &[("tqe_next", object, 0), ("tqe_prev", object, 64)]);
    let plinks = ctf.union("", 16, &[("q", list), ("memguard", long)]);
    let astate = ctf.structure(
        "vm_page_astate",
        4,
        &[("flags", short, 0), ("queue", char, 16)],
    );
    let volatile = ctf.qualified(11, "", paddr);
    let inner = ctf.union("", 8, &[("first", long), ("second", short)]);
    ctf.forward("vm_page");
    ctf.structure(
        "vm_page",
        104,
        &[
            ("plinks", plinks, 0),
            ("object", object, 256),
            ("phys_addr", volatile, 384),
            ("a", astate, 448),
            ("", inner, 512),
            ("bits", short, 721),
            ("flags", short, 720),
            ("name", comm, 576),
            ("state", state, 800),
        ],
    );
    // Over 2^13 bytes: the large member encoding of version 2.
    let big_array = ctf.array(long, 1 << 14);
    ctf.structure(
        "large",
        (1 << 17) + 8,
        &[("all", big_array, 0), ("last", long, 8 << 17)],
    );
    // Over 2^29 bytes: the large member encoding of version 3.
    ctf.structure("huge", 1 << 33, &[("far", long, (1 << 36) - 64)]);
    ctf
}

#[test]
fn members_are_read_from_ctf_of_both_versions_and_byte_orders() {
    for (architecture, big) in [("amd64", false), ("powerpc64", true)] {
        for version in [2, 3] {
            for compressed in [false, true] {
                let what = format!("{architecture} {version} {compressed}");
                let section = sample(version, big).bytes(compressed);
                let file = if big {
                    // `elf_edit` supports only little endian.
                    let hex = section.iter().map(|b| format!("{b:02x} "));
                    let hex = hex.collect::<String>();
                    let text = format!("elf {architecture}\nsection .SUNW_ctf 0x1000 hex {hex}");
                    mkelf::build(&text).unwrap()
                } else {
                    let file = Elf::new(kernel(architecture));
                    file.add(".SUNW_ctf", &section, false).bytes()
                };
                let types = types(file, &["vm_page", "large", "huge", "missing"]);
                assert!(types.problems.is_empty(), "{what}: {:?}", types.problems);
                let page = types.structure("vm_page").expect(&what);
                assert_eq!((page.size, page.source), (104, TypeSource::Ctf), "{what}");
                for (name, offset, size) in [
                    ("plinks", 0, 16),
                    ("plinks.q", 0, 16),
                    ("plinks.q.tqe_prev", 8, 8),
                    ("plinks.memguard", 0, 8),
                    ("object", 32, 8),
                    ("phys_addr", 48, 8),
                    ("a", 56, 4),
                    ("a.flags", 56, 2),
                    ("a.queue", 58, 1),
                    ("first", 64, 8),
                    ("second", 64, 2),
                    ("name", 72, 20),
                    ("flags", 90, 2),
                    ("bits", 90, 0),
                    ("state", 100, 4),
                ] {
                    assert_eq!(page.member(name), at(offset, size), "{what}: {name}");
                }
                assert_eq!(page.members().count(), 16, "{what}");
                assert_eq!(types.member("large", "last"), at(1 << 17, 8), "{what}");
                assert_eq!(types.member("large", "all"), at(0, 1 << 17), "{what}");
                assert_eq!(types.member("huge", "far"), at((1 << 33) - 8, 8), "{what}");
                assert_eq!(types.structure("huge").unwrap().size, 1 << 33);
                assert_eq!(types.structure("missing"), None);
            }
        }
    }
}

#[test]
fn ctf_pointers_have_the_size_of_the_elf_class() {
    let mut ctf = Ctf::new(2, false);
    let int = ctf.integer("int", 4);
    let pointer = ctf.pointer(int);
    ctf.structure("s", 8, &[("p", pointer, 32)]);
    for (architecture, size) in [("i386", 4), ("amd64", 8)] {
        let file = Elf::new(kernel(architecture)).add(".SUNW_ctf", &ctf.bytes(true), false);
        let types = types(file.bytes(), &["s"]);
        assert_eq!(types.member("s", "p"), at(4, size));
    }
}

#[test]
fn types_of_a_modules_parent_have_no_size() {
    for (version, parent_type) in [(2, 7), (3, 7)] {
        let mut ctf = Ctf::new(version, false).of_parent("kernel");
        let own = ctf.integer("uint32_t", 4);
        ctf.structure("softc", 16, &[("dev", parent_type, 0), ("unit", own, 64)]);
        let file = Elf::new(kernel("amd64")).add(".SUNW_ctf", &ctf.bytes(true), false);
        let types = types(file.bytes(), &["softc"]);
        assert!(types.problems.is_empty(), "{:?}", types.problems);
        assert_eq!(types.member("softc", "unit"), at(8, 4));
        assert_eq!(types.member("softc", "dev"), at(0, 0));
    }
}

#[test]
fn damaged_ctf_is_reported_as_a_problem() {
    for version in [2, 3] {
        for compressed in [false, true] {
            let whole = sample(version, false).bytes(compressed);
            let mut problems = 0;
            for cut in 0..whole.len() {
                let file = Elf::new(kernel("amd64")).add(".SUNW_ctf", &whole[..cut], false);
                let types = types(file.bytes(), &["vm_page"]);
                // An empty section is ignored.
                assert!(cut == 0 || !types.problems.is_empty(), "cut at {cut}");
                problems += types.problems.len();
            }
            assert_eq!(problems, whole.len() - 1);
            // Inverting any byte must not panic.
            for at in 0..whole.len() {
                let mut bytes = whole.clone();
                bytes[at] ^= 0xff;
                let file = Elf::new(kernel("amd64")).add(".SUNW_ctf", &bytes, false);
                let types = types(file.bytes(), &["vm_page"]);
                assert!(types.problems.len() <= 1);
            }
        }
    }
}

#[test]
fn recursive_structures_terminate() {
    let mut ctf = Ctf::new(3, false);
    // Type 1 has sixteen unnamed members of type 1.
    ctf.structure("loop", 8, &[("", 1, 0); 16]);
    // A typedef of itself.
    ctf.qualified(10, "round", 2);
    ctf.structure("s", 8, &[("m", 2, 0)]);
    let file = Elf::new(kernel("amd64")).add(".SUNW_ctf", &ctf.bytes(false), false);
    let types = types(file.bytes(), &["loop", "s"]);
    assert_eq!(types.structure("loop").unwrap().members().count(), 0);
    assert_eq!(types.member("s", "m"), at(0, 0));
}

/// Structures of every shape, with the compiler's sizes and offsets in `expected`.
const SOURCE: &str = r#"
typedef unsigned long paddr_t;
typedef unsigned short u16;
struct object;
struct vm_page;
struct astate { u16 flags; unsigned char queue; };
struct vm_page {
    union { struct { struct vm_page *next; struct vm_page **prev; } q; paddr_t guard; } plinks;
    struct object *object;
    const volatile paddr_t phys_addr;
    struct astate a;
    union { long first; char second; };
    unsigned busy : 3, more : 5;
    char comm[20];
    int grid[3][5];
    u16 flags;
};
struct unused { int x; };
#define O(m) __builtin_offsetof(struct vm_page, m), sizeof(((struct vm_page *)0)->m)
const unsigned expected[] = {
    sizeof(struct vm_page), 0,
    O(plinks), O(plinks.q), O(plinks.q.prev), O(plinks.guard), O(object), O(phys_addr),
    O(a), O(a.flags), O(a.queue), O(first), O(second), O(comm), O(grid), O(flags),
};
struct vm_page page; struct unused other; struct vm_page *pointer = &page;
void _start(void) { }
"#;

const MEMBERS: [&str; 14] = [
    "plinks",
    "plinks.q",
    "plinks.q.prev",
    "plinks.guard",
    "object",
    "phys_addr",
    "a",
    "a.flags",
    "a.queue",
    "first",
    "second",
    "comm",
    "grid",
    "flags",
];

/// Compiles `source` with debug information. `None` if the compiler does not support the options.
pub(crate) fn compile(dir: &Path, source: &str, options: &[&str]) -> Option<Vec<u8>> {
    std::fs::write(dir.join("s.c"), source).unwrap();
    let output = Command::new("cc")
        .current_dir(dir)
        .args(["-g", "-w", "-O1", "-ffreestanding", "-nostdlib", "-static"])
        .args(["-fno-pic", "-no-pie", "-fno-asynchronous-unwind-tables"])
        .args(options)
        .args(["-o", "s", "s.c"])
        .output()
        .unwrap();
    if output.status.success() {
        return Some(std::fs::read(dir.join("s")).unwrap());
    }
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    // The toolchain may lack 32-bit or zstd support.
    assert!(
        options.contains(&"-m32") || options.contains(&"-gz=zstd"),
        "{options:?}: {why}"
    );
    None
}

#[test]
fn members_are_read_from_dwarf_of_every_version() {
    let dir = tempfile::tempdir().unwrap();
    let mut read = 0;
    for options in [
        &["-gdwarf-2", "-gstrict-dwarf"][..],
        &["-gdwarf-3"],
        &["-gdwarf-4"],
        &["-gdwarf-5"],
        &["-gdwarf-4", "-gz=zlib"],
        &["-gdwarf-4", "-gz=zlib-gnu"],
        &["-gdwarf-5", "-gz=zstd"],
        &["-gdwarf-5", "-m32"],
    ] {
        let Some(file) = compile(dir.path(), SOURCE, options) else {
            continue;
        };
        let elf = KernelElf::from_bytes(file).unwrap();
        let symbol = elf.symbol("expected").unwrap();
        let bytes = elf
            .bytes_at(VirtAddr(symbol.value), symbol.size as usize)
            .unwrap();
        let expected = bytes
            .bytes
            .chunks_exact(4)
            .map(|b| u64::from(u32::from_le_bytes(b.try_into().unwrap())))
            .collect::<Vec<_>>();
        let types = Types::read(&elf, &["vm_page", "object", "nothing"]);
        assert!(
            types.problems.is_empty(),
            "{options:?}: {:?}",
            types.problems
        );
        let page = types.structure("vm_page").unwrap();
        assert_eq!((page.size, page.source), (expected[0], TypeSource::Dwarf));
        for (name, pair) in MEMBERS.iter().zip(expected[2..].chunks_exact(2)) {
            assert_eq!(
                page.member(name),
                at(pair[0], pair[1]),
                "{options:?}: {name}"
            );
        }
        let (busy, more) = (page.member("busy").unwrap(), page.member("more").unwrap());
        assert_eq!((busy.size, more.size), (0, 0), "bit-fields");
        assert_eq!(types.structure("object"), None, "a declaration");
        assert_eq!(types.structure("unused"), None, "not requested");
        read += 1;
    }
    assert!(read >= 6, "only {read} formats were compiled and read");
}

#[test]
fn ctf_takes_precedence_over_dwarf() {
    let dir = tempfile::tempdir().unwrap();
    let file = compile(dir.path(), SOURCE, &["-gdwarf-4"]).unwrap();
    let section = sample(2, false).bytes(true);
    let file = Elf::new(file).add(".SUNW_ctf", &section, false).bytes();
    let types = types(file, &["vm_page", "unused"]);
    assert_eq!(types.structure("vm_page").unwrap().source, TypeSource::Ctf);
    let unused = types.structure("unused").unwrap();
    assert_eq!(
        (unused.source, unused.member("x")),
        (TypeSource::Dwarf, at(0, 4))
    );
}

#[test]
fn damaged_dwarf_does_not_panic() {
    let dir = tempfile::tempdir().unwrap();
    let file = compile(dir.path(), SOURCE, &["-gdwarf-5"]).unwrap();
    let mut problems = 0;
    for section in [".debug_info", ".debug_abbrev"] {
        let contents = Elf::new(file.clone()).contents(section).unwrap().to_vec();
        for at in 0..contents.len() {
            let mut changed = contents.clone();
            changed[at] ^= 0xff;
            let edited = Elf::new(file.clone())
                .remove(|name| name == section)
                .add(section, &changed, false);
            problems += types(edited.bytes(), &["vm_page"]).problems.len();
        }
    }
    assert!(problems > 20, "{problems}");
}
