//! Loaded kernel files: `linker_files`.

use livecore_minidump::VirtAddr;

use super::builder::Builder;
use super::content::Kind;
use super::error::Error;
use super::store::Source;
use super::truth::{Module, Prot};

/// A module of the machine: file name and pages.
const MODULES: [(&str, u64, u64); 2] = [("synth.ko", 5, 0x4a31), ("if_synth.ko", 9, 0x8c40)];

/// Makes the kernel's own element and two modules.
pub(crate) fn build(b: &mut Builder<'_>) -> Result<Vec<Module>, Error> {
    let page = b.space.page_size;
    let mut modules = vec![Module {
        name: "kernel".into(),
        path: "/boot/kernel/kernel".into(),
        address: VirtAddr(b.kernel.start),
        size: b.kernel.end.next_multiple_of(page) - b.kernel.start,
    }];
    if b.layout.word != 8 {
        return Ok(modules);
    }
    for (name, pages, size) in MODULES {
        let va = b.kva;
        for i in 0..pages {
            let pa = b.frames.one("modules", page)?;
            let bottom = b.bottom();
            b.map(bottom, va + i * page, pa, page, Prot::RWX)?;
            b.store.add_run(
                pa / 4096..(pa + page) / 4096,
                Source::Kind(if i < 3 { Kind::Code } else { Kind::Heap }),
            );
        }
        b.kva = va + (pages + 1) * page;
        modules.push(Module {
            name: name.into(),
            path: format!("/boot/modules/{name}"),
            address: VirtAddr(va),
            size,
        });
    }

    let l = b.layout.linker;
    let head = b.kernel.address("linker_files")?;
    let mut link = head;
    for (i, module) in modules.iter().enumerate() {
        let va = b.slab(u64::from(l.size))?;
        let name = b.slab(64)?;
        let path = b.slab(64)?;
        b.poke(name, module.name.as_bytes())?;
        b.poke(path, module.path.as_bytes())?;
        b.poke_u32(va + u64::from(l.refs), 1)?;
        b.poke_u64(va + u64::from(l.filename), name)?;
        b.poke_u64(va + u64::from(l.pathname), path)?;
        b.poke_u32(va + u64::from(l.id), i as u32 + 1)?;
        b.poke_u64(va + u64::from(l.address), module.address.0)?;
        b.poke_u64(va + u64::from(l.length), module.size)?;
        b.poke_u64(link, va)?;
        b.poke_u64(va + u64::from(l.next) + 8, link)?;
        if i == 0 {
            b.set_u64("linker_kernel_file", va)?;
        }
        link = va + u64::from(l.next);
    }
    b.poke_u64(link, 0)?;
    b.poke_u64(head + 8, link)?;
    Ok(modules)
}
