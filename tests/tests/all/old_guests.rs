//! Dumps of FreeBSD 10.4 and 12.1 guests on amd64 and i386: their pages against the independent
//! page-table walk, locating the kernel, and errors for the wrong kernel.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use livecore_kernel::Kernel;
use livecore_kernel::locate::identify;
use livecore_minidump::{KernelElf, PhysAddr, PhysMemory};
use livecore_synth::Machine;
use livecore_tests::elf_edit::Elf;
use livecore_tests::golden::golden;
use livecore_tests::outside::{self, Tables};

use crate::dumps::{elf, open, pages, payload, planned};

const GUESTS: [(&str, &str, Tables); 6] = [
    ("10.4", machine_text!("old-10.4"), Tables::Amd64),
    ("12.1", machine_text!("old-12.1"), Tables::Amd64),
    ("12.1 i386", machine_text!("i386-12.1"), Tables::I386),
    (
        "12.1 i386 PAE",
        machine_text!("i386-pae-12.1"),
        Tables::I386Pae,
    ),
    ("10.4 i386", machine_text!("i386-10.4"), Tables::I386),
    (
        "10.4 i386 PAE",
        machine_text!("i386-pae-10.4"),
        Tables::I386Pae,
    ),
];

/// Reads a kernel's variables from memory; its image is contiguous in physical memory.
struct Guest<'a> {
    memory: Arc<dyn PhysMemory>,
    elf: &'a KernelElf,
    tables: Tables,
}

impl Guest<'_> {
    fn read(&self, at: u64, buf: &mut [u8]) {
        self.memory.read(PhysAddr(at), buf).unwrap();
    }

    fn number(&self, at: u64, len: usize) -> u64 {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes[..len]);
        u64::from_le_bytes(bytes)
    }

    /// Physical address of a variable.
    fn address(&self, name: &str) -> u64 {
        let va = self.elf.symbol(name).unwrap().value;
        va - match self.tables {
            Tables::Amd64 => 0xffff_ffff_8000_0000,
            _ if va >= 0xc000_0000 => 0xc000_0000,
            _ => 0,
        }
    }

    fn long(&self, name: &str) -> u64 {
        self.number(self.address(name), self.elf.pointer_size())
    }

    fn root(&self) -> u64 {
        self.long(match self.tables {
            Tables::Amd64 => "KPML4phys",
            Tables::I386 => "IdlePTD",
            Tables::I386Pae => "IdlePDPT",
        })
    }

    fn dump_avail(&self) -> Vec<Range<u64>> {
        let size = if self.tables == Tables::I386 { 4 } else { 8 };
        let at = self.address("dump_avail");
        let pair = |i: u64| {
            let word = |k: u64| self.number(at + (2 * i + k) * size as u64, size);
            word(0)..word(1)
        };
        (0..).map(pair).take_while(|pair| pair.end != 0).collect()
    }

    /// Addresses of the pages that are set in the kernel's bitmap.
    fn marked(&self) -> Vec<u64> {
        let (root, va) = (self.root(), self.long("vm_page_dump"));
        let read = |at: u64, buf: &mut [u8]| self.read(at, buf);
        let size = self.number(self.address("vm_page_dump_size"), 4);
        let byte = |i: u64| {
            let at = outside::translate(&read, self.tables, root, va + i).unwrap();
            self.number(at, 1)
        };
        let bits = (0..size).flat_map(|i| {
            let byte = byte(i);
            (0..8)
                .filter(move |bit| byte >> bit & 1 == 1)
                .map(move |bit| 8 * i + bit)
        });
        bits.map(|number| number * 4096).collect()
    }

    fn walked(&self) -> BTreeSet<u64> {
        let kva = match self.tables {
            Tables::Amd64 => {
                let nkpt = self.number(self.address("nkpt"), 4);
                let boot = 0xffff_ffff_8000_0000 + nkpt * (2 << 20);
                0xffff_fe00_0000_0000..boot.max(self.long("kernel_vm_end"))
            }
            _ => self.elf.symbol("kernbase").unwrap().value..self.long("kernel_vm_end"),
        };
        let read = |at: u64, buf: &mut [u8]| self.read(at, buf);
        let window = match self.tables {
            Tables::Amd64 => None,
            _ => Some(self.long("crashdumpmap")),
        };
        let (marked, avail) = (self.marked(), self.dump_avail());
        outside::pages(
            &read,
            self.tables,
            self.root(),
            kva,
            marked.into_iter(),
            &avail,
            window,
        )
    }
}

#[test]
fn dump_of_an_old_kernel_has_the_pages_of_the_independent_walk() {
    for (name, text, tables) in GUESTS {
        let machine = Machine::parse(text).unwrap();
        let truth = machine.truth();
        let elf = elf(machine.kernel());
        let memory = machine.memory();
        let guest = Guest {
            memory: memory.clone(),
            elf: &elf,
            tables,
        };
        let mut expected = guest.walked();
        assert!(!truth.nodump.is_empty(), "{name}");
        let marked = |page: &u64| {
            let page = PhysAddr(*page);
            truth.nodump.iter().any(|range| range.contains(&page))
        };
        if tables == Tables::Amd64 {
            // The walk does not read PG_NODUMP.
            expected.retain(|page| !marked(page));
        } else {
            // i386 kernels ignore PG_NODUMP.
            assert!(expected.iter().any(marked), "{name}");
        }
        let taken = planned(memory, machine.kernel()).unwrap();
        assert!(taken.notes.is_empty(), "{name}: {:?}", taken.notes);
        let found = pages(&taken);
        let extra = found.difference(&expected).take(4).collect::<Vec<_>>();
        let lost = expected.difference(&found).take(4).collect::<Vec<_>>();
        assert!(
            extra.is_empty() && lost.is_empty(),
            "{name}: extra {extra:x?}, lost {lost:x?}"
        );
        assert!(found.len() > 500, "{name}: {}", found.len());

        // The section equals the kernel's bitmap, which has a bit for each page from 0.
        let header = taken.plan.header();
        let version = if tables == Tables::Amd64 { 2 } else { 1 };
        assert_eq!(header.version, version, "{name}");
        let size = guest.number(guest.address("vm_page_dump_size"), 4);
        assert_eq!(u64::from(header.bitmapsize), size, "{name}");
        let mut bitmap = vec![0; size as usize];
        for page in &expected {
            bitmap[(page / 4096 / 8) as usize] |= 1 << (page / 4096 % 8);
        }
        let dump = payload(&taken);
        let msgbuf = u64::from(header.msgbufsize).next_multiple_of(4096);
        let at = (4096 + msgbuf) as usize;
        assert!(dump[at..at + bitmap.len()] == bitmap, "{name}");
        // There is no `dump_avail` section.
        let len = at as u64 + size + u64::from(header.pmapsize) + 4096 * expected.len() as u64;
        assert_eq!(dump.len() as u64, len, "{name}");
    }
}

#[test]
fn threads_are_read_from_the_dump_of_an_old_kernel() {
    for (name, text, _) in GUESTS {
        let machine = Machine::parse(text).unwrap();
        let elf = elf(machine.kernel());
        let taken = planned(machine.memory(), machine.kernel()).unwrap();
        let dump = open(&payload(&taken));
        let found = Kernel::new(&dump, &elf).processes().unwrap();
        let threads: Vec<_> = found.threads().collect();
        assert_eq!(found.problems, [""; 0], "{name}");
        let found = threads.iter();
        let found = found.map(|t| (t.tid as u32, t.pid as u32, t.name.clone(), t.cpu, t.zombie));
        let expected = machine.truth().threads.iter();
        let expected = expected.map(|t| (t.tid, t.pid, t.name.clone(), t.cpu, t.zombie));
        let expected = expected.collect::<Vec<_>>();
        assert_eq!(found.collect::<Vec<_>>(), expected, "{name}");
        let running = expected.iter().filter(|t| t.3.is_some()).count();
        assert!(running >= 2 && running < expected.len(), "{name}");
    }
}

#[test]
fn identify_finds_the_release_of_an_old_kernel_without_its_file() {
    for (name, text, tables) in GUESTS {
        let machine = Machine::parse(text).unwrap();
        let found = identify(&machine.memory());
        let line = machine.truth().version.lines().next().unwrap();
        assert_eq!(found.versions[0].text, line, "{name}");
        let root = machine.truth().root;
        match tables {
            Tables::Amd64 => assert!(found.kernel_roots.contains(&root), "{name}"),
            Tables::I386 => assert_eq!(found.directories.first, root, "{name}"),
            // The last directory maps all four, in 10.4 the third.
            Tables::I386Pae => {
                let last = found.directories_pae.first.offset_from(root);
                assert!(matches!(last, Some(0x3000 | 0x4000)), "{name}: {last:x?}");
            }
        }
        let text = found.sentences().join("; ");
        assert_eq!(text.contains("PAE"), tables == Tables::I386Pae, "{text}");
    }
}

/// Changes the page at an address; `false` if the page is missing.
type Change = Box<dyn Fn(u64, &mut [u8]) -> bool + Send + Sync>;

/// Memory with some pages changed.
struct Patched {
    inner: Arc<dyn PhysMemory>,
    change: Change,
}

impl PhysMemory for Patched {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        self.inner.ranges()
    }
    fn read(&self, PhysAddr(at): PhysAddr, buf: &mut [u8]) -> std::io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            let here = at + done as u64;
            let (page, skip) = (here - here % 4096, (here % 4096) as usize);
            let mut bytes = [0; 4096];
            self.inner.read(PhysAddr(page), &mut bytes)?;
            if !(self.change)(page, &mut bytes) {
                return Err(std::io::ErrorKind::NotFound.into());
            }
            let n = (4096 - skip).min(buf.len() - done);
            buf[done..done + n].copy_from_slice(&bytes[skip..skip + n]);
            done += n;
        }
        Ok(())
    }
}

/// Physical addresses of the kernel's code.
fn text(machine: &Machine, elf: &KernelElf) -> Range<u64> {
    let [text] = elf.text() else {
        panic!("one section of code");
    };
    let truth = machine.truth();
    let base = match truth.dmap.is_empty() {
        false => 0xffff_ffff_8000_0000,
        true if text.start.0 >= 0xc000_0000 => 0xc000_0000,
        true => 0,
    };
    text.start.0 - base..text.end.0 - base
}

#[test]
fn kernel_with_breakpoints_is_found_and_another_build_is_refused() {
    let mut refused = String::new();
    for (name, recipe, _) in GUESTS {
        let recipe = recipe.replace("functions = 200\n", "");
        let recipe = recipe.replace("[kernel]\n", "[kernel]\nfunctions = 1500\n");
        let machine = Machine::parse(&recipe).unwrap();
        let elf = elf(machine.kernel());
        let code = text(&machine, &elf);
        let expected = payload(&planned(machine.memory(), machine.kernel()).unwrap());
        // Change one byte per `step` in every `every`th page: breakpoints, calls patched at boot,
        // other code.
        for (every, step, other) in [(3, 4096, false), (1, 256, false), (1, 64, true)] {
            let code = code.clone();
            let memory = Arc::new(Patched {
                inner: machine.memory(),
                change: Box::new(move |page, bytes| {
                    if code.contains(&page) && (page / 4096).is_multiple_of(every) {
                        bytes
                            .iter_mut()
                            .step_by(step)
                            .for_each(|byte| *byte ^= 0xcc);
                    }
                    true
                }),
            });
            match planned(memory, machine.kernel()) {
                Ok(taken) => {
                    assert!(!other, "{name}");
                    assert_eq!(payload(&taken).len(), expected.len(), "{name}");
                }
                Err(error) => {
                    assert!(other, "{name}: {error}");
                    writeln!(refused, "{name}: {error}").unwrap();
                }
            }
        }
    }
    golden("locate/another-build.txt", &refused);
}

#[test]
fn old_kernel_is_located_by_a_file_with_symbols_only() {
    for (name, text, _) in GUESTS {
        let machine = Machine::parse(text).unwrap();
        let own = planned(machine.memory(), machine.kernel()).unwrap();
        let symbols = Elf::new(machine.kernel().to_vec()).only_symbols().bytes();
        let taken = planned(machine.memory(), &symbols).unwrap();
        assert_eq!(taken.machine.located, own.machine.located, "{name}");
        assert!(payload(&taken) == payload(&own), "{name}");
    }
}

#[test]
fn kernel_without_its_version_string_is_located_by_its_code() {
    let mut refused = String::new();
    for (name, recipe, _) in GUESTS {
        let recipe = recipe.replace("functions = 200\n", "");
        let recipe = recipe.replace("[kernel]\n", "[kernel]\nfunctions = 1500\n");
        let machine = Machine::parse(&recipe).unwrap();
        let elf = elf(machine.kernel());
        let own = planned(machine.memory(), machine.kernel()).unwrap();
        let code = text(&machine, &elf);
        let [first] = elf.text() else {
            panic!("one section of code");
        };
        let version = elf.symbol("version").unwrap().value - first.start.0 + code.start;
        let without = |there: bool| {
            Arc::new(Patched {
                inner: machine.memory(),
                change: Box::new(move |page, bytes| {
                    if page != version - version % 4096 {
                        return true;
                    }
                    let at = (version % 4096) as usize;
                    bytes[at..at + 7].copy_from_slice(b"OpenBSD");
                    there
                }),
            })
        };
        let found = planned(without(false), machine.kernel());
        match found {
            Ok(taken) => assert_eq!(taken.machine.located, own.machine.located, "{name}"),
            Err(error) => panic!("{name}: {error}"),
        }
        // With another string there, it is another kernel.
        let error = planned(without(true), machine.kernel()).map(|_| ());
        writeln!(refused, "{name}: {}", error.unwrap_err()).unwrap();
    }
    golden("locate/another-version.txt", &refused);
}
