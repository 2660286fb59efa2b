//! The order in which the kernel's structures are read.

use std::sync::Mutex;

use livecore_kernel::Kernel;
use livecore_minidump::{Dump, KernelMemory, PhysAddr, ReadError, VirtAddr};

use super::builder::{AMD64, KernelBuilder};

/// A dump that records where it is read.
struct Recorded {
    dump: Dump,
    reads: Mutex<Vec<PhysAddr>>,
}

impl KernelMemory for Recorded {
    fn page_size(&self) -> u64 {
        self.dump.page_size()
    }

    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        self.reads.lock().unwrap().push(at);
        self.dump.read_phys(at, buf)
    }

    fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError> {
        self.dump.translate(at)
    }
}

/// A process that is read again has to be decoded again, if there are many processes.
#[test]
fn processes_of_allproc_are_not_read_again_in_the_hash_table() {
    let mut builder = KernelBuilder::new(AMD64, &["cpu_switch"]);
    let head = builder.address("allproc");
    let alive = builder.list(head, &[(5, "sh", &[]), (1, "init", &[])]);
    let unlinked = builder.allocate(8);
    let dead = builder.list(unlinked, &[(9, "true", &[])]);
    let (hash, mask) = (0x20, 3);
    for (name, len, value) in [("proc_off_p_hash", 4, hash), ("pidhash", 8, mask)] {
        let at = builder.variable(name, len);
        builder.put(at, len, value);
    }
    let at = builder.variable("pidhashtbl", 8);
    let table = builder.allocate(4 * 8);
    builder.put(at, 8, table);
    builder.put(table + 8, 8, alive[0].0);
    builder.put(alive[0].0 + hash, 8, dead[0].0);
    builder.put(dead[0].0 + hash, 8, alive[1].0);
    let (dump, elf) = builder.build();
    let memory = Recorded {
        dump,
        reads: Mutex::default(),
    };
    let found = Kernel::new(&memory, &elf).processes().unwrap();
    let pids: Vec<_> = found.list.iter().map(|p| (p.pid, p.zombie)).collect();
    assert_eq!(pids, [(5, false), (1, false), (9, true)]);
    let reads = memory.reads.lock().unwrap();
    let within = |va: u64, len: u64| {
        let start = memory.dump.translate(VirtAddr(va)).unwrap().0;
        move |at: &PhysAddr| (start..start + len).contains(&at.0)
    };
    let first = reads.iter().position(within(table, 32)).unwrap();
    assert!(reads[first..].iter().any(within(dead[0].0 + hash, 8)));
    for process in alive {
        assert!(reads[..first].iter().any(within(process.0, hash + 8)));
        assert!(!reads[first..].iter().any(within(process.0, hash + 8)));
    }
}
