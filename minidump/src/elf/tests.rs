use crate::elf::{SymbolKind, sections};
use crate::{ByteOrder, ElfMachine, Error, KernelElf, VirtAddr};

/// Returns an ELF file of this class and byte order with a text, a data and a bss section, encoded
/// according to the ELF specification.
fn small(class64: bool, order: ByteOrder) -> Vec<u8> {
    let word = if class64 { 8 } else { 4 };
    let mut out = Vec::new();
    let put = |out: &mut Vec<u8>, len: usize, value: u64| {
        let start = out.len();
        out.resize(start + len, 0);
        order.put(&mut out[start..], value);
    };
    let (ehsize, shsize) = if class64 { (64, 64) } else { (52, 40) };
    let text = ehsize;
    let strtab = b"\0alpha\0beta\0gamma\0abs\0local\0";
    let names = [1_u64, 7, 12, 18, 22];
    // (name, value, size, info, shndx)
    let symbols = [
        (0, 0, 0, 0, 0_u64),
        (names[4], 0x1008, 4, 0x02, 1), // LOCAL FUNC
        (names[0], 0x1000, 8, 0x12, 1), // GLOBAL FUNC
        (names[1], 0x2000, 4, 0x11, 2), // GLOBAL OBJECT
        (names[2], 0x3000, 4, 0x11, 3),
        (names[3], 0x20_0000, 0, 0x10, 0xfff1),
    ];
    let symsize = if class64 { 24 } else { 16 };
    let data = text + 16;
    let sym_at = data + 8;
    let str_at = sym_at + symsize * symbols.len();
    let sh_at = str_at + strtab.len();

    out.extend(b"\x7fELF");
    out.push(if class64 { 2 } else { 1 });
    out.push(if order == ByteOrder::Big { 2 } else { 1 });
    out.extend([1, 9]);
    out.resize(16, 0);
    put(&mut out, 2, 2);
    put(&mut out, 2, 62);
    put(&mut out, 4, 1);
    put(&mut out, word, 0x1000);
    put(&mut out, word, 0);
    put(&mut out, word, sh_at as u64);
    put(&mut out, 4, 0x20);
    for value in [ehsize, 0, 0, shsize, 6, 0] {
        put(&mut out, 2, value as u64);
    }
    assert_eq!(out.len(), ehsize);
    out.extend(*b"TEXTtextTEXTtext");
    out.extend(*b"DATAdata");
    for (name, value, size, info, shndx) in symbols {
        put(&mut out, 4, name);
        if class64 {
            put(&mut out, 1, info);
            put(&mut out, 1, 0);
            put(&mut out, 2, shndx);
            put(&mut out, 8, value);
            put(&mut out, 8, size);
        } else {
            put(&mut out, 4, value);
            put(&mut out, 4, size);
            put(&mut out, 1, info);
            put(&mut out, 1, 0);
            put(&mut out, 2, shndx);
        }
    }
    out.extend(strtab);
    // (type, flags, addr, offset, size, link, entsize)
    for (kind, flags, addr, offset, size, link, entsize) in [
        (0, 0, 0, 0, 0, 0, 0),
        (1, 6, 0x1000, text, 16, 0, 0),
        (1, 3, 0x2000, data, 8, 0, 0),
        (8, 3, 0x3000, data, 0x100, 0, 0),
        (2, 0, 0, sym_at, symsize * symbols.len(), 5, symsize),
        (3, 0, 0, str_at, strtab.len(), 0, 0),
    ] {
        put(&mut out, 4, 0);
        put(&mut out, 4, kind);
        put(&mut out, word, flags);
        put(&mut out, word, addr);
        put(&mut out, word, offset as u64);
        put(&mut out, word, size as u64);
        put(&mut out, 4, link);
        put(&mut out, 4, 0);
        put(&mut out, word, 1);
        put(&mut out, word, entsize as u64);
    }
    out
}

const FORMS: [(bool, ByteOrder); 4] = [
    (true, ByteOrder::Little),
    (true, ByteOrder::Big),
    (false, ByteOrder::Little),
    (false, ByteOrder::Big),
];

#[test]
fn symbols_are_found_in_either_class_and_order() {
    for (class64, order) in FORMS {
        let elf = KernelElf::from_bytes(small(class64, order)).unwrap();
        assert_eq!(
            (elf.is_64(), elf.order(), elf.machine()),
            (class64, order, ElfMachine::EM_X86_64)
        );
        assert_eq!((elf.osabi(), elf.elf_type(), elf.flags()), (9, 2, 0x20));
        let beta = elf.symbol("beta").unwrap();
        assert_eq!(
            (beta.value, beta.size, beta.kind),
            (0x2000, 4, SymbolKind::Object)
        );
        let abs = elf.symbol("abs").unwrap();
        assert!(abs.absolute && abs.value == 0x20_0000);
        assert_eq!(elf.symbol("local").unwrap().value, 0x1008);
        assert_eq!(elf.symbol("loca"), None);
        assert_eq!(elf.symbols().count(), 5);
    }
}

#[test]
fn an_address_is_in_the_last_function_before_it() {
    let elf = KernelElf::from_bytes(small(true, ByteOrder::Little)).unwrap();
    assert_eq!(elf.lookup(VirtAddr(0x1007)), Some(("alpha", 7)));
    assert_eq!(elf.lookup(VirtAddr(0x100f)), Some(("local", 7)));
    assert_eq!(elf.lookup(VirtAddr(0xfff)), None);
    assert_eq!(elf.lookup(VirtAddr(0x1010)), None);
}

#[test]
fn contents_are_read_from_the_file_and_bss_is_not_in_file() {
    for (class64, order) in FORMS {
        let elf = KernelElf::from_bytes(small(class64, order)).unwrap();
        let data = elf.bytes_at(VirtAddr(0x2004), 4).unwrap();
        assert_eq!((&data.bytes[..], data.in_file), (&b"data"[..], true));
        let bss = elf.bytes_at(VirtAddr(0x3000), 4).unwrap();
        assert_eq!((&bss.bytes[..], bss.in_file), (&[0; 4][..], false));
        assert_eq!(elf.bytes_at(VirtAddr(0x2004), 5), None);
        assert_eq!(elf.bytes_at(VirtAddr(u64::MAX), 2), None);
    }
}

/// Every byte of the headers and tables gets several values. Nothing may panic, and files that open
/// must be usable.
#[test]
fn damaged_files_are_errors_or_usable() {
    let (mut opened, mut refused) = (0, 0);
    for (class64, order) in FORMS {
        let good = small(class64, order);
        for at in 0..good.len() {
            for value in [0, 0x7f, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                match KernelElf::from_bytes(bytes) {
                    Ok(elf) => {
                        let _ = elf.symbol("beta");
                        let _ = elf.lookup(VirtAddr(0x1004));
                        let _ = elf.bytes_at(VirtAddr(0x2000), 8);
                        opened += 1;
                    }
                    Err(_) => refused += 1,
                }
            }
        }
        for len in 0..good.len() {
            assert!(KernelElf::from_bytes(good[..len].to_vec()).is_err());
        }
    }
    assert!(opened > 100 && refused > 100);
}

#[test]
fn a_file_that_is_not_elf_is_unsupported() {
    let error = KernelElf::from_bytes(b"minidump FreeBSD".to_vec()).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
}

/// Returns `count` section headers that all have the same name, and their file.
fn sections_of_one_name(count: usize, name: &[u8]) -> Vec<u8> {
    let mut file = small(true, ByteOrder::Little);
    let (names_at, count) = (file.len(), count + 2);
    file.extend(name);
    file.push(0);
    let headers_at = file.len();
    // (type, offset, size): the section of the names, then the others.
    let section = |file: &mut Vec<u8>, kind: u32, offset: usize, size: usize| {
        file.extend(0_u32.to_le_bytes());
        file.extend(kind.to_le_bytes());
        for word in [0, 0, offset, size, 0, 0, 0] {
            file.extend((word as u64).to_le_bytes());
        }
        file.truncate(file.len().next_multiple_of(8));
    };
    section(&mut file, 0, 0, count);
    section(&mut file, 3, names_at, name.len() + 1);
    for _ in 2..count {
        section(&mut file, 1, 0, 0);
    }
    assert_eq!(file.len(), headers_at + 64 * count);
    file[40..48].copy_from_slice(&(headers_at as u64).to_le_bytes());
    // e_shnum and e_shstrndx
    file[60..64].copy_from_slice(&[0, 0, 1, 0]);
    file
}

#[test]
fn names_that_many_sections_share_have_a_limited_total_length() {
    let copied = |file: Vec<u8>| {
        let read = sections::Sections::read(&file).unwrap();
        let names: usize = read.list.iter().map(|s| s.name.len()).sum();
        (names, read.list.len())
    };
    assert_eq!(copied(sections_of_one_name(8, b".text")), (50, 10));
    // Together, the copies would have 80 MB.
    let (names, count) = copied(sections_of_one_name(20_000, &[b'x'; 4000]));
    assert!(names <= 16 << 20, "{names}");
    assert_eq!(count, 20_002);
    assert_eq!(copied(sections_of_one_name(8, &[b'x'; 5000])).0, 0);
}
