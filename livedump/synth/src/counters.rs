//! What programs of crashinfo(8) report, in machines with a kernel of kind `ctf`: counters, malloc(9)
//! types, uma(9) zones, interrupts, swap, devices, credentials and open files.
//!
//! Offsets are those of amd64 15.0, for all architectures with 64 bits.

use super::architecture::Architecture;
use super::builder::Builder;
use super::ctf::Structure;
use super::description::{Description, KernelKind};
use super::error::Error;
use super::kernel::Variable;
use super::layout::{Layout, Release};
use super::network;
use super::rows::Made;
use super::truth::{Process, SectionRow, Thread};

/// `p_ucred`, `p_fd` in `struct proc`.
const P_UCRED: u32 = 0x40;
const P_FD: u32 = 0x48;
/// `td_priority` in `struct thread`.
const TD_PRIORITY: u32 = 0x3fa;
/// The priority of all threads.
const PRIORITY: u8 = 152;
/// `sizeof(struct uma_zone)`, `uma_keg`, `uma_cache`, `uma_zone_domain`, `uma_domain`.
const ZONE: u64 = 384;
const KEG: u64 = 192;
const CACHE: u64 = 128;
const DOMAIN: u64 = 128;
const VM_DOMAIN: u64 = 1664;

/// Whether the machine has the contents of this module.
fn applies(description: &Description, layout: &Layout) -> bool {
    description.kernel.kind == KernelKind::Ctf
        && layout.word == 8
        && !description.release().is_old()
        && description.memory.domains == 1
}

/// Returns the variables.
pub(crate) fn variables(description: &Description, layout: &Layout) -> Vec<Variable> {
    if !applies(description, layout) {
        return Vec::new();
    }
    let mut all = vec![
        Variable::zero("vm_cnt", 336),
        Variable::zero("vm_dom", VM_DOMAIN),
        Variable::data("vm_ndomains", 1_u32.to_le_bytes()),
        Variable::zero("kmemstatistics", 8).local(),
        Variable::zero("uma_kegs", 8).local(),
        Variable::zero("uma_cachezones", 8).local(),
        Variable::zero("__pcpu", 8),
        Variable::zero("swtailq", 16).local(),
        Variable::zero("device_statq", 16).local(),
        Variable::zero("openfiles", 4).local(),
        Variable::zero("maxfiles", 4),
        Variable::zero("numvnodes", 8).local(),
        Variable::zero("desiredvnodes", 4),
        Variable::zero("nintrcnt", 4),
        Variable::zero("intrcnt", 8),
        Variable::zero("intrnames", 8),
        Variable::zero("sintrnames", 8),
        Variable::zero("db_capture_buf", 8).local(),
        Variable::zero("db_capture_bufoff", 4).local(),
    ];
    all.extend(network::variables());
    all
}

/// Returns the structures.
pub(crate) fn structures(description: &Description, layout: &Layout) -> Vec<Structure> {
    if !applies(description, layout) {
        return Vec::new();
    }
    let structure = |name, size, members: &[(&'static str, u32, u32)]| Structure {
        name,
        size,
        members: members.to_vec(),
    };
    let mut all = vec![
        structure(
            "vmmeter",
            336,
            &[
                ("v_swtch", 0, 8),
                ("v_forks", 216, 8),
                ("v_wire_count", 280, 8),
                ("v_page_size", 296, 4),
                ("v_page_count", 300, 4),
            ],
        ),
        structure(
            "vm_domain",
            VM_DOMAIN as u32,
            &[("vmd_pagequeues", 0, 512), ("vmd_free_count", 768, 4)],
        ),
        structure("vm_pagequeue", 128, &[("pq_cnt", 48, 4)]),
        structure(
            "malloc_type",
            112,
            &[
                ("ks_next", 0, 8),
                ("ks_shortdesc", 16, 8),
                ("ks_mti.mti_stats", 40, 8),
            ],
        ),
        structure(
            "malloc_type_stats",
            64,
            &[
                ("mts_memalloced", 0, 8),
                ("mts_memfreed", 8, 8),
                ("mts_numallocs", 16, 8),
                ("mts_numfrees", 24, 8),
            ],
        ),
        structure(
            "uma_keg",
            KEG as u32,
            &[
                ("uk_zones", 16, 8),
                ("uk_size", 48, 4),
                ("uk_link", 128, 16),
                ("uk_domain", 192, 0),
            ],
        ),
        structure(
            "uma_zone",
            ZONE as u32,
            &[
                ("uz_size", 4, 4),
                ("uz_max_items", 32, 8),
                ("uz_sleeps", 120, 8),
                ("uz_link", 128, 16),
                ("uz_allocs", 144, 8),
                ("uz_frees", 152, 8),
                ("uz_fails", 160, 8),
                ("uz_name", 168, 8),
                ("uz_cpu", 384, 0),
            ],
        ),
        structure(
            "uma_cache",
            CACHE as u32,
            &[
                ("uc_freebucket", 0, 16),
                ("uc_allocbucket", 16, 16),
                ("uc_crossbucket", 32, 16),
                ("uc_allocs", 48, 8),
                ("uc_frees", 56, 8),
            ],
        ),
        structure("uma_cache_bucket", 16, &[("ucb_cnt", 8, 2)]),
        structure("uma_zone_domain", DOMAIN as u32, &[("uzd_nitems", 24, 8)]),
        structure(
            "uma_domain",
            DOMAIN as u32,
            &[("ud_pages", 88, 4), ("ud_free_items", 92, 4)],
        ),
        structure(
            "swdevt",
            96,
            &[
                ("sw_nblks", 4, 4),
                ("sw_used", 8, 4),
                ("sw_dev", 16, 8),
                ("sw_list", 64, 16),
            ],
        ),
        structure(
            "devstat",
            288,
            &[
                ("dev_links", 32, 8),
                ("device_name", 44, 16),
                ("unit_number", 60, 4),
                ("bytes", 64, 32),
                ("operations", 96, 32),
            ],
        ),
        structure("ucred", 264, &[("cr_uid", 100, 4)]),
        structure("filedesc", 88, &[("fd_files", 0, 8)]),
        structure(
            "fdescenttbl",
            8,
            &[("fdt_nfiles", 0, 4), ("fdt_ofiles", 8, 0)],
        ),
        structure("filedescent", 48, &[("fde_file", 0, 8)]),
        structure(
            "file",
            80,
            &[("f_flag", 0, 4), ("f_type", 40, 2), ("f_offset", 72, 8)],
        ),
    ];
    all.extend(network::structures());
    all
}

/// The members of `struct proc` and `struct thread` that this module writes.
pub(crate) const OF_PROC: [(&str, u32, u32); 2] = [("p_ucred", P_UCRED, 8), ("p_fd", P_FD, 8)];
pub(crate) const OF_THREAD: (&str, u32, u32) = ("td_priority", TD_PRIORITY, 1);

/// Makes everything, and returns the rows that readers should find.
pub(crate) fn build(
    b: &mut Builder<'_>,
    processes: &[Process],
    threads: &[Thread],
) -> Result<Vec<SectionRow>, Error> {
    if !applies(b.description, &b.layout) {
        return Ok(Vec::new());
    }
    let cpus = u64::from(b.description.state.cpus);
    let counters = b.allocate("per-CPU counters", cpus)?;
    let pcpu = b.slab(64)?;
    b.set_word("__pcpu", pcpu)?;
    let relative = b.description.architecture == Architecture::Amd64
        && b.description.release() >= Release::R14;
    let mut made = Made {
        b,
        next: counters,
        pcpu: if relative { pcpu } else { 0 },
        cpus,
        rows: Vec::new(),
    };
    memory(&mut made)?;
    malloc_types(&mut made)?;
    zones(&mut made)?;
    system(&mut made)?;
    files(&mut made, processes, threads)?;
    network::build(&mut made)?;
    Ok(made.rows)
}

fn memory(made: &mut Made<'_, '_>) -> Result<(), Error> {
    let at = made.b.kernel.address("vm_cnt")?;
    for (name, offset, value) in [
        ("v_swtch", 0, 1_234_567),
        ("v_forks", 216, 890),
        ("v_wire_count", 280, 2048),
    ] {
        let pointer = made.per_cpu(&[value])?;
        made.b.poke_u64(at + offset, pointer)?;
        made.row("vmstat-s", &[&name, &value]);
    }
    made.b.poke_u32(at + 296, 4096)?;
    made.b.poke_u32(at + 300, 8192)?;
    made.row("vmstat-s", &[&"v_page_size", &4096]);
    made.row("vmstat-s", &[&"v_page_count", &8192]);
    let domain = made.b.kernel.address("vm_dom")?;
    made.b.poke_u32(domain + 768, 3000)?;
    let page = made.b.space.page_size;
    for (name, pages) in [("total", 8192), ("wired", 2048), ("free", 3000)] {
        made.row("memory", &[&name, &(pages * page), &pages]);
    }
    for (i, name) in ["inactive", "active", "laundry", "unswappable"]
        .iter()
        .enumerate()
    {
        let pages = 100 + i as u64;
        made.b
            .poke_u32(domain + 128 * i as u64 + 48, pages as u32)?;
        made.row("memory", &[name, &(pages * page), &pages]);
    }
    Ok(())
}

fn malloc_types(made: &mut Made<'_, '_>) -> Result<(), Error> {
    let mut next = 0;
    for (name, allocated, freed, count, frees) in [
        ("temp", 70_000_u64, 6_000_u64, 900_u64, 850_u64),
        ("devbuf", 40_000, 0, 40, 0),
    ] {
        let at = made.b.slab(112)?;
        let text = made.text(name)?;
        let stats = made.per_cpu(&[allocated, freed, count, frees])?;
        made.b.poke_u64(at, next)?;
        made.b.poke_u64(at + 16, text)?;
        made.b.poke_u64(at + 40, stats)?;
        next = at;
        let bytes = allocated - freed;
        made.row("vmstat-m", &[&name, &(count - frees), &bytes, &count]);
        made.row("memory", &[&format!("malloc {name}"), &bytes, &"-"]);
    }
    made.b.set_u64("kmemstatistics", next)
}

fn zones(made: &mut Made<'_, '_>) -> Result<(), Error> {
    let size = ZONE + made.cpus * CACHE + DOMAIN;
    let keg = made.b.slab(KEG + DOMAIN)?;
    made.b.set_u64("uma_kegs", keg)?;
    made.b.poke_u32(keg + 48, 256)?;
    made.b.poke_u32(keg + KEG + 88, 40)?;
    made.b.poke_u32(keg + KEG + 92, 11)?;
    let mut link = keg + 16;
    // Two zones share a keg. Its pages count for the first.
    for (i, name) in ["mbuf", "mbuf_packet"].iter().enumerate() {
        let first = i == 0;
        let zone = made.b.slab(size)?;
        made.b.poke_u64(link, zone)?;
        link = zone + 128;
        let text = made.text(name)?;
        made.b.poke_u64(zone + 168, text)?;
        made.b.poke_u64(zone + 32, 500)?;
        made.b.poke_u64(zone + 120, 2)?;
        for (offset, value) in [(144, 1000), (152, 900), (160, 5)] {
            let pointer = made.per_cpu(&[value])?;
            made.b.poke_u64(zone + offset, pointer)?;
        }
        let (mut allocations, mut frees, mut free) = (1000, 900, 0);
        for cpu in 0..made.cpus {
            let at = zone + ZONE + cpu * CACHE;
            made.b.poke_u64(at + 48, 10 + cpu)?;
            made.b.poke_u64(at + 56, 4)?;
            made.b.poke_u32(at + 8, 3)?;
            made.b.poke_u32(at + 24, 1)?;
            allocations += 10 + cpu;
            frees += 4;
            free += 4;
        }
        made.b.poke_u64(zone + ZONE + made.cpus * CACHE + 24, 17)?;
        free += 17 + if first { 11 } else { 0 };
        let bytes = 40 * made.b.space.page_size;
        let pages: &dyn std::fmt::Display = if first { &bytes } else { &"-" };
        let used = allocations - frees;
        made.row(
            "vmstat-z",
            &[name, &256, &500, &used, &free, &allocations, &5, &2, pages],
        );
        made.row(
            "netstat-m",
            &[name, &256, &500, &used, &free, &allocations, &5, &2, pages],
        );
        if first {
            made.row("memory", &[&format!("zone {name}"), &bytes, &"-"]);
        }
    }
    Ok(())
}

fn system(made: &mut Made<'_, '_>) -> Result<(), Error> {
    let (counts, names) = (made.b.slab(64)?, made.b.slab(128)?);
    // `INTRNAME_LEN`
    let name_len = match made.b.description.architecture {
        Architecture::Aarch64 | Architecture::Riscv64 => 39,
        _ => 20,
    };
    made.b.set_u32("nintrcnt", 3)?;
    made.b.set_u64("sintrnames", 3 * name_len)?;
    made.b.set_u64("intrcnt", counts)?;
    made.b.set_u64("intrnames", names)?;
    // An interrupt that has not occurred is not listed.
    for (i, (name, count)) in [("???", 0), ("irq1: atkbd0", 12), ("cpu0:timer", 3456)]
        .into_iter()
        .enumerate()
    {
        made.b.poke_u64(counts + 8 * i as u64, count)?;
        made.b.poke(names + name_len * i as u64, name.as_bytes())?;
        if count > 0 {
            made.row("vmstat-i", &[&name, &count]);
        }
    }
    let swap = made.b.slab(96)?;
    made.b.set_u64("swtailq", swap)?;
    made.b.poke_u32(swap + 4, 65_536)?;
    made.b.poke_u32(swap + 8, 99)?;
    made.b.poke_u64(swap + 16, 0x5b)?;
    made.row("pstat-s", &[&"0x5b", &65_536, &99]);
    made.b.set_u32("openfiles", 77)?;
    made.b.set_u32("maxfiles", 1000)?;
    made.b.set_u64("numvnodes", 400)?;
    made.b.set_u32("desiredvnodes", 5000)?;
    made.row("pstat-T", &[&"files", &77, &1000]);
    made.row("pstat-T", &[&"vnodes", &400, &5000]);
    made.row("pstat-T", &[&"swap pages", &99, &65_536]);
    let device = made.b.slab(288)?;
    made.b.set_u64("device_statq", device)?;
    made.b.poke(device + 44, b"ada")?;
    made.b.poke_u32(device + 60, 3)?;
    for (offset, value) in [(72, 4096 * 21), (80, 512), (104, 21), (112, 1)] {
        made.b.poke_u64(device + offset, value)?;
    }
    made.row("iostat", &[&"ada3", &21, &1, &(4096 * 21), &512]);
    let capture = made.b.slab(64)?;
    // The rest of the buffer is from before it was reset.
    made.b.poke(capture, b"db> bt\nTracing pid 1\nold")?;
    made.b.set_u64("db_capture_buf", capture)?;
    made.b.set_u32("db_capture_bufoff", 21)?;
    made.row("capture", &[&"db> bt"]);
    made.row("capture", &[&"Tracing pid 1"]);
    Ok(())
}

fn files(made: &mut Made<'_, '_>, processes: &[Process], threads: &[Thread]) -> Result<(), Error> {
    for thread in threads {
        let at = thread.va.0 + u64::from(TD_PRIORITY);
        made.b.poke(at, &[PRIORITY])?;
    }
    for process in processes {
        let credential = made.b.slab(264)?;
        made.b.poke_u32(credential + 100, process.pid * 10)?;
        made.b
            .poke_u64(process.va.0 + u64::from(P_UCRED), credential)?;
        let uid = process.pid * 10;
        made.row("ps", &[&uid, &process.pid, &process.comm]);
        if process.zombie || process.pid % 2 == 1 {
            continue;
        }
        let (descriptors, table, file) = (made.b.slab(88)?, made.b.slab(256)?, made.b.slab(80)?);
        made.b
            .poke_u64(process.va.0 + u64::from(P_FD), descriptors)?;
        made.b.poke_u64(descriptors, table)?;
        made.b.poke_u32(table, 3)?;
        // Only descriptor 2 is open.
        made.b.poke_u64(table + 8 + 2 * 48, file)?;
        made.b.poke_u32(file, 3)?;
        made.b.poke_u32(file + 40, 1)?;
        made.b.poke_u64(file + 72, 4321)?;
        let (pid, address) = (process.pid, format!("{file:#x}"));
        made.row(
            "fstat",
            &[&pid, &process.comm, &2, &"vnode", &"0x3", &4321, &address],
        );
    }
    Ok(())
}
