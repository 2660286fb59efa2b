//! ELF files: the file header, program headers, notes.
//!
//! System V ABI, "Object Files"; the notes are those of FreeBSD `sys/sys/elf_common.h` and
//! `sys/sys/procfs.h`, and of Linux `include/uapi/linux/elf.h`.

use crate::{Field, at};

/// `\x7fELF`
pub const MAGIC: [u8; 4] = *b"\x7fELF";
/// Index of `EI_CLASS`: 1 for 32 bits, 2 for 64.
pub const EI_CLASS: usize = 4;
/// Index of `EI_DATA`: 1 for little-endian, 2 for big-endian.
pub const EI_DATA: usize = 5;
/// Index of `EI_VERSION`, which is 1.
pub const EI_VERSION: usize = 6;
/// Index of `EI_OSABI`.
pub const EI_OSABI: usize = 7;
/// `ELFOSABI_NONE`
pub const ELFOSABI_NONE: u8 = 0;
/// `ELFOSABI_FREEBSD`
pub const ELFOSABI_FREEBSD: u8 = 9;
/// `ELFOSABI_STANDALONE`: the value in full dumps of FreeBSD kernels.
pub const ELFOSABI_STANDALONE: u8 = 255;
/// `ET_CORE`
pub const ET_CORE: u16 = 4;
/// `PT_LOAD`
pub const PT_LOAD: u32 = 1;
/// `PT_NOTE`
pub const PT_NOTE: u32 = 4;
/// `SHT_NOTE`
pub const SHT_NOTE: u32 = 7;
/// `PT_DUMP_DELTA` in full dumps of arm, and of amd64 since 15.0: `p_vaddr` is the kernel's link-time
/// address, `p_paddr` its physical address, sizes are 0. On amd64, these are `KERNBASE` and
/// `kernphys`, which is the address of `KERNBASE` plus `p_align` (2 MiB). FreeBSD
/// `sys/arm/arm/dump_machdep.c`, `sys/x86/x86/dump_machdep.c` (1500068).
pub const PT_DUMP_DELTA: u32 = 0x6fb5_d000;
/// `PF_X`
pub const PF_X: u32 = 1;
/// `PF_W`
pub const PF_W: u32 = 2;
/// `PF_R`
pub const PF_R: u32 = 4;
/// `PN_XNUM`: `sh_info` of section header 0 is the number of program headers.
pub const PN_XNUM: u16 = 0xffff;

/// The fields of one ELF class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class {
    /// `e_ident[EI_CLASS]`
    pub number: u8,
    /// Size of an address.
    pub word: usize,
    /// `sizeof(Elf_Ehdr)`
    pub ehdr: usize,
    /// `sizeof(Elf_Phdr)`
    pub phdr: usize,
    /// `sizeof(Elf_Shdr)`
    pub shdr: usize,
    /// `e_type`
    pub e_type: Field,
    /// `e_machine`
    pub e_machine: Field,
    /// `e_version`; 0 in full dumps of FreeBSD kernels.
    pub e_version: Field,
    /// `e_phoff`
    pub e_phoff: Field,
    /// `e_shoff`
    pub e_shoff: Field,
    /// `e_flags`
    pub e_flags: Field,
    /// `e_ehsize`
    pub e_ehsize: Field,
    /// `e_phentsize`
    pub e_phentsize: Field,
    /// `e_phnum`
    pub e_phnum: Field,
    /// `e_shentsize`
    pub e_shentsize: Field,
    /// `e_shnum`
    pub e_shnum: Field,
    /// `p_type`
    pub p_type: Field,
    /// `p_flags`
    pub p_flags: Field,
    /// `p_offset`
    pub p_offset: Field,
    /// `p_vaddr`
    pub p_vaddr: Field,
    /// `p_paddr`
    pub p_paddr: Field,
    /// `p_filesz`
    pub p_filesz: Field,
    /// `p_memsz`
    pub p_memsz: Field,
    /// `p_align`
    pub p_align: Field,
    /// `sh_size`
    pub sh_size: Field,
    /// `sh_info`
    pub sh_info: Field,
}

/// `ELFCLASS32`
pub const CLASS32: Class = Class {
    number: 1,
    word: 4,
    ehdr: 52,
    phdr: 32,
    shdr: 40,
    e_type: at(16, 2),
    e_machine: at(18, 2),
    e_version: at(20, 4),
    e_phoff: at(28, 4),
    e_shoff: at(32, 4),
    e_flags: at(36, 4),
    e_ehsize: at(40, 2),
    e_phentsize: at(42, 2),
    e_phnum: at(44, 2),
    e_shentsize: at(46, 2),
    e_shnum: at(48, 2),
    p_type: at(0, 4),
    p_offset: at(4, 4),
    p_vaddr: at(8, 4),
    p_paddr: at(12, 4),
    p_filesz: at(16, 4),
    p_memsz: at(20, 4),
    p_flags: at(24, 4),
    p_align: at(28, 4),
    sh_size: at(20, 4),
    sh_info: at(28, 4),
};

/// `ELFCLASS64`
pub const CLASS64: Class = Class {
    number: 2,
    word: 8,
    ehdr: 64,
    phdr: 56,
    shdr: 64,
    e_type: at(16, 2),
    e_machine: at(18, 2),
    e_version: at(20, 4),
    e_phoff: at(32, 8),
    e_shoff: at(40, 8),
    e_flags: at(48, 4),
    e_ehsize: at(52, 2),
    e_phentsize: at(54, 2),
    e_phnum: at(56, 2),
    e_shentsize: at(58, 2),
    e_shnum: at(60, 2),
    p_type: at(0, 4),
    p_flags: at(4, 4),
    p_offset: at(8, 8),
    p_vaddr: at(16, 8),
    p_paddr: at(24, 8),
    p_filesz: at(32, 8),
    p_memsz: at(40, 8),
    p_align: at(48, 8),
    sh_size: at(32, 8),
    sh_info: at(44, 4),
};

/// `NT_PRSTATUS`: a thread's registers.
pub const NT_PRSTATUS: u32 = 1;
/// `NT_PRPSINFO`: the process.
pub const NT_PRPSINFO: u32 = 3;
/// `NT_THRMISC` of FreeBSD: a thread's name.
pub const NT_THRMISC: u32 = 7;
/// `NT_PROCSTAT_AUXV` of FreeBSD: the size of an entry, then the auxiliary vector.
pub const NT_PROCSTAT_AUXV: u32 = 16;
/// `NT_AUXV` of Linux.
pub const NT_AUXV: u32 = 6;

/// The name of livecore's notes.
pub const NOTE_NAME: &[u8] = b"Livecore";
/// Note about the minidump in the file: version (u32, 1), 4 zero bytes, offset and length in the file
/// (u64 each), in the file's byte order.
pub const NOTE_PAYLOAD: u32 = 0x4c43_0001;
/// Note with the minidump's kerneldumpheader, 512 bytes.
pub const NOTE_KERNELDUMPHEADER: u32 = 0x4c43_0002;
/// Version of [`NOTE_PAYLOAD`].
pub const NOTE_PAYLOAD_VERSION: u64 = 1;
