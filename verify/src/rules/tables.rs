//! Rules about page tables.

rules! { PageTables, PAGE_TABLES:
    PT_EMPTY = "PT-EMPTY", Note,
        "the kernel map has at least one valid entry",
        "the number of valid entries in the page-table section with 0",
        "FreeBSD sys/*/*/minidump_machdep.c",
        "the section was lost: only direct-map addresses can be translated";
    PT_TABLE_ABSENT = "PT-TABLE-ABSENT", Warning,
        "every leaf table of the kernel map is in the dump",
        "the page that a directory entry points to with the bitmap",
        "FreeBSD sys/amd64/amd64/minidump_machdep.c adds them; seen on 10.4, 12.1 and 14",
        "addresses below this entry cannot be translated";
    PT_TABLE_OUTSIDE = "PT-TABLE-OUTSIDE", Warning,
        "every leaf table lies in physical memory",
        "the page that a directory entry points to with dump_avail",
        "FreeBSD sys/amd64/amd64/minidump_machdep.c",
        "the entry or dump_avail is damaged: addresses below this entry cannot be translated";
    PT_PAGE_ABSENT = "PT-PAGE-ABSENT", Note,
        "every mapped page of dump_avail is in the dump",
        "the pages that leaf entries point to with the bitmap; with a kernel file, the others with PG_NODUMP",
        "FreeBSD sys/vm/vm_phys.c, vm_phys_is_dumpable; seen on 14",
        "without a kernel file: normal for buffers allocated with M_NODUMP; a page lost from the bitmap looks the same";
    PT_RESERVED = "PT-RESERVED", Warning,
        "the reserved bits of a 2 MiB leaf entry are zero",
        "bits 13 to 20 of the entry with zeros",
        "Intel SDM volume 3, table 4-18",
        "the entry is damaged: a CPU would fault on it";
    PT_IMAGE_GAP = "PT-IMAGE-GAP", Warning,
        "the kernel image is mapped without gaps",
        "the directory entries from KERNBASE with each other",
        "FreeBSD sys/amd64/amd64/pmap.c, create_pagetables, 10.4 to 15",
        "page tables are partly lost: some addresses of the kernel image cannot be translated";
    PT_ENTRY = "PT-ENTRY", Warning,
        "every valid entry has a type that its format defines",
        "the type bits of the entry with those of the format",
        "Arm's and RISC-V's architecture manuals; Power ISA book III; FreeBSD sys/*/include/pte*.h",
        "the entry is damaged: its address cannot be translated";
    PT_LARGE_PAGE = "PT-LARGE-PAGE", Warning,
        "the 16 descriptors of a 64 KiB page of arm are identical",
        "the descriptors with each other",
        "ARM architecture reference manual, translation tables: large page entries are repeated",
        "a descriptor is damaged: a CPU would translate the address differently";
    PT_GLOBAL = "PT-GLOBAL", Warning,
        "every valid entry of mips's kernel map is global",
        "PTE_G of the entry with 1",
        "FreeBSD 12.1 sys/mips/mips/pmap.c, pmap_create_kernel_pagetable, pmap_growkernel",
        "the entry is damaged, or does not belong to the kernel map";
    PT_HASH_GROUP = "PT-HASH-GROUP", Warning,
        "every entry of the hashed page table is in a group that its address hashes to",
        "the group with the hash of the entry's virtual segment and page",
        "Power ISA book III, page table search; FreeBSD sys/powerpc/aim/moea64_native.c",
        "the entry is damaged or in the wrong group: a CPU would not find it";
    PT_HASH_TWICE = "PT-HASH-TWICE", Warning,
        "no page has two entries in one group of the hashed page table",
        "the entries of the group with each other",
        "Power ISA book III, page table search",
        "an entry is damaged: which of the two a CPU would use is undefined";
}
