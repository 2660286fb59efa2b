//! Random descriptions: each gives a machine or an error.

use livecore_minidump::PhysAddr;
use std::fmt::Write as _;

use super::dump::dumped;
use crate::rng::Rng;
use crate::{Architecture, Description, Machine, build};
use livecore_minidump::PhysMemory as _;

/// A description from a seed. Most are possible, some are not.
fn text(rng: &mut Rng) -> String {
    let architecture = *rng.pick(&["amd64", "amd64", "amd64", "aarch64", "riscv64"]);
    let release = *rng.pick(if architecture == "amd64" {
        &["12.1", "14.0", "15.0"][..]
    } else {
        &["14.0", "15.0"][..]
    });
    let page = *rng.pick(if architecture == "aarch64" {
        &[4096u64, 16384][..]
    } else {
        &[4096][..]
    });
    let size = (16 << 20) + rng.below(48 << 20) / page * page;
    let cpus = 1 + rng.below(8) * rng.below(8);
    let mut out = format!(
        "seed = {}\narchitecture = \"{architecture}\"\n[memory]\nsize = {size}\npage_size = {page}\n",
        rng.below(1 << 40)
    );
    if rng.below(2) == 0 {
        let _ = writeln!(out, "low = {}", (16 + 2 * rng.below(16)) << 20);
    }
    for (key, odds) in [("vm_page_array", 4), ("vm_page_array_in_direct_map", 2)] {
        let _ = writeln!(out, "{key} = {}", rng.below(odds) != 0);
    }
    let base = match architecture {
        "aarch64" => 1u64 << 30,
        "riscv64" => 2 << 30,
        _ => 0,
    };
    if rng.below(2) == 0 {
        let start = base + (6 << 20) + rng.below(40 << 20) / page * page;
        let _ = writeln!(
            out,
            "holes = [[{start}, {}]]",
            start + page * (1 + rng.below(64))
        );
    }
    let _ = writeln!(
        out,
        "[kernel]\nrelease = \"{release}\"\nfunctions = {}",
        rng.below(1500)
    );
    if release != "12.1" && rng.below(2) == 0 {
        let _ = writeln!(out, "load = {}", base + ((2 + 2 * rng.below(16)) << 20));
    }
    if rng.below(3) == 0 {
        let _ = writeln!(out, "stoppcbs = \"{}\"", rng.pick(&["array", "pointer"]));
    }
    out.push_str("[content]\n");
    for key in ["kernel", "direct", "nodump", "user"] {
        let _ = writeln!(out, "{key} = {}", rng.below(size / 8) / page * page);
    }
    if page == 4096 {
        let _ = writeln!(out, "large = {}", rng.below(3) << 21);
    }
    if architecture == "amd64" && rng.below(4) == 0 {
        let _ = writeln!(out, "giant = \"{}\"", rng.pick(&["device", "ram"]));
    }
    let _ = writeln!(out, "[state]\ncpus = {cpus}");
    if rng.below(2) == 0 {
        out.push_str("panic = \"by chance\"\n");
    }
    let ring = page * (2 + rng.below(64));
    let _ = writeln!(
        out,
        "[msgbuf]\nsize = {ring}\nunread = {}\nwrapped = {}",
        rng.below(ring),
        rng.below(2) == 0
    );
    out
}

/// Checks the properties of every machine.
fn check(machine: &Machine) {
    let truth = machine.truth();
    let memory = machine.memory();
    // Every expected page is RAM and in dump_avail, exactly once, in order.
    let mut last = 0;
    let mut page = vec![0; truth.page_size as usize];
    for run in &truth.dumped {
        assert!(
            run.len > 0 && run.pa >= PhysAddr(last) && run.pa.0.is_multiple_of(truth.page_size)
        );
        last = run.pa.0 + run.len;
        let avail = truth.dump_avail.iter();
        assert!(avail.clone().any(|r| r.start <= run.pa && last <= r.end.0));
        memory
            .read(PhysAddr(last - truth.page_size), &mut page)
            .expect("memory");
    }
    // Mappings do not overlap.
    let ends = truth.mappings.windows(2);
    assert!(ends.clone().all(|m| m[0].va.0 + m[0].len <= m[1].va.0));
    assert!(truth.kva_end >= truth.kernel_vm_end);
    // No frame of RAM is mapped twice by pages, but for a leaf over everything.
    let mut frames: Vec<(u64, u64)> = truth
        .mappings
        .iter()
        .filter(|m| m.leaf == truth.page_size)
        .map(|m| (m.pa.0, m.pa.0 + m.len))
        .collect();
    frames.sort_unstable();
    assert!(frames.windows(2).all(|f| f[0].1 <= f[1].0), "a frame twice");
}

#[test]
fn any_description_gives_a_machine_or_a_reason() {
    let seed = 0x6d61_6368_696e_6573;
    let mut rng = Rng::new(seed, "descriptions");
    let (mut made, mut refused) = (0, 0);
    for n in 0..120 {
        let text = text(&mut rng);
        let description = match Description::parse(&text) {
            Ok(description) => description,
            Err(_) => {
                refused += 1;
                continue;
            }
        };
        match build(&description) {
            Err(error) => {
                assert!(error.to_string().len() > 20, "{error}");
                refused += 1;
            }
            Ok(machine) => {
                let outcome = std::panic::catch_unwind(|| check(&machine));
                assert!(outcome.is_ok(), "seed {seed:#x}, number {n}:\n{text}");
                if description.architecture == Architecture::Amd64 && n % 6 == 0 {
                    let expected: u64 = machine.truth().dumped_pages();
                    assert_eq!(
                        dumped(&machine).len() as u64,
                        expected,
                        "number {n}:\n{text}"
                    );
                }
                made += 1;
            }
        }
    }
    assert!(made > 60, "{made} made, {refused} refused");
}
