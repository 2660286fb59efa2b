//! The kernel variables of all architectures.

use super::description::{Description, Stoppcbs};
use super::kernel::Variable;
use super::layout::{Layout, Release};

/// Returns the version string of a kernel.
pub(crate) fn version(description: &Description, machine: &str) -> String {
    let release = description.release();
    let ident = &description.kernel.ident;
    format!(
        "FreeBSD {} #0 releng/{}-n{:06}: Mon Jan  1 00:00:00 UTC 2024\n    \
         root@build.example.org:/usr/obj/usr/src/{machine}.{machine}/sys/{ident}\n",
        release.osrelease(),
        description.kernel.release,
        description.seed % 1_000_000,
    )
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// `sizeof(struct mem_affinity)`: start, end, domain (FreeBSD `sys/vm/vm_phys.h`).
pub(crate) const AFFINITY: u64 = 24;

/// Returns all variables of a kernel.
pub(crate) fn all(description: &Description, layout: &Layout, version: &str) -> Vec<Variable> {
    let release = description.release();
    let old = release.is_old();
    let maxcpu = u64::from(layout.maxcpu);
    let word = u64::from(layout.word);
    let mut all = vec![
        Variable::data("version", text(version)),
        Variable::data("ostype", text("FreeBSD")),
        Variable::data("osrelease", text(release.osrelease())),
        Variable::data("osreldate", release.osreldate().to_le_bytes()),
        // A second copy of the version, which every kernel has for what(1).
        Variable {
            section: super::kernel::Section::Constant,
            ..Variable::data("sccs", text(&format!("@(#){version}")))
        },
        Variable::data("hz", 1000u32.to_le_bytes()),
        Variable::zero("kernel_pmap_store", u64::from(layout.vmspace.pmap_size)),
        Variable::zero("kernel_vm_end", word),
        Variable::zero("dump_avail", u64::from(layout.dump_avail * layout.paddr)),
        Variable::zero("phys_avail", u64::from(layout.dump_avail * layout.paddr)),
        Variable::zero("vm_page_dump", word),
        Variable::zero(
            "vm_phys_segs",
            u64::from(layout.physseg_max) * u64::from(layout.phys_seg.size),
        ),
        Variable::zero("vm_phys_nsegs", 4),
        Variable::zero("vm_page_array", word),
        Variable::zero("vm_page_array_size", word),
        Variable::zero("first_page", word),
        Variable::zero("msgbufp", word),
        Variable::zero("prison0", u64::from(layout.prison.size)),
        Variable::zero("panicstr", word),
        Variable::zero("buf", 256).local(),
        Variable::zero("time_second", word),
        Variable::zero("time_uptime", word),
        Variable::zero("physmem", word),
        Variable::zero("Maxmem", word),
        Variable::zero("allproc", word),
        Variable::zero("dumppcb", u64::from(layout.pcb_size)).local(),
        Variable::zero("dumptid", 4),
        Variable::zero("dumping", 4),
        Variable::zero("stopped_cpus", if old { maxcpu / 8 } else { 1024 / 8 }),
        Variable::zero("mp_maxid", 4),
        Variable::zero("mp_ncpus", 4),
        Variable::zero(
            "stoppcbs",
            match description.stoppcbs() {
                Stoppcbs::Array => maxcpu * u64::from(layout.pcb_size),
                Stoppcbs::Pointer => word,
            },
        ),
        Variable::zero("linker_files", 2 * word).local(),
        Variable::zero("linker_kernel_file", word),
        Variable::int("pcb_size", layout.pcb_size),
        Variable::int("proc_off_p_pid", layout.proc_.pid),
        Variable::int("proc_off_p_comm", layout.proc_.comm),
        Variable::int("proc_off_p_list", layout.proc_.list),
        Variable::int("proc_off_p_threads", layout.proc_.threads),
        Variable::int("thread_off_td_tid", layout.thread.tid),
        Variable::int("thread_off_td_name", layout.thread.name),
        Variable::int("thread_off_td_oncpu", layout.thread.oncpu),
        Variable::int("thread_off_td_pcb", layout.thread.pcb),
        Variable::int("thread_off_td_plist", layout.thread.plist),
        Variable::int("kld_off_address", layout.linker.address),
        Variable::int("kld_off_filename", layout.linker.filename),
        Variable::int("kld_off_pathname", layout.linker.pathname),
        Variable::int("kld_off_next", layout.linker.next),
    ];
    let domains = description.memory.domains;
    if domains > 1 {
        all.extend([
            Variable::data("vm_ndomains", domains.to_le_bytes()),
            Variable::zero("mem_affinity", word),
            // It ends with an entry whose `end` is 0.
            Variable::zero("mem_info", AFFINITY * u64::from(domains + 1)).local(),
        ]);
    }
    match layout.proc_.hash {
        Some(hash) => all.extend([
            Variable::int("proc_off_p_hash", hash),
            Variable::zero("pidhashtbl", word),
            Variable::zero("pidhash", word),
        ]),
        None => all.push(Variable::zero("zombproc", word)),
    }
    all.extend([
        // An int before 12.
        Variable::zero("kdb_active", if release == Release::R10 { 4 } else { 1 }),
        Variable::zero("kdb_pcb", u64::from(layout.pcb_size)).local(),
        Variable::zero("kdb_thread", word),
    ]);
    all.push(if old {
        Variable::zero("vm_page_dump_size", 4)
    } else {
        Variable::zero("vm_page_dump_pages", word)
    });
    all
}
