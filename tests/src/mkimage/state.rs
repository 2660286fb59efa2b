//! State files that accompany a memory file: VMware's `.vmss`, bhyve's metadata.

use super::append::put;
use super::memory::Memory;
use super::registers::{NAMES, control, register};

/// Appends a tag with a number.
fn tag(out: &mut Vec<u8>, name: &str, indices: &[u64], width: usize, value: u64) {
    let head = (name.len() as u64) << 8 | (indices.len() as u64) << 6 | width as u64;
    put(out, 2, &[head]);
    out.extend(name.bytes());
    put(out, 4, indices);
    put(out, width, &[value]);
}

/// Appends a tag with a block that begins at a multiple of 16.
fn block(out: &mut Vec<u8>, at: usize, name: &str, indices: &[u64], bytes: &[u8]) {
    put(
        out,
        2,
        &[(name.len() as u64) << 8 | (indices.len() as u64) << 6 | 0x3f],
    );
    out.extend(name.bytes());
    put(out, 4, indices);
    let data = at + out.len() + 18;
    let pad = data.next_multiple_of(16) - data;
    put(out, 8, &[bytes.len() as u64, bytes.len() as u64]);
    put(out, 2, &[pad as u64]);
    out.resize(out.len() + pad, 0);
    out.extend(bytes);
}

/// A `.vmss` with two groups: `cpu`, with the registers of `cpus` processors or one block, and
/// `memory`.
fn build(memory: &Memory, with_memory: bool, cpus: u32) -> Vec<u8> {
    let groups = 12 + 2 * 80;
    let mut cpu = Vec::new();
    tag(&mut cpu, "cpu:numVCPUs", &[], 4, u64::from(cpus.max(1)));
    if cpus == 0 {
        block(&mut cpu, groups, "gpregs", &[0], &[7; 128]);
    }
    for number in 0..cpus {
        let index = u64::from(number);
        tag(&mut cpu, "eflags", &[index], 4, register(number, "rflags"));
        tag(&mut cpu, "eip", &[index], 4, 7);
        for name in NAMES.into_iter().filter(|name| *name != "rflags") {
            tag(&mut cpu, name, &[index], 8, register(number, name));
        }
        for cr in 0..5 {
            tag(&mut cpu, "CR", &[index, u64::from(cr)], 4, 7);
            let value = control(number, cr);
            tag(&mut cpu, "CR64", &[index, u64::from(cr)], 8, value);
        }
        tag(&mut cpu, "halted", &[index], 1, 0);
    }
    put(&mut cpu, 2, &[0]);
    let at = groups + cpu.len();
    let mut regions = Vec::new();
    tag(
        &mut regions,
        "regionsCount",
        &[],
        4,
        memory.ranges.len() as u64,
    );
    let mut page = 0;
    for (index, (start, bytes)) in (0..).zip(&memory.ranges) {
        let pages = bytes.len() as u64 / 4096;
        tag(&mut regions, "regionPageNum", &[index], 4, page);
        tag(&mut regions, "regionPPN", &[index], 4, start / 4096);
        tag(&mut regions, "regionSize", &[index], 4, pages);
        page += pages;
    }
    tag(&mut regions, "align_mask", &[], 4, 0xffff);
    if with_memory {
        block(&mut regions, at, "Memory", &[0, 0], &memory.packed());
    }
    put(&mut regions, 2, &[0]);

    let mut out = Vec::new();
    put(&mut out, 4, &[0xbed2_bed2, 8, 2]);
    for (name, position, size) in [("cpu", groups, cpu.len()), ("memory", at, regions.len())] {
        out.extend(name.bytes());
        out.resize(out.len() + 64 - name.len(), 0);
        put(&mut out, 8, &[position as u64, size as u64]);
    }
    out.extend(cpu);
    out.extend(regions);
    out
}

/// A `.vmss` for a `.vmem` that contains the concatenated ranges of `memory`.
#[must_use]
pub fn vmss(memory: &Memory) -> Vec<u8> {
    build(memory, false, 0)
}

/// A `.vmss` that contains the memory.
#[must_use]
pub fn vmss_with_memory(memory: &Memory) -> Vec<u8> {
    build(memory, true, 0)
}

/// A `.vmss` that contains the memory and the registers of `cpus` processors.
#[must_use]
pub fn vmss_with_cpus(memory: &Memory, cpus: u32) -> Vec<u8> {
    build(memory, true, cpus)
}

/// `NAME.ckp.meta` of a bhyve guest with `size` bytes of memory, as libxo writes it.
#[must_use]
pub fn bhyve_meta(size: u64) -> String {
    format!(
        "{{\n  \"basic metadata\": {{\n    \"ncpus\": 1,\n    \"vmname\": \"guest\",\n    \
         \"memsize\": {size},\n    \"memflags\": 0\n  }},\n  \"kern_structs\": [\n    {{\n      \
         \"device\": \"vhpet\",\n      \"size\": 120,\n      \"file_offset\": 0\n    }}\n  ]\n}}\n"
    )
}
