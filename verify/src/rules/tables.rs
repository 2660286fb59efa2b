//! Rules about page tables.

rules! { PageTables, PAGE_TABLES:
    PT_EMPTY = "PT-EMPTY", Note,
        "the kernel map has at least one entry",
        "the page-table section's valid entries with 0",
        "FreeBSD sys/*/*/minidump_machdep.c",
        "the section was lost: only direct-map addresses can be translated";
    PT_TABLE_ABSENT = "PT-TABLE-ABSENT", Warning,
        "every leaf table of the kernel map is in the dump",
        "the page that a directory entry names with the bitmap",
        "FreeBSD sys/amd64/amd64/minidump_machdep.c adds them; seen on 10.4, 12.1 and 14",
        "addresses under this entry cannot be translated";
    PT_TABLE_OUTSIDE = "PT-TABLE-OUTSIDE", Warning,
        "every leaf table lies in memory",
        "the page that a directory entry names with dump_avail",
        "FreeBSD sys/amd64/amd64/minidump_machdep.c",
        "entry or dump_avail is damaged: addresses under this entry cannot be translated";
    PT_PAGE_ABSENT = "PT-PAGE-ABSENT", Note,
        "every mapped page of dump_avail is in the dump",
        "the pages that leaf entries name with the bitmap",
        "FreeBSD sys/vm/vm_phys.c, vm_phys_is_dumpable; seen on 14",
        "buffers allocated with M_NODUMP are normal here; a page lost from the bitmap looks the same";
    PT_RESERVED = "PT-RESERVED", Warning,
        "the reserved bits of a 2 MiB leaf are zero",
        "bits 13 to 20 of the entry with zeros",
        "Intel SDM volume 3, table 4-18",
        "the entry is damaged: a CPU would fault on it";
    PT_IMAGE_GAP = "PT-IMAGE-GAP", Warning,
        "the kernel's image is mapped without gaps",
        "the directory entries from KERNBASE on with each other",
        "FreeBSD sys/amd64/amd64/pmap.c, create_pagetables, 10.4 to 15",
        "page tables are partly lost: some of the kernel's own addresses cannot be translated";
    PT_ENTRY = "PT-ENTRY", Warning,
        "every valid entry is of a kind that its format has",
        "the type bits of the entry with those of a page",
        "Arm's and RISC-V's architecture manuals; Power ISA book III; FreeBSD sys/*/include/pte*.h",
        "the entry is damaged: its address cannot be translated";
    PT_LARGE_PAGE = "PT-LARGE-PAGE", Warning,
        "the 16 descriptors of an arm page of 64 KiB are alike",
        "the descriptors with each other",
        "ARM architecture reference manual, translation tables: large page entries are repeated",
        "one of them is damaged: a CPU would read other memory by it";
    PT_GLOBAL = "PT-GLOBAL", Warning,
        "every valid entry of mips's kernel map is global",
        "PTE_G of the entry with 1",
        "FreeBSD 12.1 sys/mips/mips/pmap.c, pmap_create_kernel_pagetable, pmap_growkernel",
        "the entry is damaged, or is not one of the kernel's";
    PT_HASH_GROUP = "PT-HASH-GROUP", Warning,
        "every entry of the hashed page table is in a group that its page has",
        "the group with the hash of the entry's virtual segment and page",
        "Power ISA book III, page table search; FreeBSD sys/powerpc/aim/moea64_native.c",
        "the entry is damaged or in a wrong place: nothing finds it";
    PT_HASH_TWICE = "PT-HASH-TWICE", Warning,
        "no page has two entries in one group of the hashed page table",
        "the entries of the group with each other",
        "Power ISA book III, page table search",
        "an entry is damaged: which of both a CPU would use is not known";
}
