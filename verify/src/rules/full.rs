//! Rules about full dumps.

rules! { Sections, FULL:
    FULL_HEADER = "FULL-HEADER", Error,
        "the ELF header of a full dump has the sizes of its class",
        "EI_VERSION, e_ehsize, e_phentsize and e_phoff with the class",
        "FreeBSD sys/kern/kern_dump.c, dumpsys_generic; seen on 12.1",
        "the ELF header is damaged";
    FULL_MACHINE = "FULL-MACHINE", Error,
        "machine and class of a full dump are those of a FreeBSD port",
        "e_machine and EI_CLASS with those of the ports",
        "FreeBSD sys/*/include/elf.h",
        "the ELF header is damaged, or the port is newer than this verifier";
    FULL_TABLE = "FULL-TABLE", Error,
        "a full dump has all of its program headers, and their types are those of a core",
        "e_phnum, or sh_info in its place, with the payload's length; p_type with the known types",
        "FreeBSD sys/kern/kern_dump.c, dumpsys_generic",
        "a header is damaged, or the payload was truncated: the addresses of its memory are unknown";
    FULL_SIZES = "FULL-SIZES", Error,
        "every memory range of a full dump is stored completely, and its addresses exist",
        "p_filesz with p_memsz; the end of the range with the class",
        "FreeBSD sys/kern/kern_dump.c, cb_dumphdr",
        "the program header is damaged";
    FULL_ORDER = "FULL-ORDER", Warning,
        "the memory ranges of a full dump ascend",
        "p_paddr of each segment with that of the previous one",
        "FreeBSD sys/kern/kern_dump.c, dumpsys_foreach_chunk: the order of dump_avail",
        "a kernel did not write these headers, or one is damaged";
    FULL_OVERLAP = "FULL-OVERLAP", Warning,
        "memory ranges of a full dump that overlap have the same bytes",
        "digests of the bytes that several segments have for an address",
        "FreeBSD sys/kern/kern_dump.c, dumpsys_foreach_chunk: dump_avail has no overlaps",
        "a program header is damaged, or the memory changed: readers use the range with the lower address";
    FULL_PLACE = "FULL-PLACE", Error,
        "the memory ranges of a full dump follow the headers and each other without gaps",
        "p_offset of each segment with the end of the previous one, or with the pages of the minidump in the core",
        "FreeBSD sys/kern/kern_dump.c, dumpsys_generic; seen on 12.1",
        "the program header is damaged: do not trust the addresses of this dump";
    FULL_EMPTY = "FULL-EMPTY", Error,
        "a full dump contains at least one page of its memory",
        "the payload's length with p_offset of each segment",
        "FreeBSD sys/kern/kern_dump.c, dumpsys_generic: memory follows the headers",
        "the dump was truncated before its memory: it contains nothing usable";
    FULL_SHORT = "FULL-SHORT", Warning,
        "a full dump does not end before its last memory range",
        "the payload's length with p_offset and p_filesz",
        "FreeBSD sys/kern/kern_dump.c; sbin/savecore/savecore.c drops zeros at the end of a dump",
        "memory at the end is lost, or was zero and dropped by a sparse copy";
    FULL_LONG = "FULL-LONG", Warning,
        "nothing follows the last memory range of a full dump",
        "the payload's length with p_offset and p_filesz",
        "FreeBSD sys/kern/kern_dump.c, dumpsys_generic",
        "bytes were appended; readers ignore them";
}
