//! Sockets of kernels with other lists: torn and circular ones, those before 14, and those without vnets.

use std::collections::BTreeMap;

use livecore_kernel::{Kernel, SECTION_STRUCTURES, Section, Types};
use livecore_minidump::{KernelElf, VirtAddr};
use livecore_synth::Machine;

use crate::locks::Changed;

/// `ipi_listhead` in `struct inpcbinfo`, an unused word of it, and `inp_list` in `struct inpcb`.
const HEAD: u64 = 32;
const SPARE: u64 = 48;
const LIST: u64 = 360;

/// Reads the sockets of a machine with changed words and a changed kernel file. `change` gets the address
/// of `tcbinfo` and those of the first two control blocks of TCP.
fn sockets(
    file: impl Fn(Vec<u8>) -> Vec<u8>,
    change: impl Fn(u64, u64, [u64; 2]) -> Vec<(u64, u64)>,
) -> (Vec<String>, Section) {
    let machine = Machine::parse(machine_text!("deadlock")).unwrap();
    let truth = machine.truth();
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    let found = livecore_kernel::locate::Machine::find(machine.memory(), &elf).unwrap();
    let kernel = found.kernel(&elf);
    let rows = truth
        .sections
        .iter()
        .filter(|row| row.section == "netstat-A");
    let rows: Vec<_> = rows.map(|row| row.cells.clone()).collect();
    let pcb = |i: usize| u64::from_str_radix(rows[i][1].trim_start_matches("0x"), 16).unwrap();
    let symbol = truth.symbol("vnet_entry_tcbinfo").unwrap();
    // vnet_data_base
    let vnet = kernel.pointer("vnet0").unwrap();
    let base = kernel.long_at("vnet", vnet.wrapping_add(40)).unwrap();
    let words: BTreeMap<u64, u64> = change(symbol, symbol.wrapping_add(base), [pcb(0), pcb(1)])
        .into_iter()
        .map(|(at, value)| (kernel.memory().translate(VirtAddr(at)).unwrap().0, value))
        .collect();
    let memory = Changed {
        memory: kernel.memory(),
        words,
    };
    let elf = KernelElf::from_bytes(file(machine.kernel().to_vec())).unwrap();
    let types = Types::read(&elf, &SECTION_STRUCTURES);
    let changed = Kernel::new(memory, &elf).with_types(&types);
    let section = changed.section("netstat-A", &[]).unwrap();
    let all = rows.iter().map(|cells| cells.join(" ")).collect();
    (all, section)
}

fn lines(section: &Section) -> Vec<String> {
    let text = |row: &Vec<livecore_kernel::Cell>| {
        let cells: Vec<_> = row.iter().map(ToString::to_string).collect();
        cells.join(" ")
    };
    section.rows.iter().map(text).collect()
}

#[test]
fn a_torn_list_of_sockets_has_its_start_and_the_place_where_it_ends() {
    let (all, section) = sockets(|file| file, |_, _, [first, _]| vec![(first + LIST, 0x1000)]);
    let whole: Vec<_> = all
        .iter()
        .filter(|line| !line.starts_with("tcp46"))
        .cloned()
        .collect();
    assert_eq!(lines(&section), whole);
    let place = format!("{:#x}", 0x1000 + LIST);
    let named = section
        .problems
        .iter()
        .any(|problem| problem.contains(&place));
    assert!(named, "{place}: {:?}", section.problems);

    let (all, section) = sockets(
        |file| file,
        |_, _, [first, second]| vec![(second + LIST, first)],
    );
    assert_eq!(lines(&section), all);
    let circular = section
        .problems
        .iter()
        .any(|problem| problem.contains("circular"));
    assert!(circular, "{:?}", section.problems);
}

/// Up to 13, `ipi_listhead` points to the head of the list.
#[test]
fn sockets_of_13_are_in_a_list_with_another_head() {
    let (all, section) = sockets(
        |file| file,
        |_, info, [first, _]| {
            vec![
                (info + HEAD, info + SPARE),
                (info + SPARE, first),
                (first + LIST + 8, info + SPARE),
            ]
        },
    );
    assert_eq!(lines(&section), all);
}

/// Without `VIMAGE`, the variables have no prefix, and are where their symbols are.
#[test]
fn sockets_of_a_kernel_without_vnets_are_found() {
    let rename = |mut file: Vec<u8>| {
        let (old, new) = (b"\0vnet_entry_tcbinfo\0", b"\0tcbinfo\0");
        let at = file
            .windows(old.len())
            .position(|part| part == old)
            .unwrap();
        file[at..at + old.len()].fill(0);
        file[at..at + new.len()].copy_from_slice(new);
        file
    };
    let (all, section) = sockets(rename, |symbol, _, [first, _]| {
        vec![(symbol + HEAD, first), (first + LIST + 8, symbol + HEAD)]
    });
    assert_eq!(lines(&section), all);
}
