//! Memory: pages by state, counters of the VM system, malloc(9) types, uma(9) zones.
//!
//! FreeBSD `sys/sys/vmmeter.h`, `sys/vm/{vm_page,vm_pagequeue,uma_int}.h`, `sys/sys/malloc.h`.

use livecore_defs::statistics::{MBUF_ZONES, VMMETER_COUNTERS};
use livecore_minidump::VirtAddr;

use crate::error::KernelError;

use super::Cell;
use super::reader::Reader;

type Rows = Result<Vec<Vec<Cell>>, KernelError>;

/// The queues of a domain, in the order of `vmd_pagequeues`.
const QUEUES: [&str; 4] = ["inactive", "active", "laundry", "unswappable"];
/// The consumers that the summary lists.
const LARGEST: usize = 10;

/// The name and the value of a counter.
fn row(name: &str, value: u64) -> Vec<Cell> {
    vec![name.to_string().into(), value.into()]
}

/// Pages by state, then the largest zones and malloc types.
pub(super) fn summary(reader: &mut Reader<'_>) -> Rows {
    let page = reader.page();
    let mut rows = Vec::new();
    let mut add = |name: &str, pages: u64| {
        let bytes = pages.saturating_mul(page);
        rows.push(vec![name.to_string().into(), bytes.into(), pages.into()]);
    };
    let states = states(reader);
    for (name, pages) in reader.known(states).unwrap_or_default() {
        add(&name, pages);
    }
    for (kind, bytes_at, found) in [
        ("zone", 8, zones(reader)),
        ("malloc", 2, malloc_types(reader)),
    ] {
        let found = reader.known(found).unwrap_or_default();
        let mut sizes: Vec<(u64, String)> = found
            .iter()
            .filter_map(|row| match row.get(bytes_at) {
                Some(Cell::Number(bytes)) => Some((*bytes, row[0].to_string())),
                _ => None,
            })
            .collect();
        sizes.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        sizes.truncate(LARGEST);
        for (bytes, name) in sizes.into_iter().filter(|(bytes, _)| *bytes > 0) {
            let name = format!("{kind} {name}");
            rows.push(vec![name.into(), bytes.into(), Cell::Unknown]);
        }
    }
    Ok(rows)
}

/// Pages by state.
fn states(reader: &mut Reader<'_>) -> Result<Vec<(String, u64)>, KernelError> {
    let counts = reader.kernel.address("vm_cnt")?;
    let total = reader.field(counts, "vmmeter", "v_page_count")?;
    let wired = reader.field(counts, "vmmeter", "v_wire_count")?;
    let wired = match is_counter(reader, "v_wire_count")? {
        true => reader.counter(wired)?,
        false => wired,
    };
    let mut states = vec![("total".into(), total), ("wired".into(), wired)];
    let (domains, size) = (
        reader.kernel.address("vm_dom")?,
        reader.size_of("vm_domain")?,
    );
    let queue = reader.size_of("vm_pagequeue")?;
    let mut queues = [0_u64; QUEUES.len()];
    let mut free = 0_u64;
    for domain in 0..reader.domains() {
        let at = domains.wrapping_add(domain * size);
        free = free.saturating_add(reader.field(at, "vm_domain", "vmd_free_count")?);
        let first = reader.place(at, "vm_domain", "vmd_pagequeues")?;
        for (i, pages) in queues.iter_mut().enumerate() {
            let at = first.wrapping_add(i as u64 * queue);
            let count = reader.field(at, "vm_pagequeue", "pq_cnt")?;
            *pages = pages.saturating_add(count);
        }
    }
    states.push(("free".into(), free));
    let queues = QUEUES.iter().zip(queues);
    states.extend(queues.map(|(name, pages)| ((*name).to_string(), pages)));
    Ok(states)
}

/// Whether a member of `vmmeter` is a pointer to a counter(9), and not an integer: since 12, those before
/// `v_page_size`. On 32-bit machines, both have 4 bytes.
fn is_counter(reader: &Reader<'_>, member: &str) -> Result<bool, KernelError> {
    let offset = reader.member("vmmeter", member)?.offset;
    let first_integer = reader.member("vmmeter", "v_page_size")?.offset;
    let release = reader.kernel.osreldate();
    Ok(offset < first_integer && release.is_none_or(|release| release >= VMMETER_COUNTERS))
}

/// All members of `vm_cnt`.
pub(super) fn counters(reader: &mut Reader<'_>) -> Rows {
    let at = reader.kernel.address("vm_cnt")?;
    let types = reader.kernel.types().and_then(|t| t.structure("vmmeter"));
    let members = types.ok_or_else(|| KernelError::NoMember("vmmeter".into()))?;
    let mut members: Vec<(String, u64)> = members
        .members()
        .filter(|(name, _)| name.starts_with("v_") && !name.contains('.'))
        .map(|(name, member)| (name.to_string(), member.offset))
        .collect();
    members.sort_by_key(|(_, offset)| *offset);
    let mut rows = Vec::new();
    for (name, _) in members {
        let value = reader.field(at, "vmmeter", &name);
        let value = value.and_then(|value| match is_counter(reader, &name)? {
            true => reader.counter(value),
            false => Ok(value),
        });
        if let Some(value) = reader.known(value) {
            rows.push(row(&name, value));
        }
    }
    Ok(rows)
}

/// The types of malloc(9), since 13.
pub(super) fn malloc_types(reader: &mut Reader<'_>) -> Rows {
    let head = reader.kernel.address("kmemstatistics")?;
    let next = reader.member("malloc_type", "ks_next")?.offset;
    reader.member("malloc_type", "ks_mti.mti_stats")?;
    let members = [
        "mts_memalloced",
        "mts_memfreed",
        "mts_numallocs",
        "mts_numfrees",
    ];
    for member in members {
        reader.member("malloc_type_stats", member)?;
    }
    let mut rows = Vec::new();
    for at in reader.list("kmemstatistics", head, next) {
        let read = |reader: &Reader<'_>| -> Result<Vec<Cell>, KernelError> {
            let name = reader.string(at, "malloc_type", "ks_shortdesc")?;
            let stats = reader.field(at, "malloc_type", "ks_mti.mti_stats")?;
            let mut sums = [0_u64; 4];
            // A type without memory has no statistics before the CPUs start.
            for cpu in (0..reader.cpus()).filter(|_| stats != 0) {
                let at = reader.of_cpu(stats, cpu);
                for (sum, member) in sums.iter_mut().zip(members) {
                    let value = reader.field(at, "malloc_type_stats", member)?;
                    *sum = sum.wrapping_add(value);
                }
            }
            let [allocated, freed, allocations, frees] = sums;
            Ok(vec![
                name.into(),
                allocations.saturating_sub(frees).into(),
                allocated.saturating_sub(freed).into(),
                allocations.into(),
            ])
        };
        let row = read(reader);
        rows.extend(reader.known(row));
    }
    sort(&mut rows);
    Ok(rows)
}

/// The zones of uma(9), since 13.
pub(super) fn zones(reader: &mut Reader<'_>) -> Rows {
    let kegs = reader.kernel.address("uma_kegs")?;
    let next_keg = reader.member("uma_keg", "uk_link")?.offset;
    let next_zone = reader.member("uma_zone", "uz_link")?.offset;
    let mut rows = Vec::new();
    for keg in reader.list("uma_kegs", kegs, next_keg) {
        let head = reader.place(keg, "uma_keg", "uk_zones")?;
        for (i, zone) in reader
            .list("uk_zones", head, next_zone)
            .into_iter()
            .enumerate()
        {
            if rows.len() >= super::reader::LIST {
                reader.problem(&"uma_kegs: too many zones");
                return Ok(rows);
            }
            // The memory of a keg counts for its first zone.
            let row = self::zone(reader, zone, Some((keg, i == 0)));
            rows.extend(reader.known(row));
        }
    }
    if let Ok(head) = reader.kernel.address("uma_cachezones") {
        for zone in reader.list("uma_cachezones", head, next_zone) {
            let row = self::zone(reader, zone, None);
            rows.extend(reader.known(row));
        }
    }
    sort(&mut rows);
    Ok(rows)
}

fn zone(
    reader: &Reader<'_>,
    zone: VirtAddr,
    keg: Option<(VirtAddr, bool)>,
) -> Result<Vec<Cell>, KernelError> {
    let field = |member| reader.field(zone, "uma_zone", member);
    let counter = |member| reader.counter(field(member)?);
    let (mut allocations, mut frees) = (counter("uz_allocs")?, counter("uz_frees")?);
    let mut free = 0_u64;
    let caches = reader.place(zone, "uma_zone", "uz_cpu")?;
    let size = reader.size_of("uma_cache")?;
    for cpu in 0..reader.cpus() {
        let at = caches.wrapping_add(cpu * size);
        let cache = |member| reader.field(at, "uma_cache", member);
        allocations = allocations.wrapping_add(cache("uc_allocs")?);
        frees = frees.wrapping_add(cache("uc_frees")?);
        for bucket in ["uc_allocbucket", "uc_freebucket", "uc_crossbucket"] {
            let at = reader.place(at, "uma_cache", bucket)?;
            free = free.wrapping_add(reader.field(at, "uma_cache_bucket", "ucb_cnt")?);
        }
    }
    let domains = caches.wrapping_add(reader.cpus() * size);
    let size = reader.size_of("uma_zone_domain")?;
    for domain in 0..reader.domains() {
        let at = domains.wrapping_add(domain * size);
        free = free.wrapping_add(reader.field(at, "uma_zone_domain", "uzd_nitems")?);
    }
    let mut bytes = Cell::Unknown;
    let mut item = field("uz_size")?;
    if let Some((keg, first)) = keg {
        item = reader.field(keg, "uma_keg", "uk_size")?;
        let (at, size) = (
            reader.place(keg, "uma_keg", "uk_domain")?,
            reader.size_of("uma_domain")?,
        );
        let mut pages = 0_u64;
        for domain in 0..reader.domains() {
            let at = at.wrapping_add(domain * size);
            pages = pages.wrapping_add(reader.field(at, "uma_domain", "ud_pages")?);
            if first {
                free = free.wrapping_add(reader.field(at, "uma_domain", "ud_free_items")?);
            }
        }
        if first {
            bytes = pages.saturating_mul(reader.page()).into();
        }
    }
    Ok(vec![
        reader.string(zone, "uma_zone", "uz_name")?.into(),
        item.into(),
        field("uz_max_items")?.into(),
        allocations.saturating_sub(frees).into(),
        free.into(),
        allocations.into(),
        counter("uz_fails")?.into(),
        field("uz_sleeps")?.into(),
        bytes,
    ])
}

/// The zones of mbufs and their clusters.
pub(super) fn mbufs(reader: &mut Reader<'_>) -> Rows {
    let zones = zones(reader)?;
    let of = |name: &str| {
        let found = zones.iter().find(|row| row[0] == Cell::Text(name.into()));
        found.cloned()
    };
    Ok(MBUF_ZONES.into_iter().filter_map(of).collect())
}

/// Sorts rows by name.
fn sort(rows: &mut [Vec<Cell>]) {
    rows.sort_by_cached_key(|row| row[0].to_string());
}
