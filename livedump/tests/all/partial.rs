//! Dumps of memory with missing pages.

use std::ops::Range;
use std::sync::Arc;

use livecore_livedump::take::{Note, PlanOptions, plan};
use livecore_minidump::{KernelElf, KernelMemory, PhysAddr, PhysMemory, VirtAddr};
use livecore_synth::Why;

use crate::take::{PAGE, dump, expected, taken, tiny};

/// Memory of which a part is missing, like a truncated or incomplete image.
struct Partial {
    memory: Arc<dyn PhysMemory>,
    ranges: Vec<Range<PhysAddr>>,
}

impl Partial {
    /// The memory without `gone`.
    fn new(memory: Arc<dyn PhysMemory>, gone: &[Range<PhysAddr>]) -> Self {
        let mut ranges = memory.ranges().to_vec();
        for gone in gone {
            ranges = ranges
                .into_iter()
                .flat_map(|range| {
                    let before = range.start..range.end.min(gone.start);
                    let after = range.start.max(gone.end)..range.end;
                    [before, after]
                })
                .filter(|range| !range.is_empty())
                .collect();
        }
        Self { memory, ranges }
    }
}

impl PhysMemory for Partial {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        &self.ranges
    }

    fn read(&self, at: PhysAddr, buf: &mut [u8]) -> std::io::Result<()> {
        livecore_minidump::check_ranges(&self.ranges, at, buf.len())?;
        self.memory.read(at, buf)
    }

    fn is_partial(&self) -> bool {
        true
    }
}

#[test]
fn dump_of_partial_memory_has_the_other_pages_and_the_missing_count() {
    let machine = tiny();
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    let whole = taken(&machine, None);
    assert_eq!(whole.missing, 0);
    let whole = dump(&whole);
    let kernel = livecore_kernel::Kernel::new(&whole, &elf);
    let bitmap = kernel.variable("vm_page_dump", 8).unwrap();
    let bitmap = whole.translate(VirtAddr(bitmap)).unwrap().0;
    // Single pages, and the end of memory.
    let runs = machine.truth().dumped.iter();
    let single = runs.filter(|run| run.why == Why::Bit).map(|run| run.pa);
    let single = single.filter(|pa| *pa != PhysAddr(bitmap)).step_by(7);
    let mut gone = single
        .map(|pa| pa..PhysAddr(pa.0 + PAGE))
        .collect::<Vec<_>>();
    let end = machine.memory().ranges().last().unwrap().end.0;
    gone.push(PhysAddr(end - (64 << 10))..PhysAddr(end));
    let pages = expected(machine.truth());
    let is_gone =
        |gone: &[Range<PhysAddr>], pa: u64| gone.iter().any(|range| range.contains(&PhysAddr(pa)));
    // Without a page of the kernel's bitmap, all pages that it describes are dumped.
    for (gone, is_exact) in [
        (gone, true),
        (
            std::iter::once(PhysAddr(bitmap)..PhysAddr(bitmap + PAGE)).collect(),
            false,
        ),
    ] {
        let memory = Arc::new(Partial::new(machine.memory(), &gone));
        let partial = plan(memory, &elf, &PlanOptions::default()).unwrap();
        let lost = pages.keys().filter(|pa| is_gone(&gone, **pa)).count() as u64;
        assert!(lost > 0);
        if is_exact {
            assert_eq!(partial.missing, lost);
        } else {
            assert!(partial.missing >= lost);
            assert_eq!(partial.notes, [Note::BitmapPagesMissing { count: 1 }]);
        }
        let partial = dump(&partial);
        let mut buf = [[0; PAGE as usize]; 2];
        for pa in pages.keys() {
            let [expected, found] = &mut buf;
            whole.read_phys(PhysAddr(*pa), expected).unwrap();
            let read = partial.read_phys(PhysAddr(*pa), found);
            assert_eq!(read.is_err(), is_gone(&gone, *pa), "{pa:#x}");
            assert!(read.is_err() || expected == found, "{pa:#x}");
        }
    }
}
