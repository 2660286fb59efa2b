//! The types of a kernel for Volatility, from DWARF of a C compiler and from CTF of the independent
//! builder.

use std::sync::Arc;

use livecore_kernel::isf::Isf;
use livecore_minidump::{Error, KernelElf, VirtAddr};
use livecore_tests::elf_edit::Elf;
use livecore_tests::mkctf::Ctf;
use livecore_tests::mkelf;
use serde_json::{Value, json};

use crate::types::compile;

/// The compiler stores sizes, offsets and bit-fields with all bits set.
const SOURCE: &str = r#"
typedef unsigned long paddr_t;
typedef const volatile int cint;
enum state { IDLE, RUN = 5, ZOMBIE = -1 };
enum { FIRST = 0x80000000u };
struct later;
struct proc {
    struct { struct proc *next; struct proc **prev; } list;
    union { paddr_t guard; char name[20]; };
    cint grid[3][5];
    enum state state;
    struct later *later;
    int (*call)(struct proc *);
    void *data;
    _Bool flag;
    unsigned low : 3, middle : 13;
    long wide : 40;
    struct { short a; } pair[2];
    char tail[];
};
#define O(m) __builtin_offsetof(struct proc, m)
const unsigned long expected[] = {
    sizeof(struct proc), O(list), O(guard), O(grid), O(state), O(later), O(call), O(data), O(flag), O(pair), O(tail),
};
const struct proc low = { .low = -1 }, middle = { .middle = -1 }, wide = { .wide = -1 };
struct proc *allproc;
static struct { int inner; } hidden[4];
char version[64] = "FreeBSD 15.0-TEST\n";
void *use(int n) { static struct proc *inside; inside = allproc; return n ? (void *)&hidden[n] : (void *)inside; }
void _start(void) { }
"#;

fn document(isf: &Isf) -> Value {
    let mut bytes = Vec::new();
    isf.write(&mut bytes).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

fn isf_of(file: Vec<u8>) -> Result<Isf, Error> {
    Isf::of(&KernelElf::from_bytes(file).unwrap(), None)
}

fn kernel(architecture: &str) -> Vec<u8> {
    mkelf::build(&format!("elf {architecture}\nsymbol a 1 abs")).unwrap()
}

/// The contents of the object `name`.
fn object(elf: &KernelElf, name: &str) -> Vec<u8> {
    let symbol = elf.symbol(name).unwrap();
    let found = elf.bytes_at(VirtAddr(symbol.value), symbol.size as usize);
    found.unwrap().bytes
}

fn pointer(to: Value) -> Value {
    json!({ "kind": "pointer", "subtype": to })
}

fn array(count: u64, of: Value) -> Value {
    json!({ "kind": "array", "count": count, "subtype": of })
}

fn base(name: &str) -> Value {
    json!({ "kind": "base", "name": name })
}

#[test]
fn dwarf_of_every_version_gives_the_types_of_the_compiler() {
    let dir = tempfile::tempdir().unwrap();
    let mut read = 0;
    for options in [
        &["-gdwarf-2", "-gstrict-dwarf"][..],
        &["-gdwarf-3"],
        &["-gdwarf-4"],
        &["-gdwarf-5"],
        &["-gdwarf-5", "-m32"],
    ] {
        let Some(file) = compile(dir.path(), SOURCE, options) else {
            continue;
        };
        let elf = KernelElf::from_bytes(file).unwrap();
        let isf = Isf::of(&elf, None).unwrap();
        assert!(isf.is_dwarf() && isf.has_version());
        let found = document(&isf);
        let word = elf.pointer_size();
        let expected: Vec<u64> = object(&elf, "expected")
            .chunks_exact(word)
            .map(|bytes| {
                let mut padded = [0; 8];
                padded[..word].copy_from_slice(bytes);
                u64::from_le_bytes(padded)
            })
            .collect();
        let proc = &found["user_types"]["proc"];
        assert_eq!(proc["kind"], "struct", "{options:?}");
        assert_eq!(proc["size"], expected[0], "{options:?}");
        let field = |name: &str| &proc["fields"][name];
        let names = [
            "list",
            "unnamed_field_1",
            "grid",
            "state",
            "later",
            "call",
            "data",
            "flag",
            "pair",
            "tail",
        ];
        for (name, offset) in names.iter().zip(&expected[1..]) {
            assert_eq!(field(name)["offset"], *offset, "{options:?}: {name}");
        }
        let of = |name: &str| field(name)["type"].clone();
        assert_eq!(of("grid"), array(3, array(5, base("int"))));
        let state = json!({ "kind": "enum", "name": "state" });
        assert_eq!(of("state"), state);
        let later = json!({ "kind": "struct", "name": "later" });
        assert_eq!(of("later"), pointer(later));
        assert_eq!(of("call"), pointer(json!({ "kind": "function" })));
        assert_eq!(of("data"), pointer(base("void")));
        assert_eq!(of("flag"), base("_Bool"));
        assert_eq!(of("tail"), array(0, base("char")));
        assert_eq!(field("unnamed_field_1")["anonymous"], true);
        assert_eq!(found["user_types"]["later"]["size"], 0, "a declaration");

        // Structures without names.
        let named = |ty: &Value| &found["user_types"][ty["name"].as_str().unwrap()];
        let list = named(&field("list")["type"]);
        assert_eq!(list["fields"]["prev"]["offset"], word);
        let inner = named(&field("unnamed_field_1")["type"]);
        assert_eq!(inner["kind"], "union");
        assert_eq!(inner["fields"]["name"]["type"], array(20, base("char")));

        // Bit-fields: the bits that the compiler set.
        for (name, bits) in [("low", 3), ("middle", 13), ("wide", 40)] {
            let (field, bytes) = (field(name), object(&elf, name));
            let size = found["base_types"][field["type"]["type"]["name"].as_str().unwrap()]["size"]
                .as_u64()
                .unwrap() as usize;
            let at = field["offset"].as_u64().unwrap() as usize;
            let mut unit = [0; 8];
            unit[..size].copy_from_slice(&bytes[at..at + size]);
            let set = u64::from_le_bytes(unit);
            assert_eq!(set.count_ones(), bits, "{options:?}: {name}");
            let first = u64::from(set.trailing_zeros());
            assert_eq!(field["type"]["bit_position"], first, "{options:?}: {name}");
            assert_eq!(field["type"]["bit_length"], bits);
        }

        let state = &found["enums"]["state"];
        let constants = json!({ "IDLE": 0, "RUN": 5, "ZOMBIE": -1 });
        assert_eq!(state["constants"], constants, "{options:?}");
        assert_eq!(
            (&state["size"], &state["base"]),
            (&4.into(), &"int32_t".into())
        );
        assert_eq!(found["base_types"]["int32_t"]["signed"], true);

        let symbol = |name: &str| &found["symbols"][name];
        let address = elf.symbol("allproc").unwrap().value;
        assert_eq!(symbol("allproc")["address"], address);
        let proc = json!({ "kind": "struct", "name": "proc" });
        assert_eq!(symbol("allproc")["type"], pointer(proc));
        assert_eq!(symbol("hidden")["type"]["count"], 4);
        assert_eq!(symbol("use")["type"], Value::Null);
        // base64 of "FreeBSD 15.0-TEST\n" and of NULs.
        let text = symbol("version")["constant_data"].as_str().unwrap();
        assert!(text.starts_with("RnJlZUJTRCAxNS4wLVRFU1QKAAAA"), "{text}");
        assert_eq!(text.len(), 88);
        read += 1;
    }
    assert!(read >= 4, "only {read} formats were compiled and read");
}

/// A structure with bit-fields, nested structures, an enumeration and a forward declaration.
fn sample(version: u8, big: bool) -> Ctf {
    let mut ctf = Ctf::new(version, big);
    let char = ctf.integer("char", 1);
    let long = ctf.integer("unsigned long", 8);
    let forward = ctf.forward("vm_object");
    let object = ctf.pointer(forward);
    let name = ctf.array(char, 20);
    let state = ctf.enumeration("state", &[("A", 1), ("B", 2)]);
    let unnamed = ctf.union("", 8, &[("first", long), ("second", char)]);
    let paddr = ctf.qualified(10, "vm_paddr_t", long);
    let volatile = ctf.qualified(11, "", paddr);
    ctf.structure(
        "vm_page",
        64,
        &[
            ("object", object, 0),
            ("phys_addr", volatile, 64),
            ("", unnamed, 128),
            ("name", name, 192),
            ("state", state, 384),
        ],
    );
    ctf
}

#[test]
fn ctf_of_both_versions_and_byte_orders_is_converted() {
    for (architecture, big) in [("amd64", false), ("powerpc64", true)] {
        for version in [2, 3] {
            let section = sample(version, big).bytes(true);
            let file = if big {
                let hex: String = section.iter().map(|b| format!("{b:02x} ")).collect();
                let text = format!("elf {architecture}\nsection .SUNW_ctf 0x1000 hex {hex}");
                mkelf::build(&text).unwrap()
            } else {
                let file = Elf::new(kernel(architecture));
                file.add(".SUNW_ctf", &section, false).bytes()
            };
            let isf = isf_of(file).unwrap();
            assert!(!isf.is_dwarf() && !isf.has_version());
            let found = document(&isf);
            let page = &found["user_types"]["vm_page"];
            assert_eq!(page["size"], 64);
            let field = |name: &str| &page["fields"][name];
            for (name, offset) in [
                ("object", 0),
                ("phys_addr", 8),
                ("unnamed_field_2", 16),
                ("name", 24),
                ("state", 48),
            ] {
                assert_eq!(field(name)["offset"], offset, "{architecture} {version}");
            }
            assert_eq!(field("phys_addr")["type"], base("unsigned long"));
            assert_eq!(field("name")["type"], array(20, base("char")));
            assert_eq!(
                found["enums"]["state"]["constants"],
                json!({ "A": 1, "B": 2 })
            );
            assert_eq!(found["user_types"]["vm_object"]["size"], 0);
            let endian = if big { "big" } else { "little" };
            let long = &found["base_types"]["unsigned long"];
            assert_eq!(
                (&long["endian"], &long["size"]),
                (&endian.into(), &8.into())
            );
        }
    }
}

#[test]
fn kernel_without_types_is_not_supported() {
    let error = isf_of(kernel("amd64")).err().unwrap();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

#[test]
fn types_of_the_debug_file_are_used() {
    let dir = tempfile::tempdir().unwrap();
    let debug = KernelElf::from_bytes(compile(dir.path(), SOURCE, &[]).unwrap()).unwrap();
    let elf = KernelElf::from_bytes(kernel("amd64")).unwrap();
    let isf = Isf::of(&elf, Some(&debug)).unwrap();
    let found = document(&isf);
    assert!(isf.is_dwarf());
    assert_eq!(found["user_types"]["proc"]["kind"], "struct");
    assert_eq!(found["symbols"]["a"]["address"], 1);
}

#[test]
fn same_kernel_gives_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let file = compile(dir.path(), SOURCE, &[]).unwrap();
    let [a, b] = [&file, &file].map(|file| {
        let mut out = Vec::new();
        isf_of(file.clone()).unwrap().write(&mut out).unwrap();
        out
    });
    assert!(a == b);
}

#[test]
fn recursive_types_terminate() {
    let mut ctf = Ctf::new(3, false);
    // Type 1 has sixteen unnamed members of type 1, and no name.
    ctf.structure("", 8, &[("", 1, 0); 16]);
    // A typedef, a pointer and an array of themselves.
    ctf.qualified(10, "round", 2);
    ctf.pointer(3);
    ctf.array(4, 2);
    ctf.structure(
        "s",
        8,
        &[("a", 1, 0), ("b", 2, 0), ("c", 3, 0), ("d", 4, 0)],
    );
    let file = Elf::new(kernel("amd64")).add(".SUNW_ctf", &ctf.bytes(false), false);
    let found = document(&isf_of(file.bytes()).unwrap());
    let fields = found["user_types"]["s"]["fields"].as_object().unwrap();
    assert_eq!(fields.len(), 4);
    assert_eq!(fields["b"]["type"], base("void"));
}

#[test]
fn types_need_no_more_memory_than_the_limit() {
    // Each member is a chain of 64 pointers.
    let mut ctf = Ctf::new(3, false);
    let mut last = ctf.integer("int", 4);
    for _ in 0..60 {
        last = ctf.pointer(last);
    }
    let names: Vec<String> = (0..1000).map(|n| format!("m{n}")).collect();
    let members: Vec<_> = names.iter().map(|name| (name.as_str(), last, 0)).collect();
    ctf.structure("s", 8, &members);
    let file = Elf::new(kernel("amd64")).add(".SUNW_ctf", &ctf.bytes(true), false);
    let bytes = file.bytes();
    let within = |memory| {
        let elf = KernelElf::parse_within(Arc::new(bytes.clone()), memory).unwrap();
        Isf::of(&elf, None)
    };
    assert!(within(64 << 20).is_ok());
    let error = within(2 << 20).err().unwrap();
    assert!(matches!(error, Error::Options(_)), "{error}");
}

#[test]
fn damaged_types_do_not_panic() {
    let dir = tempfile::tempdir().unwrap();
    let dwarf = compile(dir.path(), SOURCE, &["-gdwarf-5"]).unwrap();
    let ctf = Elf::new(kernel("amd64"))
        .add(".SUNW_ctf", &sample(3, false).bytes(false), false)
        .bytes();
    for file in [dwarf, ctf] {
        for at in (0..file.len()).step_by(7) {
            for value in [0xff, 0x01] {
                let mut bytes = file.clone();
                bytes[at] ^= value;
                if let Ok(elf) = KernelElf::from_bytes(bytes)
                    && let Ok(isf) = Isf::of(&elf, None)
                {
                    document(&isf);
                }
            }
        }
    }
}
