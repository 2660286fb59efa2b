//! Compares the constants of the crates with FreeBSD's headers.
//!
//! `testdata/freebsd-headers/*.txt` contain the values of FreeBSD's headers; `.ci/header-check`
//! recomputes them. A value without a constant fails, and so does a constant without a value.

mod registers;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::mem::offset_of;
use std::path::Path;

use livecore_defs::minidump::HeaderFields;
use livecore_defs::msgbuf::MsgbufFields;
use livecore_defs::paging::Geometry;
use livecore_defs::vm_page::{VM_PAGES, VM_PHYS_SEGS};
use livecore_defs::{
    Architecture, Field, amd64, arm, arm64, i386, kerneldump, msgbuf, powerpc64, riscv, vm_page,
};
use livecore_livedump::sys::memrange::{
    self, Mdf, MeState, MemExtract, MemLivedumpArg, MemRangeDesc, MemRangeOp,
};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Number(u64),
    Field(usize, usize),
    Text(String),
}

/// Machine, last header of the table's block, C expression.
type Key = (String, String, String);

const EVERY: [&str; 6] = ["amd64", "arm64", "arm", "i386", "riscv", "powerpc64"];
const LP64: [&str; 4] = ["amd64", "arm64", "riscv", "powerpc64"];
const ILP32: [&str; 2] = ["arm", "i386"];

/// Reads the tables, whose format is described in `.ci/header-check`.
fn facts() -> BTreeMap<Key, Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/freebsd-headers");
    let mut facts = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "txt") {
            continue;
        }
        let (mut machines, mut header) = (Vec::new(), String::new());
        for line in fs::read_to_string(&path).unwrap().lines() {
            if let Some(block) = line.strip_prefix("@ ") {
                let (on, with) = block.split_once(" : ").unwrap();
                machines = on.split(' ').map(str::to_owned).collect();
                header = with.rsplit(' ').next().unwrap().to_owned();
            } else if !line.starts_with('#') {
                let (expression, value) = line.split_once(" = ").unwrap();
                for machine in &machines {
                    let key = (machine.clone(), header.clone(), expression.to_owned());
                    let old = facts.insert(key, parse(value));
                    assert!(old.is_none(), "{}: duplicate line {line}", path.display());
                }
            }
        }
    }
    facts
}

fn parse(value: &str) -> Value {
    if let Some(text) = value.strip_prefix('"') {
        Value::Text(text.strip_suffix('"').unwrap().to_owned())
    } else if let Some((offset, len)) = value.split_once(' ') {
        Value::Field(offset.parse().unwrap(), len.parse().unwrap())
    } else if let Some(hex) = value.strip_prefix("0x") {
        Value::Number(u64::from_str_radix(hex, 16).unwrap())
    } else {
        Value::Number(value.parse().unwrap())
    }
}

#[derive(Default)]
struct Constants(BTreeMap<Key, Value>);

impl Constants {
    fn add(&mut self, machines: &[&str], header: &str, expression: &str, value: Value) {
        for machine in machines {
            let key = (
                (*machine).to_owned(),
                header.to_owned(),
                expression.to_owned(),
            );
            assert!(self.0.insert(key, value.clone()).is_none());
        }
    }

    fn numbers<N: Into<u64> + Copy>(
        &mut self,
        machines: &[&str],
        header: &str,
        list: &[(&str, N)],
    ) {
        for (expression, number) in list {
            self.add(
                machines,
                header,
                expression,
                Value::Number((*number).into()),
            );
        }
    }

    fn fields(&mut self, machines: &[&str], header: &str, of: &str, list: &[(&str, Field)]) {
        for (name, field) in list {
            let expression = format!("struct {of}.{name}");
            let value = Value::Field(field.offset, field.len);
            self.add(machines, header, &expression, value);
        }
    }

    fn text(&mut self, machines: &[&str], header: &str, expression: &str, text: &str) {
        self.add(machines, header, expression, Value::Text(text.to_owned()));
    }
}

fn size(bytes: usize) -> u64 {
    bytes as u64
}

fn c_text(padded: &[u8]) -> &str {
    let len = padded.iter().position(|b| *b == 0).unwrap_or(padded.len());
    std::str::from_utf8(&padded[..len]).unwrap()
}

fn kerneldump(constants: &mut Constants) {
    use kerneldump::{
        ARCHITECTURE, ARCHITECTUREVERSION, DUMPLENGTH, KERNELDUMPMAGIC, KERNELDUMPMAGIC_CLEARED,
        KEY_ENCRYPTEDKEY_OFFSET, KEY_ENCRYPTEDKEYSIZE, KEY_ENCRYPTION, KEY_IV, MAGIC, PARITY,
        TEXTDUMPMAGIC, V4, V4_UNUSED, VERSION,
    };
    let header = "sys/kerneldump.h";
    constants.fields(
        &EVERY,
        header,
        "kerneldumpheader",
        &[
            ("magic", MAGIC),
            ("architecture", ARCHITECTURE),
            ("version", VERSION),
            ("architectureversion", ARCHITECTUREVERSION),
            ("dumplength", DUMPLENGTH),
            ("dumptime", V4.dumptime),
            ("dumpkeysize", V4.dumpkeysize.unwrap()),
            ("blocksize", V4.blocksize),
            ("hostname", V4.hostname),
            ("versionstring", V4.versionstring),
            ("panicstring", V4.panicstring),
            ("compression", V4.compression.unwrap()),
            ("dumpextent", V4.dumpextent.unwrap()),
            ("unused", V4_UNUSED),
            ("parity", PARITY),
        ],
    );
    constants.fields(
        &EVERY,
        header,
        "kerneldumpkey",
        &[
            ("kdk_encryption", KEY_ENCRYPTION),
            ("kdk_iv", KEY_IV),
            ("kdk_encryptedkeysize", KEY_ENCRYPTEDKEYSIZE),
        ],
    );
    for (name, magic) in [
        ("KERNELDUMPMAGIC", KERNELDUMPMAGIC),
        ("TEXTDUMPMAGIC", TEXTDUMPMAGIC),
        ("KERNELDUMPMAGIC_CLEARED", KERNELDUMPMAGIC_CLEARED),
    ] {
        constants.text(&EVERY, header, name, c_text(&magic));
    }
    let port = |name| Architecture::architectureversion(name).unwrap();
    constants.numbers(
        &EVERY,
        header,
        &[
            ("KERNELDUMPVERSION", kerneldump::KERNELDUMPVERSION),
            (
                "KERNELDUMP_TEXT_VERSION",
                kerneldump::KERNELDUMP_TEXT_VERSION,
            ),
            ("KERNELDUMP_AMD64_VERSION", port("amd64")),
            ("KERNELDUMP_AARCH64_VERSION", port("aarch64")),
            ("KERNELDUMP_ARM_VERSION", port("armv7")),
            ("KERNELDUMP_I386_VERSION", port("i386")),
            ("KERNELDUMP_MIPS_VERSION", port("mips")),
            ("KERNELDUMP_POWERPC_VERSION", port("powerpc64")),
            ("KERNELDUMP_RISCV_VERSION", port("riscv64")),
        ],
    );
    constants.numbers(
        &EVERY,
        header,
        &[
            ("KERNELDUMP_COMP_NONE", kerneldump::COMPRESSION_NONE),
            ("KERNELDUMP_COMP_GZIP", kerneldump::COMPRESSION_GZIP),
            ("KERNELDUMP_COMP_ZSTD", kerneldump::COMPRESSION_ZSTD),
            ("KERNELDUMP_ENC_NONE", kerneldump::ENCRYPTION_NONE),
            (
                "KERNELDUMP_ENC_AES_256_CBC",
                kerneldump::ENCRYPTION_AES_256_CBC,
            ),
            ("KERNELDUMP_ENC_CHACHA20", kerneldump::ENCRYPTION_CHACHA20),
        ],
    );
    constants.numbers(
        &EVERY,
        header,
        &[
            ("sizeof(struct kerneldumpheader)", size(kerneldump::SIZE)),
            ("KERNELDUMP_IV_MAX_SIZE", size(kerneldump::IV_SIZE)),
            (
                "KERNELDUMP_ENCKEY_MAX_SIZE",
                size(kerneldump::ENCRYPTED_KEY_MAX),
            ),
            (
                "offsetof(struct kerneldumpkey, kdk_encryptedkey)",
                size(KEY_ENCRYPTEDKEY_OFFSET),
            ),
        ],
    );
    for (machine, string) in [
        ("amd64", "amd64"),
        ("arm64", "aarch64"),
        ("arm", "armv7"),
        ("i386", "i386"),
        ("riscv", "riscv64"),
        ("powerpc64", "powerpc64"),
    ] {
        let mut known = Architecture::named(machine).unwrap().machine_archs.iter();
        let known = known.find(|arch| arch.name == string).unwrap().name;
        constants.text(&[machine], "sys/param.h", "MACHINE_ARCH", known);
    }
}

fn memrange(constants: &mut Constants) {
    macro_rules! members {
        ($value:expr, $kind:ident: $($member:ident)*) => {
            [$((stringify!($member), Field {
                offset: offset_of!($kind, $member),
                len: size_of_val(&$value.$member),
            })),*]
        };
    }
    let header = "sys/memrange.h";
    let desc = MemRangeDesc::default();
    let extract = MemExtract::default();
    let livedump = MemLivedumpArg::default();
    let op = MemRangeOp {
        mo_desc: std::ptr::null_mut(),
        mo_arg: [0; 2],
    };
    let fields = members!(desc, MemRangeDesc: mr_base mr_len mr_flags mr_owner);
    constants.fields(&EVERY, header, "mem_range_desc", &fields);
    let fields = members!(extract, MemExtract: me_vaddr me_paddr me_domain me_state);
    constants.fields(&EVERY, header, "mem_extract", &fields);
    let fields = members!(livedump, MemLivedumpArg: fd flags compression);
    constants.fields(&EVERY, header, "mem_livedump_arg", &fields);
    let fields = members!(op, MemRangeOp: mo_desc mo_arg);
    constants.fields(&LP64, header, "mem_range_op", &fields);
    constants.numbers(
        &LP64,
        header,
        &[
            ("sizeof(struct mem_range_op)", size(size_of_val(&op))),
            ("sizeof(struct mem_range_desc)", size(size_of_val(&desc))),
            ("MEMRANGE_GET", memrange::MEMRANGE_GET.into()),
            ("MEMRANGE_SET", memrange::MEMRANGE_SET.into()),
        ],
    );
    constants.numbers(
        &EVERY,
        header,
        &[
            ("sizeof(struct mem_extract)", size(size_of_val(&extract))),
            (
                "sizeof(struct mem_livedump_arg)",
                size(size_of_val(&livedump)),
            ),
            ("MEM_EXTRACT_PADDR", memrange::MEM_EXTRACT_PADDR.into()),
            ("MEM_KERNELDUMP", memrange::MEM_KERNELDUMP.into()),
        ],
    );
    constants.numbers(
        &EVERY,
        header,
        &[
            (
                "MEMRANGE_SET_UPDATE",
                memrange::MEMRANGE_SET_UPDATE.cast_unsigned(),
            ),
            (
                "MEMRANGE_SET_REMOVE",
                memrange::MEMRANGE_SET_REMOVE.cast_unsigned(),
            ),
            ("ME_STATE_INVALID", MeState::Invalid as u32),
            ("ME_STATE_VALID", MeState::Valid as u32),
            ("ME_STATE_MAPPED", MeState::Mapped as u32),
            ("(u_int)MDF_UNCACHEABLE", Mdf::UNCACHEABLE.0),
            ("(u_int)MDF_WRITECOMBINE", Mdf::WRITECOMBINE.0),
            ("(u_int)MDF_WRITETHROUGH", Mdf::WRITETHROUGH.0),
            ("(u_int)MDF_WRITEBACK", Mdf::WRITEBACK.0),
            ("(u_int)MDF_WRITEPROTECT", Mdf::WRITEPROTECT.0),
            ("(u_int)MDF_UNKNOWN", Mdf::UNKNOWN.0),
            ("(u_int)MDF_ATTRMASK", Mdf::ATTRMASK.0),
            ("(u_int)MDF_FIXBASE", Mdf::FIXBASE.0),
            ("(u_int)MDF_FIXLEN", Mdf::FIXLEN.0),
            ("(u_int)MDF_FIRMWARE", Mdf::FIRMWARE.0),
            ("(u_int)MDF_ACTIVE", Mdf::ACTIVE.0),
            ("(u_int)MDF_BOGUS", Mdf::BOGUS.0),
            ("(u_int)MDF_FIXACTIVE", Mdf::FIXACTIVE.0),
            ("(u_int)MDF_BUSY", Mdf::BUSY.0),
            ("(u_int)MDF_FORCE", Mdf::FORCE.0),
        ],
    );
}

fn minidump(constants: &mut Constants) {
    let header = "machine/minidump.h";
    let machines: [(&str, &str, &HeaderFields); 6] = [
        ("amd64", "pmapsize", &amd64::HEADER),
        ("arm64", "pmapsize", &arm64::HEADER),
        ("arm", "ptesize", &arm::HEADER),
        ("i386", "ptesize", &i386::HEADER),
        ("riscv", "pmapsize", &riscv::HEADER),
        ("powerpc64", "pmapsize", &powerpc64::HEADER),
    ];
    for (machine, pmapsize, fields) in machines {
        let on = [machine];
        let row = Architecture::named(machine).expect("a row of the architecture");
        assert_eq!(row.header.magic_text, fields.magic_text);
        constants.text(&on, header, "MINIDUMP_MAGIC", fields.magic_text);
        constants.numbers(&on, header, &[("MINIDUMP_VERSION", fields.last_version)]);
        let sizeof = fields.sizeof[fields.last_version as usize - 1];
        constants.numbers(&on, header, &[("sizeof(struct minidumphdr)", size(sizeof))]);
        let always = [
            ("magic", fields.magic),
            ("version", fields.version),
            ("msgbufsize", fields.msgbufsize),
            ("bitmapsize", fields.bitmapsize),
            (pmapsize, fields.pmapsize),
            ("dumpavailsize", fields.dumpavailsize),
            ("kernbase", fields.kernbase),
        ];
        constants.fields(&on, header, "minidumphdr", &always);
        let sometimes = [
            ("kernend", fields.kernend),
            ("dmapphys", fields.dmapphys),
            ("dmapbase", fields.dmapbase),
            ("dmapend", fields.dmapend),
            ("flags", fields.flags),
            ("paemode", fields.paemode),
            ("arch", fields.arm_arch),
            ("mmuformat", fields.mmuformat),
            ("mmu_name", fields.mmu_name),
            ("hw_direct_map", fields.hw_direct_map),
            ("startkernel", fields.startkernel),
            ("endkernel", fields.endkernel),
        ];
        for (name, field) in sometimes {
            if let Some(field) = field {
                constants.fields(&on, header, "minidumphdr", &[(name, field)]);
            }
        }
    }
    constants.numbers(
        &["arm64"],
        header,
        &[
            ("MINIDUMP_FLAG_PS_MASK", arm64::FLAG_PS_MASK),
            ("MINIDUMP_FLAG_PS_4K", arm64::FLAG_PS_4K),
            ("MINIDUMP_FLAG_PS_16K", arm64::FLAG_PS_16K),
        ],
    );
    constants.numbers(
        &["arm"],
        header,
        &[
            ("MINIDUMP_MMU_FORMAT_UNKNOWN", arm::MMUFORMAT_UNKNOWN),
            ("MINIDUMP_MMU_FORMAT_V4", arm::MMUFORMAT_V4),
            ("MINIDUMP_MMU_FORMAT_V6", arm::MMUFORMAT_V6),
            ("MINIDUMP_MMU_FORMAT_V6_LPAE", arm::MMUFORMAT_V6_LPAE),
        ],
    );
}

fn message_buffer(constants: &mut Constants) {
    let header = "sys/msgbuf.h";
    let models: [(&[&str], &MsgbufFields); 2] = [(&LP64, &msgbuf::LP64), (&ILP32, &msgbuf::ILP32)];
    for (machines, fields) in models {
        let sizeof = ("sizeof(struct msgbuf)", size(fields.sizeof));
        constants.numbers(machines, header, &[sizeof]);
        constants.fields(
            machines,
            header,
            "msgbuf",
            &[
                ("msg_ptr", fields.msg_ptr),
                ("msg_magic", fields.msg_magic),
                ("msg_size", fields.msg_size),
                ("msg_wseq", fields.msg_wseq),
                ("msg_rseq", fields.msg_rseq),
                ("msg_cksum", fields.msg_cksum),
                ("msg_seqmod", fields.msg_seqmod),
                ("msg_lastpri", fields.msg_lastpri),
                ("msg_flags", fields.msg_flags),
            ],
        );
    }
    constants.numbers(
        &EVERY,
        header,
        &[
            ("MSG_MAGIC", msgbuf::MSG_MAGIC),
            ("MSGBUF_NEEDNL", msgbuf::MSGBUF_NEEDNL),
            ("MSGBUF_WRAP", msgbuf::MSGBUF_WRAP),
        ],
    );
}

fn user_end(geometry: &Geometry) -> u64 {
    geometry.user_end.unwrap().0
}

fn page_tables(constants: &mut Constants) {
    constants.numbers(
        &["amd64"],
        "machine/pte.h",
        &[
            ("PAGE_SIZE", amd64::PAGE_SIZE),
            ("PAGE_SHIFT", amd64::PAGE_SHIFT.into()),
            ("PDRSHIFT", amd64::PDRSHIFT.into()),
            ("PDPSHIFT", amd64::PDPSHIFT.into()),
            ("PML4SHIFT", amd64::PML4SHIFT.into()),
            ("NPTEPG", amd64::NPTEPG),
            ("NBPDR", amd64::NBPDR),
            ("NBPDP", amd64::NBPDP),
            ("PML4PML4I", amd64::PML4PML4I),
            ("X86_PG_V", amd64::PG_V),
            ("X86_PG_RW", amd64::PG_RW),
            ("X86_PG_PS", amd64::PG_PS),
            ("PG_NX", amd64::PG_NX),
            ("PG_FRAME", amd64::PG_FRAME),
            ("PG_PS_FRAME", amd64::PG_PS_FRAME),
            ("PG_PS_PDP_FRAME", amd64::PG_PS_PDP_FRAME),
            ("KERNBASE", amd64::KERNBASE.0),
            ("VM_MAXUSER_ADDRESS_LA48", user_end(&amd64::PAGING)),
            ("VM_MAXUSER_ADDRESS_LA57", user_end(&amd64::PAGING_LA57)),
        ],
    );
    constants.numbers(
        &["arm64"],
        "machine/pte.h",
        &[
            ("ATTR_DESCR_MASK", arm64::ATTR_DESCR_MASK),
            ("L3_PAGE", arm64::L3_PAGE),
            ("L2_BLOCK", arm64::L2_BLOCK),
            ("L2_SHIFT", arm64::L2_SHIFT_4K.into()),
            ("L3_SHIFT", arm64::L3_SHIFT_4K.into()),
            ("ATTR_S1_AP(ATTR_S1_AP_RO)", arm64::ATTR_AP_RO),
            ("ATTR_S1_PXN", arm64::ATTR_PXN),
            ("ATTR_S1_UXN", arm64::ATTR_UXN),
            ("VM_MIN_KERNEL_ADDRESS", arm64::VM_MIN_KERNEL_ADDRESS.0),
            ("VM_MAX_KERNEL_ADDRESS", arm64::VM_MAX_KERNEL_ADDRESS.0),
            ("DMAP_MIN_ADDRESS", arm64::DMAP_MIN_ADDRESS.0),
            ("DMAP_MAX_ADDRESS", arm64::DMAP_MAX_ADDRESS.0),
            ("VM_MAX_USER_ADDRESS", user_end(&arm64::PAGING)),
        ],
    );
    constants.numbers(
        &["riscv"],
        "machine/pte.h",
        &[
            ("PTE_V", riscv::PTE_V),
            ("PTE_R", riscv::PTE_R),
            ("PTE_W", riscv::PTE_W),
            ("PTE_X", riscv::PTE_X),
            ("PTE_RWX", riscv::PTE_RWX),
            ("PTE_PPN0_S", riscv::PTE_PPN0_S.into()),
            ("L2_SHIFT", riscv::L2_SHIFT.into()),
            ("L3_SHIFT", riscv::L3_SHIFT.into()),
            ("VM_MIN_KERNEL_ADDRESS", riscv::VM_MIN_KERNEL_ADDRESS.0),
            ("KERNBASE", riscv::VM_MIN_KERNEL_ADDRESS.0),
            ("VM_MAX_KERNEL_ADDRESS", riscv::VM_MAX_KERNEL_ADDRESS.0),
            ("DMAP_MIN_ADDRESS", riscv::DMAP_MIN_ADDRESS.0),
            ("DMAP_MAX_ADDRESS", riscv::DMAP_MAX_ADDRESS.0),
            ("VM_MAX_USER_ADDRESS_SV39", user_end(&riscv::PAGING_SV39)),
            ("VM_MAX_USER_ADDRESS_SV48", user_end(&riscv::PAGING_SV48)),
        ],
    );
    let page = amd64::PAGE_SIZE;
    constants.numbers(
        &["i386"],
        "machine/pmap_pae.h",
        &[
            ("NPTEPG", page / size(i386::PTE_SIZE_PAE)),
            ("PDRSHIFT", i386::NBPDR_PAE.trailing_zeros().into()),
            ("NBPDR", i386::NBPDR_PAE),
            ("PG_V", i386::PG_V),
            ("PG_PS", i386::PG_PS),
            ("PG_NX", i386::PG_NX),
            ("PG_FRAME", i386::PG_FRAME_PAE),
        ],
    );
    constants.numbers(
        &["i386"],
        "machine/pmap_nopae.h",
        &[
            ("NPTEPG", page / size(i386::PTE_SIZE)),
            ("PDRSHIFT", i386::NBPDR.trailing_zeros().into()),
            ("NBPDR", i386::NBPDR),
            ("PG_V", i386::PG_V),
            ("PG_PS", i386::PG_PS),
            ("(u_int)PG_FRAME", i386::PG_FRAME),
        ],
    );
    constants.numbers(
        &["arm"],
        "machine/pte.h",
        &[
            ("L2_TYPE_MASK", arm::L2_TYPE_MASK),
            ("L2_TYPE_INV", arm::L2_TYPE_INV),
            ("L2_TYPE_L", arm::L2_TYPE_L),
            ("L2_TYPE_S", arm::L2_TYPE_S),
            ("(u_int)L2_L_FRAME", arm::L2_L_FRAME),
            ("L2_L_OFFSET", arm::L2_L_OFFSET),
            ("(u_int)L2_S_FRAME", arm::L2_S_FRAME),
        ],
    );
    constants.numbers(
        &["powerpc64"],
        "machine/pte.h",
        &[
            ("LPTE_VALID", powerpc64::LPTE_VALID),
            ("LPTE_HID", powerpc64::LPTE_HID),
            ("LPTE_BIG", powerpc64::LPTE_BIG),
            ("LPTE_API", powerpc64::LPTE_AVPN_API),
            ("LPTE_VSID_SHIFT", powerpc64::LPTE_VSID_SHIFT.into()),
            ("ADDR_SR_SHFT", powerpc64::ADDR_SR_SHIFT.into()),
        ],
    );
}

/// The layouts of 15 with 64-bit pointers.
fn vm_pages(constants: &mut Constants) {
    let (machines, header) = (&["amd64"], "vm/_vm_phys.h");
    let (_, _, page) = VM_PAGES
        .iter()
        .find(|(_, of, _)| *of == vm_page::LP64)
        .unwrap();
    let (_, seg) = VM_PHYS_SEGS
        .iter()
        .find(|(of, _)| *of == vm_page::LP64)
        .unwrap();
    let paddr = vm_page::LP64.paddr;
    let field = |offset: u64, len| Field {
        offset: offset as usize,
        len,
    };
    constants.numbers(
        machines,
        header,
        &[
            ("sizeof(struct vm_page)", page.size),
            ("PG_NODUMP", page.nodump.into()),
            ("sizeof(struct vm_phys_seg)", seg.size),
        ],
    );
    let fields = [
        ("phys_addr", field(page.phys_addr, paddr)),
        ("flags", field(page.flags, 1)),
    ];
    constants.fields(machines, header, "vm_page", &fields);
    let fields = [
        ("start", field(0, paddr)),
        ("end", field(paddr as u64, paddr)),
        ("first_page", field(seg.first_page as u64, 8)),
    ];
    constants.fields(machines, header, "vm_phys_seg", &fields);
}

/// Whether the values of a header have no public constants: limits, and the other fields of x86, arm
/// and powerpc64. minidump/libkvm compares the structures of libkvm.
fn without_constants(machine: &str, header: &str) -> bool {
    ["machine/vmparam.h", "sys/nlist_aout.h"].contains(&header)
        || ["machine/pcb.h", "machine/frame.h"].contains(&header)
            && !["arm64", "riscv"].contains(&machine)
}

#[test]
fn constants_equal_those_of_freebsds_headers() {
    let mut constants = Constants::default();
    kerneldump(&mut constants);
    memrange(&mut constants);
    minidump(&mut constants);
    message_buffer(&mut constants);
    page_tables(&mut constants);
    vm_pages(&mut constants);
    registers::x86(&mut constants);
    registers::risc(&mut constants);
    let facts = facts();
    let mut wrong = Vec::new();
    for (key, theirs) in &facts {
        match constants.0.get(key) {
            Some(ours) if ours == theirs => {}
            Some(ours) => wrong.push(format!("{key:?}: {ours:?}, FreeBSD {theirs:?}")),
            None if without_constants(&key.0, &key.1) => {}
            None => wrong.push(format!("{key:?}: no constant")),
        }
    }
    let known = facts.keys().collect::<BTreeSet<_>>();
    for key in constants.0.keys().filter(|key| !known.contains(key)) {
        wrong.push(format!("{key:?}: not in testdata/freebsd-headers"));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(facts.len() > 500, "only {} values", facts.len());
}
