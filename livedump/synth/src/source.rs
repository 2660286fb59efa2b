//! The C source of a compiled kernel: structures from the layout, functions from the chains, a
//! linker script.

use std::fmt::Write as _;

use super::chains::{self, Names};
use super::description::{Description, Kernphys, Stoppcbs};
use super::layout::{Layout, Release};

/// One member: offset, bytes, declaration.
type Member = (u32, u32, &'static str);

/// Writes a structure with its members at the offsets of the layout.
fn structure(out: &mut String, name: &str, size: u32, mut members: Vec<Member>) {
    members.sort_by_key(|member| member.0);
    let mut at = 0;
    let _ = writeln!(out, "struct {name} {{");
    for (offset, bytes, declaration) in members {
        if offset > at {
            let _ = writeln!(out, "\tchar spare_{at}[{}];", offset - at);
        }
        let _ = writeln!(out, "\t{declaration};");
        at = offset + bytes;
    }
    if size > at {
        let _ = writeln!(out, "\tchar spare_{at}[{}];", size - at);
    }
    let _ = writeln!(
        out,
        "}};\n_Static_assert(sizeof(struct {name}) == {size}, \"{name}\");"
    );
}

/// Returns a C string literal.
fn literal(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => {
                out.push('\\');
                out.push(byte as char);
            }
            b' '..=b'~' => out.push(byte as char),
            _ => {
                let _ = write!(out, "\\{byte:03o}");
            }
        }
    }
    out.push('"');
    out
}

/// `layout.h`.
pub(crate) fn layout(description: &Description, l: &Layout, version: &str) -> String {
    let release = description.release();
    let mut out = String::new();
    for (name, value) in [
        ("VERSION", literal(version)),
        ("OSRELEASE", literal(release.osrelease())),
        ("OSRELDATE", release.osreldate().to_string()),
        ("DUMP_AVAIL", l.dump_avail.to_string()),
        ("PHYSSEG_MAX", l.physseg_max.to_string()),
        ("MAXCPU", l.maxcpu.to_string()),
        (
            "STOPPED_CPUS",
            match release.is_old() {
                true => (l.maxcpu / 8).to_string(),
                false => "128".into(),
            },
        ),
    ] {
        let _ = writeln!(out, "#define {name} {value}");
    }
    if description.stoppcbs() == Stoppcbs::Array {
        out.push_str("#define STOPPCBS_ARRAY\n");
    }
    let active = match description.release() {
        Release::R10 => "int",
        _ => "unsigned char",
    };
    let _ = writeln!(out, "#define KDB_ACTIVE {active}");
    if l.proc_.hash.is_some() {
        out.push_str("#define P_HASH\n");
    }
    if description.kernphys() == Kernphys::Variable {
        out.push_str("#define KERNPHYS_VARIABLE\n");
    }
    out.push_str(
        "struct proc;\nstruct thread;\nstruct vmspace;\nstruct vm_page;\nstruct linker_file;\n\
         struct proclist { struct proc *lh_first; };\n\
         struct threadlist { struct thread *tqh_first; struct thread **tqh_last; };\n\
         struct linker_file_list { struct linker_file *tqh_first; struct linker_file **tqh_last; };\n\
         enum { TDS_INACTIVE, TDS_INHIBITED, TDS_CAN_RUN, TDS_RUNQ, TDS_RUNNING };\n",
    );
    structure(
        &mut out,
        "pcb",
        l.pcb_size,
        vec![
            (0, 8, "long pcb_r15"),
            (8, 8, "long pcb_r14"),
            (16, 8, "long pcb_r13"),
            (24, 8, "long pcb_r12"),
            (32, 8, "long pcb_rbp"),
            (40, 8, "long pcb_rsp"),
            (48, 8, "long pcb_rbx"),
            (56, 8, "long pcb_rip"),
        ],
    );
    let p = &l.proc_;
    let mut members: Vec<Member> = vec![
        (
            p.list,
            16,
            "struct { struct proc *le_next; struct proc **le_prev; } p_list",
        ),
        (p.threads, 16, "struct threadlist p_threads"),
        (p.state, 4, "int p_state"),
        (p.pid, 4, "int p_pid"),
        (p.vmspace, 8, "struct vmspace *p_vmspace"),
        (p.comm, 20, "char p_comm[20]"),
    ];
    members.extend(p.hash.map(|at| {
        (
            at,
            16,
            "struct { struct proc *le_next; struct proc **le_prev; } p_hash",
        )
    }));
    structure(&mut out, "proc", p.size, members);
    let t = &l.thread;
    let (last, on) = match t.cpu_bytes {
        1 => ("unsigned char td_lastcpu", "unsigned char td_oncpu"),
        _ => ("int td_lastcpu", "int td_oncpu"),
    };
    let mut members: Vec<Member> = vec![
        (t.proc_, 8, "struct proc *td_proc"),
        (
            t.plist,
            16,
            "struct { struct thread *tqe_next; struct thread **tqe_prev; } td_plist",
        ),
        (t.tid, 4, "int td_tid"),
        (t.inhibitors, 4, "int td_inhibitors"),
        (t.wmesg, 8, "const char *td_wmesg"),
        (t.lastcpu, t.cpu_bytes, last),
        (t.name, 20, "char td_name[20]"),
        (t.pcb, 8, "struct pcb *td_pcb"),
        (t.state, 4, "int td_state"),
        (t.kstack, 8, "unsigned long td_kstack"),
        (
            t.kstack_pages,
            t.kstack_pages_bytes,
            match t.kstack_pages_bytes {
                2 => "unsigned short td_kstack_pages",
                _ => "int td_kstack_pages",
            },
        ),
        (t.oncpu, t.cpu_bytes, on),
    ];
    members.extend(t.md_pcb.map(|at| (at, l.pcb_size, "struct pcb td_md_pcb")));
    structure(&mut out, "thread", t.size, members);
    let v = &l.vm_page;
    let mut members = vec![
        (16, 8, "void *object"),
        (24, 8, "unsigned long pindex"),
        (v.phys_addr, 8, "unsigned long phys_addr"),
        if v.flags_bytes == 2 {
            (v.flags, 2, "unsigned short flags")
        } else {
            (v.flags, 1, "unsigned char flags")
        },
    ];
    // Other machines do not fill them in.
    if let (Some((order, ref_count)), true) = (v.allocation, description.content.free.0 > 0) {
        members.push((order, 1, "unsigned char order"));
        members.push((ref_count, 4, "unsigned int ref_count"));
    }
    structure(&mut out, "vm_page", v.size, members);
    structure(
        &mut out,
        "vm_phys_seg",
        l.phys_seg.size,
        vec![
            (0, 8, "unsigned long start"),
            (8, 8, "unsigned long end"),
            (l.phys_seg.first_page, 8, "struct vm_page *first_page"),
            (l.phys_seg.domain, 4, "int domain"),
        ],
    );
    let j = &l.prison;
    structure(
        &mut out,
        "prison",
        j.size,
        vec![
            (j.name, 256, "char pr_name[256]"),
            (j.path, 1024, "char pr_path[1024]"),
            (j.hostname, 256, "char pr_hostname[256]"),
        ],
    );
    let k = &l.linker;
    structure(
        &mut out,
        "linker_file",
        k.size,
        vec![
            (k.refs, 4, "int refs"),
            (
                k.next,
                16,
                "struct { struct linker_file *tqe_next; struct linker_file **tqe_prev; } link",
            ),
            (k.filename, 8, "char *filename"),
            (k.pathname, 8, "char *pathname"),
            (k.id, 4, "int id"),
            (k.address, 8, "char *address"),
            (k.length, 8, "unsigned long size"),
        ],
    );
    structure(
        &mut out,
        "msgbuf",
        l.msgbuf_size,
        vec![
            (0, 8, "char *msg_ptr"),
            (8, 4, "unsigned int msg_magic"),
            (12, 4, "unsigned int msg_size"),
            (16, 4, "unsigned int msg_wseq"),
            (20, 4, "unsigned int msg_rseq"),
            (24, 4, "unsigned int msg_cksum"),
            (28, 4, "unsigned int msg_seqmod"),
            (32, 4, "int msg_lastpri"),
            (36, 4, "unsigned int msg_flags"),
        ],
    );
    structure(
        &mut out,
        "pmap",
        l.vmspace.pmap_size,
        vec![
            (32, 8, "unsigned long *pm_pmltop"),
            (40, 8, "unsigned long *pm_pmltopu"),
            (48, 8, "unsigned long pm_cr3"),
            (56, 8, "unsigned long pm_ucr3"),
        ],
    );
    structure(
        &mut out,
        "vmspace",
        l.vmspace.size,
        vec![(l.vmspace.pmap, l.vmspace.pmap_size, "struct pmap vm_pmap")],
    );
    out
}

/// `functions.h`: each function calls the functions that it calls in some chain. `optimized`: some
/// functions are inlined, and some leave by a tail call.
pub(crate) fn functions(names: &Names, optimized: bool) -> String {
    let functions = chains::functions(names, false);
    let mut out = String::new();
    for (name, _) in &functions {
        let _ = writeln!(out, "long {name}(long);");
    }
    for (name, calls) in &functions {
        let section = if *name == "btext" {
            "__attribute__((section(\".text.btext\")))\n"
        } else {
            ""
        };
        let tail = chains::TAIL_CALLS.iter().find(|(from, _)| from == name);
        if let Some((_, callee)) = tail.filter(|_| optimized) {
            let _ = write!(
                out,
                "long\n{name}(long a)\n{{\n\treturn ({callee}(a + 1));\n}}\n"
            );
            continue;
        }
        let inlined = chains::INLINED.iter().find(|(into, _)| into == name);
        let Some((_, inlined)) = inlined.filter(|_| optimized) else {
            body(&mut out, &format!("{section}long"), name, calls);
            continue;
        };
        let always = "static inline __attribute__((always_inline)) long";
        body(&mut out, always, inlined, calls);
        body(&mut out, &format!("{section}long"), name, &[inlined]);
    }
    out
}

/// Writes a function that calls others.
fn body(out: &mut String, kind: &str, name: &str, calls: &[&str]) {
    let _ = write!(
        out,
        "{kind}\n{name}(long a)\n{{\n\tvolatile long local = a;\n"
    );
    for callee in calls {
        let _ = writeln!(out, "\tlocal += {callee}(local + 1);");
    }
    let _ = write!(out, "\treturn (local);\n}}\n");
}

/// The linker script.
pub(crate) fn script(description: &Description, kernbase: u64, start: u64) -> String {
    let kernphys = match description.kernphys() {
        Kernphys::Absolute => "kernphys = 0x200000;\n",
        Kernphys::Variable => "",
    };
    let load = description.load().0;
    format!(
        "ENTRY(btext)\nkernbase = {kernbase:#x};\n{kernphys}SECTIONS\n{{\n\
         \t. = {start:#x};\n\
         \t.text : AT({load:#x}) {{ *(.text.btext) *(.text .text.*) _etext = .; }}\n\
         \t. = ALIGN(4096);\n\
         \t.rodata : {{ *(.rodata .rodata.*) }}\n\
         \t.note.gnu.build-id : {{ *(.note.gnu.build-id) }}\n\
         \t. = ALIGN(4096);\n\
         \t.data : {{ *(.data .data.*) _edata = .; }}\n\
         \t. = ALIGN(4096);\n\
         \t.bss : {{ __bss_start = .; *(.bss .bss.*) *(COMMON) _end = .; }}\n\
         \t/DISCARD/ : {{ *(.eh_frame*) *(.note*) *(.comment) }}\n}}\n"
    )
}
