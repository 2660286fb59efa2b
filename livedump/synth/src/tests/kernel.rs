//! The kernel file, as tools read it, and what of it is in memory.

use goblin::elf::Elf;
use livecore_minidump::elf::sections::{Sections, build_id_of_note};
use livecore_minidump::{ByteOrder, PhysAddr};

use super::{Reader, machine, text_of};
use crate::{Description, Error, build, write_out};
use livecore_minidump::PhysMemory as _;

#[test]
fn the_file_is_a_freebsd_kernel_whose_symbols_are_where_memory_has_them() {
    for name in ["tiny", "relocated", "old-12.1", "debug"] {
        let machine = machine(&text_of(name));
        let truth = machine.truth();
        let elf = Elf::parse(machine.kernel()).expect("an ELF file");
        assert_eq!(elf.header.e_type, goblin::elf::header::ET_EXEC);
        assert_eq!(elf.header.e_machine, goblin::elf::header::EM_X86_64);
        assert_eq!(elf.header.e_ident[7], 9, "ELFOSABI_FREEBSD");
        let mut symbols = 0;
        for symbol in elf.syms.iter().filter(|s| s.st_name != 0) {
            let name = elf.strtab.get_at(symbol.st_name).expect("a name");
            if let Some(expected) = truth.symbols.get(name) {
                assert_eq!(expected.value, symbol.st_value, "{name}");
                assert_eq!(expected.absolute, symbol.st_shndx == 0xfff1, "{name}");
                symbols += 1;
            }
        }
        assert!(symbols > 100, "{name}: {symbols}");

        // What is loaded and constant is in memory at the load address.
        let text = elf.program_headers.first().expect("a segment");
        let bytes = &machine.kernel()[text.file_range()];
        let mut there = vec![0; bytes.len()];
        let pa = text.p_vaddr - 0xffff_ffff_8020_0000 + truth.kernphys.0;
        machine
            .memory()
            .read(PhysAddr(pa), &mut there)
            .expect("memory");
        assert!(there == bytes, "{name}: .text differs");

        let reader = Reader::new(&machine);
        let version = reader.string(reader.symbol("version"), 256);
        assert_eq!(version, truth.version);
        assert!(version.starts_with(&format!("FreeBSD {}", truth.osrelease)));
        assert_eq!(reader.u32(reader.symbol("osreldate")), truth.osreldate);
        let absolute = truth.symbols["kernphys"].absolute;
        assert_eq!(absolute, name == "old-12.1");
        if !absolute {
            assert_eq!(reader.u64(reader.symbol("kernphys")), truth.kernphys.0);
        }
        let pmap = reader.symbol("kernel_pmap_store");
        assert_eq!(reader.u64(pmap + 48), truth.root.0);
        assert_eq!(reader.u64(pmap + 32), 0xffff_f800_0000_0000 + truth.root.0);
    }
}

#[test]
fn local_symbols_come_before_global_ones() {
    let machine = machine(&text_of("tiny"));
    let elf = Elf::parse(machine.kernel()).expect("an ELF file");
    let binds: Vec<bool> = elf.syms.iter().map(|s| s.st_bind() == 1).collect();
    let table = elf
        .section_headers
        .iter()
        .find(|s| s.sh_type == 2)
        .expect("a symbol table");
    let locals = table.sh_info as usize;
    assert!(binds[..locals].iter().all(|global| !global));
    assert!(binds[locals..].iter().all(|global| *global));
    assert!(locals > 3, "null, dumppcb, linker_files, buf");
}

#[test]
fn a_compiled_kernel_has_debug_information() {
    let machine = machine(&text_of("debug"));
    let elf = Elf::parse(machine.kernel()).expect("an ELF file");
    let names: Vec<&str> = elf
        .section_headers
        .iter()
        .filter_map(|s| elf.shdr_strtab.get_at(s.sh_name))
        .collect();
    for wanted in [".debug_info", ".debug_line", ".debug_abbrev"] {
        assert!(names.contains(&wanted), "{wanted} in {names:?}");
    }
    let file = String::from_utf8_lossy(machine.kernel());
    assert!(file.contains("pr_hostname"));
    assert!(file.contains("/usr/src/sys/synth"));
    assert!(
        !file.contains("/tmp/"),
        "no path of the machine that compiled it"
    );
}

/// The build-id decides whether a kernel file belongs to a dump, and drgn finds files by it.
#[test]
fn a_compiled_kernel_has_its_build_id_in_the_file_and_in_memory() {
    let machine = machine(&text_of("debug"));
    let file = machine.kernel().to_vec();
    let sections = Sections::read(&file).expect("an ELF file");
    let (id, at) = sections.build_id(&file).expect("a build-id");
    assert_eq!(id.len(), 20, "SHA-1");
    let mut note = vec![0; 16 + id.len()];
    Reader::new(&machine).read(at, &mut note);
    assert_eq!(build_id_of_note(ByteOrder::Little, &note), Some(id));
}

#[test]
fn hostname_and_message_buffer_are_where_readers_look() {
    let machine = machine(&text_of("tiny"));
    let reader = Reader::new(&machine);
    let truth = machine.truth();
    let prison = reader.symbol("prison0");
    let mut bytes = vec![0; 0x900];
    reader.read(prison, &mut bytes);
    let at = bytes
        .windows(truth.hostname.len())
        .position(|w| w == truth.hostname.as_bytes())
        .expect("the host name");
    // pr_name[256] "0", pr_path[1024] "/", pr_hostname[256].
    assert_eq!(&bytes[at - 1280..at - 1278], b"0\0");
    assert_eq!(&bytes[at - 1024..at - 1022], b"/\0");

    let msgbuf = reader.u64(reader.symbol("msgbufp"));
    assert_eq!(reader.u32(msgbuf + 8), 0x063062);
    let size = reader.u32(msgbuf + 12) as usize;
    assert_eq!(size, (16 << 10) - 72);
    let ring_at = reader.u64(msgbuf);
    assert_eq!(
        ring_at + size as u64,
        msgbuf,
        "the structure is behind the ring"
    );
    let mut ring = vec![0; size];
    reader.read(ring_at, &mut ring);
    let sum: u32 = ring.iter().map(|&b| u32::from(b)).sum();
    assert_eq!(sum, reader.u32(msgbuf + 24), "msg_cksum");
    let (wseq, rseq) = (
        reader.u32(msgbuf + 16) as usize,
        reader.u32(msgbuf + 20) as usize,
    );
    assert!(wseq > size, "it has wrapped");
    assert_eq!(reader.u32(msgbuf + 28) as usize, 16 * size);
    ring.rotate_left(wseq % size);
    assert!(ring == truth.msgbuf.text);
    assert!(ring.ends_with(&truth.msgbuf.unread));
    assert_eq!(truth.msgbuf.unread.len(), wseq - rseq);
    let text = String::from_utf8(ring).expect("text");
    assert!(text.lines().skip(1).all(|line| line.starts_with('<')));
    assert!(text.contains("<2>panic: page fault\n"));
}

#[test]
fn files_hold_what_memory_gives() {
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};
    let dir = tempfile::tempdir().expect("a directory");
    let machine = machine(&text_of("relocated"));
    write_out(&machine, dir.path()).expect("files");
    let ram = std::fs::File::open(dir.path().join("ram")).expect("ram");
    let meta = ram.metadata().expect("metadata");
    assert_eq!(meta.len(), (4 << 30) + (32 << 20));
    assert!(
        meta.blocks() * 512 < 64 << 20,
        "sparse: {} blocks",
        meta.blocks()
    );
    let (mut file, mut memory) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for range in machine.memory().ranges() {
        for at in (range.start.0..range.end.0).step_by(file.len()) {
            let n = (range.end.0 - at).min(file.len() as u64) as usize;
            ram.read_exact_at(&mut file[..n], at).expect("ram");
            machine
                .memory()
                .read(PhysAddr(at), &mut memory[..n])
                .expect("memory");
            assert!(file[..n] == memory[..n], "{at:#x}");
        }
    }
    let kernel = std::fs::read(dir.path().join("kernel")).expect("kernel");
    assert!(kernel == machine.kernel());
    for name in ["ram", "kernel", "machine.json"] {
        let meta = std::fs::metadata(dir.path().join(name)).expect("metadata");
        assert_eq!(meta.mode() & 0o777, 0o600, "{name}");
    }
    let json: serde_json::Value = serde_json::from_slice(
        &std::fs::read(dir.path().join("machine.json")).expect("machine.json"),
    )
    .expect("JSON");
    assert_eq!(json["architecture"], "amd64");
    assert_eq!(json["ranges"][2][0], 4u64 << 30);
    // A second time over the first.
    write_out(&machine, dir.path()).expect("files");
}

#[test]
fn a_description_that_no_machine_has_is_refused_with_its_key() {
    let refused = |text: &str| Description::parse(text).expect_err(text).to_string();
    let tiny = text_of("tiny");
    for (from, to, key) in [
        ("32 MiB", "8 MiB", "memory.size"),
        ("32 MiB", "2 TiB", "memory.size"),
        ("release = \"14.0\"", "release = \"9.3\"", "kernel.release"),
        ("cpus = 2", "cpus = 0", "state.cpus"),
        ("user = \"256 KiB\"", "user = \"5\"", "content.user"),
        ("functions = 120", "load = \"0x300000\"", "kernel.load"),
        ("size = \"16 KiB\"", "size = \"4 KiB\"", "msgbuf.size"),
    ] {
        assert!(tiny.contains(from));
        let error = refused(&tiny.replace(from, to));
        assert!(error.contains(key), "{error}");
    }
    let error = refused("[memory]\nsize = \"32 MiB\"\n[kernel]\nhotsname = \"x\"\n");
    assert!(
        error.contains("line 4") && error.contains("hotsname"),
        "{error}"
    );
    let alone = "[memory]\nsize = \"32 MiB\"\n[[process]]\nname = \"a\"\npid = 99990\n";
    Description::parse(alone).expect("a description");
    for (keys, key) in [
        ("count = 0", "process.count is 0,"),
        ("count = 11", "process.count is 11,"),
        ("count = 4294967295", "process.count is 4294967295,"),
        (
            "count = 10\n[[process]]\nname = \"b\"\npid = 99999",
            "process.pid is 99999,",
        ),
        (
            "count = 2\nthread = [{doing = \"running\", cpu = 0}]",
            "process.thread.cpu",
        ),
        (
            "[[process]]\nname = \"b\"\npid = 1\ncount = 90000\nthread = [{}, {}, {}]",
            "at most 200000 threads",
        ),
    ] {
        let error = refused(&format!("{alone}{keys}\n"));
        assert!(error.contains(key), "{error}");
    }
    // What only shows when it is built.
    let text = tiny.replace("kernel = \"512 KiB\"", "kernel = \"32 MiB\"");
    let description = Description::parse(&text).expect("a description");
    assert!(matches!(build(&description), Err(Error::NoSpace { .. })));
}

#[test]
fn without_a_compiler_an_automatic_kernel_has_symbols_and_a_note() {
    use crate::{kernel, port, variables};
    let text = text_of("debug");
    let kernel_by = |text: &str, compiler: &str| {
        let description = Description::parse(text).expect("a description");
        let processor = port::of(&description);
        let row = description.row();
        let layout = processor.layout(description.release());
        let space = processor.space(
            &row.ram(description.memory.size.0, description.low()),
            &description,
        );
        let version = variables::version(&description, "amd64");
        let mut wanted = variables::all(&description, &layout, &version);
        wanted.extend(processor.variables(&description));
        let mut notes = Vec::new();
        let parts = (&layout, &space, &*version, &*wanted);
        kernel(&description, compiler, parts, &mut notes).map(|made| (made.elf, notes))
    };
    let absent = "/nonexistent/cc";
    assert!(matches!(
        kernel_by(&text, absent),
        Err(Error::Compiler { compiler, .. }) if compiler == absent
    ));
    // So is one that fails.
    assert!(matches!(
        kernel_by(&text, "false"),
        Err(Error::Compiler { .. })
    ));
    let auto = text.replace("\"compiled\"", "\"auto\"");
    let (elf, notes) = kernel_by(&auto, absent).expect("a kernel");
    assert_eq!(notes.len(), 1);
    assert!(notes[0].contains(absent), "{notes:?}");
    let symbols = text.replace("\"compiled\"", "\"symbols\"");
    assert!(elf == kernel_by(&symbols, absent).expect("a kernel").0);
    let (elf, notes) = kernel_by(&auto, "cc").expect("a kernel");
    assert!(notes.is_empty());
    assert!(
        elf == machine(&text).kernel(),
        "the same compiler, the same bytes"
    );
}

#[test]
fn many_holes_are_many_ranges_and_too_many_are_refused() {
    let text = |count: u64| {
        let holes: Vec<String> = (0..count)
            .map(|i| {
                format!(
                    "[{}, {}]",
                    (6 << 20) + (i << 18),
                    (6 << 20) + (i << 18) + 4096
                )
            })
            .collect();
        format!(
            "[memory]\nsize = \"64 MiB\"\nholes = [{}]\n",
            holes.join(",")
        )
    };
    let many = machine(&text(50));
    assert_eq!(many.truth().dump_avail.len(), 52);
    let expected = many.truth().dumped_pages();
    assert_eq!(super::dump::dumped(&many).len() as u64, expected);
    for count in [60, 61, 62, 80] {
        let made = Description::parse(&text(count)).and_then(|d| build(&d));
        match made {
            Ok(machine) => assert!(machine.truth().dump_avail.len() <= 63),
            Err(error) => assert!(error.to_string().contains("memory.holes"), "{error}"),
        }
    }
    assert!(
        Description::parse(&text(80))
            .and_then(|d| build(&d))
            .is_err()
    );
}
