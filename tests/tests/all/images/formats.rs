//! Undamaged images of every format.

use livecore_minidump::PhysAddr;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use livecore_compress::{Encoding, NoProgress, Shape};
use livecore_defs::arm64;
use livecore_livedump::image::{
    self, CpuState, Format, Named, Options, RawLayout, Registers, X86, open_bytes,
};
use livecore_tests::golden::golden;
use livecore_tests::mkimage::{self, Codec, Kdump, Memory};

use super::common::{check, compressed, images, memory, open, ranges};

#[test]
fn every_format_reads_back_the_memory() {
    for (name, format, memory, bytes) in images() {
        let image = open(bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(image.format, format, "{name}");
        check(name, &*image.memory, &memory);
        // The VMware image has a processor whose registers are not read.
        let notes = usize::from(name == "vmware");
        assert_eq!(image.notes.len(), notes, "{name}: {:?}", image.notes);
    }
}

#[test]
fn compressed_images_read_back_the_memory() {
    for (name, format, memory, bytes) in images() {
        for stored in compressed(&bytes) {
            let image = open(stored).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(image.format, format, "{name}");
            assert_ne!(image.codec, livecore_compress::Codec::None, "{name}");
            check(name, &*image.memory, &memory);
        }
        let mut sealed = Vec::new();
        let encoding = Encoding::default();
        let stored = livecore_compress::encode_at(
            &bytes,
            &encoding,
            Shape::Frames,
            &mut sealed,
            &NoProgress,
        )
        .unwrap();
        livecore_compress::write_seal(&stored, b"", &mut sealed).unwrap();
        check(name, &*open(sealed).unwrap().memory, &memory);
    }
}

#[test]
fn image_is_readable_from_many_threads() {
    for (name, _, memory, bytes) in images() {
        let image = open(bytes).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| check(name, &*image.memory, &memory));
            }
        });
    }
}

/// The general registers of processor `number`.
fn expected(number: u32) -> X86 {
    let r = |name: &str| mkimage::register(number, name);
    X86 {
        rax: r("rax"),
        rbx: r("rbx"),
        rcx: r("rcx"),
        rdx: r("rdx"),
        rsi: r("rsi"),
        rdi: r("rdi"),
        rsp: r("rsp"),
        rbp: r("rbp"),
        r8: r("r8"),
        r9: r("r9"),
        r10: r("r10"),
        r11: r("r11"),
        r12: r("r12"),
        r13: r("r13"),
        r14: r("r14"),
        r15: r("r15"),
        rip: r("rip"),
        rflags: r("rflags"),
        ..X86::default()
    }
}

fn x86(cpu: &CpuState) -> X86 {
    *cpu.x86().unwrap()
}

#[test]
fn arm64_and_riscv64_registers_are_read_from_elf_notes() {
    let memory = memory();
    let image = open(mkimage::qemu_arm64(&memory, 3).build()).unwrap();
    check("arm64", &*image.memory, &memory);
    assert_eq!(image.cpus.len(), 3, "notes of vector registers not counted");
    for (number, cpu) in (0..).zip(&image.cpus) {
        let r = |name: &str| mkimage::register(number, name);
        let x = (0..31).map(|x| r(&format!("x{x}")));
        let values = x.chain(["sp", "pc", "pstate"].map(r));
        let truth = Named::new(&arm64::ARCHITECTURE, values).unwrap();
        assert_eq!(*cpu, CpuState::new(number, truth));
        assert_eq!(truth.get("cpsr"), Some(r("pstate")));
    }
    let image = open(mkimage::qemu_riscv64(&memory, 2).build()).unwrap();
    check("riscv64", &*image.memory, &memory);
    assert_eq!(image.cpus.len(), 2);
    for (number, cpu) in (0..).zip(&image.cpus) {
        let r = |name: &str| mkimage::register(number, name);
        let Registers::Named(registers) = cpu.registers else {
            panic!("{cpu:?}");
        };
        assert_eq!((cpu.number, registers.get("pc")), (number, Some(r("pc"))));
        // The names of x1 to x31 in the calling convention.
        let names = "ra sp gp tp t0 t1 t2 fp s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 \
                     s10 s11 t3 t4 t5 t6";
        for (at, name) in (1..).zip(names.split_whitespace()) {
            assert_eq!(registers.get(name), Some(r(&format!("x{at}"))), "{name}");
        }
    }
    // A status of another size is ignored.
    let mut core = mkimage::qemu_arm64(&memory, 1);
    let notes = core.notes.as_mut().unwrap();
    notes[4..8].copy_from_slice(&388_u32.to_le_bytes());
    notes.drain(20 + 388..20 + 392);
    assert!(open(core.build()).unwrap().cpus.is_empty());
}

#[test]
fn registers_of_every_processor_are_read_in_every_format() {
    let mut with_cpus = 0;
    for (name, _, _, bytes) in images() {
        let image = open(bytes).unwrap();
        for (number, cpu) in (0..).zip(&image.cpus) {
            with_cpus += 1;
            let truth = expected(number);
            assert_eq!(cpu.number, number, "{name}");
            let mut found = x86(cpu);
            let segments = found.segments.take().unwrap_or_else(|| panic!("{name}"));
            let control = found.control.take().unwrap_or_else(|| panic!("{name}"));
            let is_32 = std::mem::take(&mut found.is_32);
            assert_eq!(is_32, name.ends_with("-32"), "{name}");
            // QEMU's notes have 64-bit registers in both ELF classes.
            assert_eq!(found, truth, "{name}");
            assert_eq!(control.cr0, mkimage::control(number, 0), "{name}");
            assert_eq!(control.cr2, mkimage::control(number, 2), "{name}");
            assert_eq!(control.cr3, mkimage::control(number, 3), "{name}");
            assert_eq!(control.cr4, mkimage::control(number, 4), "{name}");
            for (segment, of) in [("fs", segments.fs), ("gs", segments.gs)] {
                assert_eq!(of.base, mkimage::segment_base(number, segment), "{name}");
                let selector = mkimage::register(number, segment) as u16;
                assert_eq!(of.selector, selector, "{name}");
            }
            assert_eq!(
                segments.kernel_gs_base,
                Some(mkimage::segment_base(number, "kernel_gs")),
                "{name}"
            );
            if !name.starts_with("xen") {
                assert_eq!(
                    segments.idt.base,
                    mkimage::segment_base(number, "idt"),
                    "{name}"
                );
                assert_eq!(
                    segments.tr.base,
                    mkimage::segment_base(number, "tr"),
                    "{name}"
                );
            }
        }
    }
    assert_eq!(with_cpus, 24);
}

#[test]
fn registers_are_read_from_prstatus_without_qemu_notes() {
    let mut core = mkimage::qemu(&memory(), 2);
    // Two notes of 12 + 8 + 336 bytes, then QEMU's notes.
    core.notes.as_mut().unwrap().truncate(2 * 356);
    let image = open(core.build()).unwrap();
    assert_eq!(image.cpus.len(), 2);
    for (number, cpu) in (0..).zip(&image.cpus) {
        let mut found = x86(cpu);
        let segments = found.segments.take().unwrap();
        assert_eq!(found, expected(number));
        assert_eq!(segments.gs.base, mkimage::segment_base(number, "gs"));
        assert_eq!(segments.kernel_gs_base, None);
    }
    let mut core = mkimage::qemu_32(&super::common::low_memory(), 1);
    core.notes.as_mut().unwrap().truncate(164);
    let cpu = x86(&open(core.build()).unwrap().cpus[0]);
    assert!(cpu.is_32);
    assert_eq!(cpu.rip, mkimage::register(0, "rip") & 0xffff_ffff);
    assert_eq!(cpu.rsp, mkimage::register(0, "rsp") & 0xffff_ffff);
}

#[test]
fn vmware_registers_are_read_from_tags_or_not_at_all() {
    let memory = memory();
    let image = open(mkimage::vmss_with_cpus(&memory, 3)).unwrap();
    assert_eq!(image.cpus.len(), 3);
    assert!(image.notes.is_empty(), "{:?}", image.notes);
    for (number, cpu) in (0..).zip(&image.cpus) {
        assert_eq!(cpu.number, number);
        let mut found = x86(cpu);
        let control = found.control.take().unwrap();
        let mut truth = expected(number);
        // eflags is 4 bytes.
        truth.rflags &= 0xffff_ffff;
        truth.segments = None;
        assert_eq!(found, truth);
        assert_eq!(control.cr0, mkimage::control(number, 0));
        assert_eq!(control.cr2, mkimage::control(number, 2));
        assert_eq!(control.cr3, mkimage::control(number, 3));
        assert_eq!(control.cr4, mkimage::control(number, 4));
    }
    // Registers in a block of unknown layout are not read, and a note says so.
    let image = open(mkimage::vmss_with_memory(&memory)).unwrap();
    assert!(image.cpus.is_empty());
    let mut said = image.notes.join("\n") + "\n";
    check("vmware", &*image.memory, &memory);

    let bytes = mkimage::vmss_with_cpus(&memory, 1);
    let tag = |name: &[u8]| {
        let at = bytes.windows(name.len()).position(|w| w == name);
        at.unwrap()
    };
    // A processor with a missing register is not read.
    let mut without = bytes.clone();
    without[tag(b"r13") + 2] = b'X';
    let image = open(without).unwrap();
    assert!(image.cpus.is_empty());
    said += &(image.notes.join("\n") + "\n");
    // A duplicate register or an impossible processor number: memory is still read.
    for (name, at, byte) in [
        (&b"r13"[..], 2, b'2'),
        (b"r15", 5, 0xff),
        (b"halted", 7, 0x10),
    ] {
        let mut wrong = bytes.clone();
        wrong[tag(name) + at] = byte;
        let image = open(wrong).unwrap();
        check("vmware", &*image.memory, &memory);
        if name == b"halted" {
            assert_eq!(image.cpus.len(), 1);
            continue;
        }
        assert!(image.cpus.is_empty());
        said += &(image.notes.join("\n") + "\n");
    }
    golden("images/vmware-registers.txt", &said);
}

#[test]
fn excluded_pages_of_a_kdump_are_not_readable() {
    let memory = memory();
    let bytes = mkimage::kdump(
        &memory,
        &Kdump {
            exclude_every: 5,
            ..Kdump::default()
        },
    );
    let image = open(bytes).unwrap();
    let mut page = [0; 4096];
    for (number, truth) in memory.pages() {
        let read = image.memory.read(PhysAddr(number * 4096), &mut page);
        assert_eq!(read.is_err(), number % 5 == 0, "page {number:#x}");
        assert!(read.is_err() || page == truth, "page {number:#x}");
    }
}

#[test]
fn unwritten_pages_of_an_incomplete_kdump_are_holes() {
    let memory = memory();
    let all = memory.pages().count();
    let mut said = String::new();
    for (wide, written, share_zeros) in [(true, 40, true), (false, 70, false), (true, 1, true)] {
        let bytes = mkimage::kdump(
            &memory,
            &Kdump {
                wide,
                share_zeros,
                written: Some(written),
                ..Kdump::default()
            },
        );
        let image = open(bytes).unwrap();
        let message = image.memory.shortage().unwrap();
        writeln!(said, "{written} of {all} pages: {message}").unwrap();
        assert!(image.memory.is_partial());
        let mut page = [0; 4096];
        for (index, (number, truth)) in memory.pages().enumerate() {
            match image.memory.read(PhysAddr(number * 4096), &mut page) {
                Ok(()) => assert!(index < written && page == truth, "page {number:#x}"),
                Err(error) => {
                    assert!(index >= written, "page {number:#x}");
                    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
                }
            }
        }
    }
    let nothing = Kdump {
        written: Some(0),
        ..Kdump::default()
    };
    let bytes = mkimage::kdump(&memory, &nothing);
    writeln!(said, "0 of {all} pages: {}", open(bytes).unwrap_err()).unwrap();
    golden("images/incomplete-kdump.txt", &said);
}

#[test]
fn truncated_kdump_has_the_remaining_pages() {
    let memory = memory();
    let whole = mkimage::kdump(
        &memory,
        &Kdump {
            share_zeros: false,
            ..Kdump::default()
        },
    );
    assert!(!open(whole.clone()).unwrap().memory.is_partial());
    let mut page = [0; 4096];
    let mut said = String::new();
    // Truncate inside the last page and in the middle of the pages.
    for cut in [whole.len() - 1, whole.len() - 0x8000] {
        let image = open(whole[..cut].to_vec()).unwrap();
        assert!(image.memory.is_partial());
        let message = image.memory.shortage().unwrap();
        writeln!(said, "{cut:#x} of {:#x} bytes: {message}", whole.len()).unwrap();
        let mut lost = 0;
        for (number, truth) in memory.pages() {
            match image.memory.read(PhysAddr(number * 4096), &mut page) {
                Ok(()) => assert!(page == truth, "page {number:#x}"),
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
                    lost += 1;
                }
            }
        }
        assert!(message.contains(&format!(": {lost} page")), "{message}");
    }
    golden("images/truncated-kdump.txt", &said);
}

#[test]
fn avml_ranges_without_data_are_known_zeros() {
    let memory = Memory::parse(
        "0x0        1 text 1
         0x1000     1 zero
         0x2000     1 text 2
         0x10000    3 zero
         0x20000    4 mix 3
         0x40000    2 zero",
    );
    for version in [1, 2] {
        let image = open(mkimage::avml_0170(&memory, 4096, version)).unwrap();
        check("AVML 0.17.0", &*image.memory, &memory);
        for (at, pages) in [(0x1000, 1), (0x10000, 3), (0x40000, 2)] {
            assert!(
                image.memory.known_zero(PhysAddr(at), pages * 4096),
                "{at:#x}"
            );
        }
        assert!(!image.memory.known_zero(PhysAddr(0x1000), 0x2000));
    }
    // A range without data that is longer than AVML writes is missing.
    let mut long = mkimage::avml_0170(&Memory::parse("0x0 1 text 1\n0x1000 1 zero"), 4096, 1);
    let last = long.len() - 16;
    long[last..last + 8].copy_from_slice(&(0x1000_u64 + (32 << 20) - 1).to_le_bytes());
    let memory = open(long).unwrap().memory;
    assert_eq!(memory.ranges(), [PhysAddr(0)..PhysAddr(0x1000)]);
    assert!(memory.shortage().unwrap().contains(": 8192 pages"));
}

#[test]
fn kdump_class_is_detected_if_the_page_count_is_a_valid_block_size() {
    // A 32-bit header has the page count at the offset of a 64-bit header's block size.
    let memory = Memory::parse("0x0 5 text 1\n0x7ffb000 5 text 9");
    for wide in [false, true] {
        let bytes = mkimage::kdump(
            &memory,
            &Kdump {
                wide,
                ..Kdump::default()
            },
        );
        check("0x8000 pages", &*open(bytes).unwrap().memory, &memory);
    }
}

#[test]
fn last_of_overlapping_flattened_pieces_wins() {
    let memory = memory();
    let good = mkimage::kdump(&memory, &Kdump::default());
    // First all of a damaged file, then all of the correct file.
    let mut bad = good.clone();
    bad[8192..].fill(0xee);
    let mut bytes = mkimage::flatten(&bad, 10_000, false);
    bytes.truncate(bytes.len() - 16);
    bytes.extend(&mkimage::flatten(&good, 7000, true)[4096..]);
    let image = open(bytes).unwrap();
    check("overlapping pieces", &*image.memory, &memory);
}

#[test]
fn flattened_file_with_too_many_pieces_is_spooled() {
    let memory = memory();
    let kdump = mkimage::kdump(
        &memory,
        &Kdump {
            codecs: &[Codec::Plain],
            ..Kdump::default()
        },
    );
    let bytes = mkimage::flatten(&kdump, 512, false);
    let options = Options::default().tables(4096);
    let image = open_bytes(Arc::new(bytes), &options).unwrap();
    check("spooled", &*image.memory, &memory);
}

#[test]
fn memory_for_tables_is_bounded_by_the_options() {
    // Every second page is excluded, so each page is a range.
    let bytes = mkimage::kdump(
        &Memory::parse("0x0 4000 fill 1"),
        &Kdump {
            exclude_every: 2,
            ..Kdump::default()
        },
    );
    let options = |tables| Options::default().tables(tables);
    let refused = open_bytes(Arc::new(bytes.clone()), &options(16 * 1000)).unwrap_err();
    assert!(refused.to_string().contains(" 16000"), "{refused}");
    assert_eq!(
        open_bytes(Arc::new(bytes), &options(16 * 2000))
            .unwrap()
            .memory
            .ranges()
            .len(),
        2000
    );
}

#[test]
fn raw_memory_is_read_by_its_layout() {
    let memory = Memory::parse("0x0 64 mix 1\n 0x100000000 32 mix 2");
    let options = |text: &str| Options::default().layout(text.parse::<RawLayout>().unwrap());
    let packed = memory.packed();
    for layout in [
        "pc:256K",
        "0-256K,4G-0x100020000@256K",
        "0-128K,128K-256K,4G-0x100020000@256K",
    ] {
        let image = open_bytes(Arc::new(packed.clone()), &options(layout)).unwrap();
        assert_eq!(image.format, Format::Raw);
        check(layout, &*image.memory, &memory);
    }
    let flat = Memory::parse("0x0 64 mix 1");
    let image = open(flat.packed()).unwrap();
    assert_eq!(
        (image.format, image.layout),
        (Format::Raw, Some(RawLayout::Flat))
    );
    check("flat", &*image.memory, &flat);
    for beyond in ["0-1M", "0-256K@512K", "0-128K,64K-192K@128K"] {
        let error = open_bytes(Arc::new(packed.clone()), &options(beyond)).unwrap_err();
        assert!(
            matches!(error, livecore_minidump::Error::Broken { .. }),
            "{beyond}: {error}"
        );
    }
}

#[test]
fn memory_file_and_state_file_open_the_same_image() {
    let memory = memory();
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("guest.vmem"), memory.packed()).unwrap();
    std::fs::write(path("guest.vmss"), mkimage::vmss(&memory)).unwrap();
    for name in ["guest.vmem", "guest.vmss"] {
        let image = image::open(path(name), &Options::default()).unwrap();
        assert_eq!(image.format, Format::Vmware);
        assert_eq!(image.ram, path("guest.vmem"));
        check(name, &*image.memory, &memory);
    }

    // Upper-case names, compressed memory, and a state file without a memory file.
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let refused = |file: &Path| {
        let error = image::open(file, &Options::default()).unwrap_err();
        format!("{}: {error}\n", file.display()).replace(dir.path().to_str().unwrap(), "DIR")
    };
    let mut said = String::new();
    let [gzip, zstd] = compressed(&memory.packed());
    for (vmem, bytes) in [
        ("GUEST.VMEM", &memory.packed()),
        ("guest.vmem.gz", &gzip),
        ("guest.vmem.zst", &zstd),
    ] {
        let state = if vmem.starts_with('G') {
            "GUEST.VMSS"
        } else {
            "guest.vmsn"
        };
        std::fs::write(path(vmem), bytes).unwrap();
        std::fs::write(path(state), mkimage::vmss(&memory)).unwrap();
        for name in [vmem, state] {
            let image = image::open(path(name), &Options::default()).unwrap();
            assert_eq!(
                (image.format, image.ram),
                (Format::Vmware, path(vmem)),
                "{name}"
            );
            check(name, &*image.memory, &memory);
        }
        std::fs::remove_file(path(vmem)).unwrap();
        said += &refused(&path(state));
    }
    said += &refused("-".as_ref());

    // Below 3 GiB a bhyve guest has only low memory.
    let low = Memory::parse("0x0 300 mix 4");
    std::fs::write(path("guest.ckp"), low.packed()).unwrap();
    std::fs::write(path("guest.ckp.meta"), mkimage::bhyve_meta(300 * 4096)).unwrap();
    let image = image::open(path("guest.ckp"), &Options::default()).unwrap();
    assert_eq!(image.format, Format::Bhyve);
    check("bhyve", &*image.memory, &low);
    std::fs::write(path("guest.ckp.meta"), mkimage::bhyve_meta(301 * 4096)).unwrap();
    let image = image::open(path("guest.ckp"), &Options::default()).unwrap();
    writeln!(said, "guest.ckp: {}", image.memory.shortage().unwrap()).unwrap();
    check("truncated bhyve", &*image.memory, &low);
    std::fs::write(path("guest.ckp.meta"), mkimage::bhyve_meta(299 * 4096)).unwrap();
    said += &refused(&path("guest.ckp"));
    golden("images/files.txt", &said);
}

#[test]
fn bhyve_memory_above_3_gib_is_at_4_gib() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big.ckp");
    let file = std::fs::File::create(&path).unwrap();
    let high = Memory::parse("0x100000000 8 mix 1");
    file.set_len(3 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &high.packed(), 3 << 30).unwrap();
    let meta = mkimage::bhyve_meta((3 << 30) + 8 * 4096);
    std::fs::write(dir.path().join("big.ckp.meta"), meta).unwrap();
    let image = image::open(&path, &Options::default()).unwrap();
    assert_eq!(
        image.memory.ranges(),
        [PhysAddr(0)..PhysAddr(3 << 30), ranges(&high)[0].clone()]
    );
    let mut found = vec![0; 8 * 4096];
    image.memory.read(PhysAddr(4 << 30), &mut found).unwrap();
    assert!(found == high.packed());
    assert!(
        image.memory.known_zero(PhysAddr(0), 3 << 30),
        "hole in the file"
    );
}

#[test]
fn other_file_formats_are_named_in_the_error() {
    let mut said = String::new();
    for (head, what) in [
        (&b"minidump FreeBSD/amd64\0\0"[..], "minidump"),
        (b"QFI\xfb\0\0\0\x03", "qcow2"),
        (b"PAGEDU64", "Windows"),
        (b"QEVM\0\0\0\x03", "--memory-only"),
        // libvirt writes its header, in the machine's byte order, before the stream.
        (b"LibvirtQemudSave\x03\0\0\0", "--memory-only"),
        (b"LibvirtQemudPart\x03\0\0\0", "`virsh save`"),
        (b"Xen saved domain, xl format\n \0 \r", "xl dump-core"),
        (b"\x7fVirtualBox SavedState V2.0\n", "dumpvmcore"),
        (b"\xfd7zXZ\0\0\x04", "xz"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\x89LZO\0\r\n\x1a\n", "lzop"),
        (b"\x04\x22\x4d\x18\x64\x40", "lz4"),
        (b"QFI\xfb\0\0\0\x03", "qemu-img"),
        (b"KDMV\x01\0\0\0", "qemu-img"),
        (b"# Disk DescriptorFile\nversion=1\n", "qemu-img"),
        (b"vhdxfile", "qemu-img"),
        (b"EVF\x09\x0d\x0a\xff\0\x01", "ewfexport"),
        (b"PK\x03\x04\x14\0", "zip"),
        (b"7z\xbc\xaf\x27\x1c\0\x04", "7z"),
        (b"LZIP\x01\x0c", "lzip"),
        (b"AFF10\r\n\0", "affconvert"),
        (b"COWD\x01\0\0\0", ".vmem"),
    ] {
        let mut bytes = head.to_vec();
        bytes.resize(8192, 0);
        let error = open(bytes).unwrap_err();
        assert!(
            matches!(error, livecore_minidump::Error::Unsupported { .. }),
            "{error}"
        );
        assert!(error.to_string().contains(what), "{error}");
        writeln!(said, "{}: {error}", head.escape_ascii()).unwrap();
    }
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&mkimage::lime(&memory())).unwrap();
    let error = open(encoder.finish().unwrap()).unwrap_err();
    assert!(error.to_string().contains("compress=1"), "{error}");
    writeln!(said, "zlib: {error}").unwrap();
    let mut kernel = mkimage::qemu(&memory(), 0).build();
    kernel[16] = 2;
    writeln!(said, "kernel: {}", open(kernel).unwrap_err()).unwrap();
    golden("images/other-formats.txt", &said);
}
