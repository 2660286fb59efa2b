//! Rules about the minidump header, the sections, `dump_avail` and the bitmap.

rules! { Sections, SECTIONS:
    MD_MAGIC = "MD-MAGIC", Error,
        "a minidump begins with its architecture's magic, NUL padded",
        "the magic's field with the known ones",
        "FreeBSD sys/*/include/minidump.h",
        "the header is damaged, or this is no minidump";
    MD_FLAGS = "MD-FLAGS", Warning,
        "no flag is set that the version does not have",
        "the flags field with the bits of the page size",
        "FreeBSD 15 sys/arm64/include/minidump.h",
        "a newer kernel needs a newer verifier; otherwise the header is damaged";
    MD_RESERVED = "MD-RESERVED", Warning,
        "the header page is zero wherever the header has no field",
        "the rest of the page with zeros",
        "FreeBSD sys/*/*/minidump_machdep.c writes a zeroed page",
        "the header page is damaged";
    MD_ALIGNED = "MD-ALIGNED", Error,
        "bitmapsize and pmapsize are whole pages",
        "the size fields with the page size",
        "FreeBSD sys/*/*/minidump_machdep.c, 12.1 and 14",
        "the header is damaged";
    MD_DUMPAVAIL_SIZE = "MD-DUMPAVAIL-SIZE", Error,
        "dumpavailsize is one page",
        "the dumpavailsize field with the page size",
        "FreeBSD 14 sys/*/*/minidump_machdep.c",
        "the header is damaged";
    MD_MSGBUF_SIZE = "MD-MSGBUF-SIZE", Error,
        "the message buffer has a size",
        "the msgbufsize field with 0",
        "FreeBSD sys/kern/subr_prf.c",
        "the header is damaged";
    MD_DMAP = "MD-DMAP", Error,
        "the direct map begins before it ends",
        "dmapbase with dmapend",
        "FreeBSD sys/*/include/minidump.h",
        "the header is damaged";
    MD_DMAP_LAYOUT = "MD-DMAP-LAYOUT", Warning,
        "the direct map is where kernels of amd64, arm64 and riscv have it",
        "dmapbase and dmapend with the layouts that there are",
        "FreeBSD sys/{amd64,arm64,riscv}/include/vmparam.h, 10.4 to 15",
        "a newer kernel may have another layout; otherwise the header is damaged";
    MD_DMAP_PHYS = "MD-DMAP-PHYS", Warning,
        "the direct map of arm64 and riscv reaches all of dump_avail, from a block's address on",
        "dmapphys and the direct map's length with the first and the last range",
        "FreeBSD sys/{arm64,riscv}/*/pmap.c, pmap_bootstrap_dmap",
        "header or dump_avail is damaged: addresses of the direct map are translated wrongly";
    MD_KERNBASE_FIXED = "MD-KERNBASE-FIXED", Warning,
        "the kernel map of arm64 and riscv begins where it does in all of their kernels",
        "kernbase with VM_MIN_KERNEL_ADDRESS",
        "FreeBSD sys/{arm64,riscv}/include/vmparam.h, 12.1 to 15",
        "a newer kernel may have another layout; otherwise the header is damaged";
    MD_KERNBASE = "MD-KERNBASE", Error,
        "the kernel map begins where a page of page tables can begin",
        "kernbase with the bytes that a page of the section maps",
        "FreeBSD sys/*/*/minidump_machdep.c walks in these steps",
        "the header is damaged: kernel addresses are translated wrongly";
    MD_KERNEL_MAP = "MD-KERNEL-MAP", Warning,
        "amd64's kernel map covers KERNBASE, and does not run over the end of the address space",
        "kernbase and pmapsize with KERNBASE",
        "FreeBSD sys/amd64/amd64/minidump_machdep.c, 10.4 to 15",
        "the header is damaged: kernel addresses are translated wrongly";
    MD_KERNBASE_LAYOUT = "MD-KERNBASE-LAYOUT", Note,
        "amd64's kernel map begins where its kernels have it",
        "kernbase with VM_MIN_KERNEL_ADDRESS, of version 1 with KERNBASE",
        "FreeBSD sys/amd64/include/vmparam.h, 10.4 to 15",
        "a reduced dump, or a newer kernel with another layout; otherwise the header is damaged";
    MD_PMAP_SIZE = "MD-PMAP-SIZE", Warning,
        "amd64's page tables reach from kernbase over KERNBASE, to the GiB",
        "pmapsize with 2047 and 2048 pages",
        "FreeBSD sys/amd64/amd64/minidump_machdep.c; seen on 10.4, 12.1 and 14",
        "the header is damaged, or the kernel's layout is new";
    MD_HASH_GROUPS = "MD-HASH-GROUPS", Warning,
        "powerpc64's hashed page table has 2048 groups, or a larger power of two",
        "pmapsize with the sizes that a table can have",
        "Power ISA book III, the page table; FreeBSD sys/powerpc/aim/mmu_oea64.c",
        "the header is damaged: kernel addresses cannot be translated";
    MD_SECTIONS = "MD-SECTIONS", Error,
        "every section in front of the page data lies inside the payload",
        "each section's end with the payload's end",
        "FreeBSD sys/*/*/minidump_machdep.c",
        "the dump was cut before its first page: nothing of it can be read";
    MD_LONG = "MD-LONG", Warning,
        "the payload ends with the last page that the bitmap promises",
        "the payload's length with sections and set bits",
        "FreeBSD sys/*/*/minidump_machdep.c; true of 18 whole minidumps",
        "the bitmap lost bits, or something was appended: pages may be found in the wrong place";
    MD_SHORT = "MD-SHORT", Error,
        "a dump whose length is stated is as long as that",
        "the payload's length with header, seal or info file, and with sections and set bits",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c",
        "the dump was cut: copy it again, or save what is there";
    MD_SHORT_TAIL = "MD-SHORT-TAIL", Warning,
        "the payload holds every page that the bitmap promises",
        "the payload's length with sections and set bits",
        "FreeBSD 12.1 sbin/savecore/savecore.c drops zeros at a dump's end",
        "the missing pages are lost or were zero: what is there can be read, the rest is an error to readers";
}

rules! { Bitmap, BITMAP:
    DA_ORDER = "DA-ORDER", Error,
        "a range of dump_avail begins before it ends",
        "each pair's first address with its second",
        "FreeBSD 14 sys/vm/vm_phys.c",
        "the section is damaged: pages may be found under wrong addresses";
    DA_DISJOINT = "DA-DISJOINT", Error,
        "the ranges of dump_avail ascend and do not overlap",
        "each range's start with the end of the one before",
        "FreeBSD 14 sys/vm/vm_phys.c",
        "the section is damaged: pages may be found under wrong addresses";
    DA_ALIGN = "DA-ALIGN", Warning,
        "the ranges of dump_avail are whole pages",
        "each address with the page size",
        "FreeBSD 14 sys/vm/vm_dumpset.h",
        "the kernel skips the part of a page: so does a reader";
    DA_TERMINATED = "DA-TERMINATED", Error,
        "dump_avail ends with a pair whose second address is 0",
        "the section's pairs with 0",
        "FreeBSD 14 sys/vm/vm_dumpset.h",
        "the section is damaged";
    DA_TAIL = "DA-TAIL", Error,
        "dump_avail is zero behind its last range",
        "the rest of the section with zeros",
        "FreeBSD 14 sys/*/*/minidump_machdep.c copies a zeroed array",
        "the section is damaged";
    BM_SIZE = "BM-SIZE", Error,
        "the bitmap has a bit for each page of dump_avail, rounded up to pages",
        "bitmapsize with the number of pages of dump_avail",
        "FreeBSD 14 sys/*/*/minidump_machdep.c",
        "header or dump_avail is damaged";
    BM_BEYOND = "BM-BEYOND", Note,
        "no bit is set that stands for no page",
        "the bits behind the last page of dump_avail with zeros",
        "FreeBSD 14 sys/kern/kern_dump.c leaves rubbish there in live dumps",
        "in a live dump of 14 this is normal; the pages in front are not affected";
    BM_BEYOND_PAGES = "BM-BEYOND-PAGES", Warning,
        "every page in the dump has an address",
        "the bits behind the last page of dump_avail, in the same word, with zeros",
        "FreeBSD 14 sys/kern/kern_dump.c writes a page for each set bit of the words",
        "these pages are nowhere in memory; the others are not affected";
    BM_EMPTY = "BM-EMPTY", Note,
        "at least one page is in the dump",
        "the number of set bits with 0",
        "FreeBSD sys/*/*/minidump_machdep.c",
        "the bitmap was lost: the dump holds nothing";
}
