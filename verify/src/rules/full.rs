//! Rules about full dumps.

rules! { Sections, FULL:
    FULL_HEADER = "FULL-HEADER", Error,
        "a full dump's ELF header has the sizes of its class",
        "EI_VERSION, e_ehsize, e_phentsize and e_phoff with the class",
        "FreeBSD sys/kern/kern_dump.c, dumpsys_generic; seen on 12.1",
        "the ELF header is damaged";
    FULL_MACHINE = "FULL-MACHINE", Error,
        "machine and class of a full dump are a port's",
        "e_machine and EI_CLASS with the ports",
        "FreeBSD sys/*/include/elf.h",
        "the ELF header is damaged, or the port is newer than the verifier";
    FULL_TABLE = "FULL-TABLE", Error,
        "a full dump's program headers are all there, and of kinds that cores have",
        "e_phnum, and sh_info where it stands for it, with the payload's length; p_type with the kinds",
        "FreeBSD sys/kern/kern_dump.c, dumpsys_generic",
        "a header is damaged, or the payload was cut: memory cannot be found";
    FULL_SIZES = "FULL-SIZES", Error,
        "a range of memory is in the full dump from end to end",
        "p_filesz with p_memsz",
        "FreeBSD sys/kern/kern_dump.c, cb_dumphdr",
        "the program header is damaged";
    FULL_ORDER = "FULL-ORDER", Error,
        "the ranges of a full dump ascend and do not overlap",
        "p_paddr of each segment with the end of the one before",
        "FreeBSD sys/kern/kern_dump.c, dumpsys_foreach_chunk: the order of dump_avail",
        "the program header is damaged: which memory is where cannot be trusted";
    FULL_PLACE = "FULL-PLACE", Error,
        "the ranges of a full dump follow the headers and each other",
        "p_offset of each segment with the end of what is before it, or with the pages of the minidump that the core carries",
        "FreeBSD sys/kern/kern_dump.c, dumpsys_generic; seen on 12.1",
        "the program header is damaged: which memory is where cannot be trusted";
    FULL_SHORT = "FULL-SHORT", Warning,
        "a full dump ends behind its last range and not before",
        "the payload's length with p_offset and p_filesz",
        "FreeBSD sys/kern/kern_dump.c; sbin/savecore/savecore.c drops zeros at the end",
        "memory at the end is lost, or was zero and dropped by a sparse copy";
    FULL_LONG = "FULL-LONG", Warning,
        "nothing is behind a full dump's last range",
        "the payload's length with p_offset and p_filesz",
        "FreeBSD sys/kern/kern_dump.c, dumpsys_generic",
        "something was appended, which no reader sees";
}
