//! Rules about the minidump header, the sections, `dump_avail` and the bitmap.

rules! { Sections, SECTIONS:
    MD_MAGIC = "MD-MAGIC", Error,
        "a minidump begins with its architecture's magic, padded with NUL",
        "the magic field with the known magics",
        "FreeBSD sys/*/include/minidump.h",
        "the header is damaged, or the file is not a minidump";
    MD_FLAGS = "MD-FLAGS", Warning,
        "the header sets only flags that its version defines",
        "the flags field with the page size bits",
        "FreeBSD 15 sys/arm64/include/minidump.h",
        "a newer kernel needs a newer verifier; otherwise the header is damaged";
    MD_RESERVED = "MD-RESERVED", Warning,
        "the header page is zero outside of the header's fields",
        "the rest of the page with zeros",
        "FreeBSD sys/*/*/minidump_machdep.c writes a zeroed page",
        "the header page is damaged";
    MD_ALIGNED = "MD-ALIGNED", Error,
        "bitmapsize and pmapsize are multiples of the page size",
        "the size fields with the page size",
        "FreeBSD sys/*/*/minidump_machdep.c, 12.1 and 14",
        "the header is damaged";
    MD_DUMPAVAIL_SIZE = "MD-DUMPAVAIL-SIZE", Error,
        "dumpavailsize is one page",
        "the dumpavailsize field with the page size",
        "FreeBSD 14 sys/*/*/minidump_machdep.c",
        "the header is damaged";
    MD_MSGBUF_SIZE = "MD-MSGBUF-SIZE", Error,
        "the message buffer's size is not 0",
        "the msgbufsize field with 0",
        "FreeBSD sys/kern/subr_prf.c",
        "the header is damaged";
    MD_DMAP = "MD-DMAP", Error,
        "the direct map begins before it ends",
        "dmapbase with dmapend",
        "FreeBSD sys/*/include/minidump.h",
        "the header is damaged";
    MD_DMAP_LAYOUT = "MD-DMAP-LAYOUT", Warning,
        "the direct map is at an address that amd64, arm64 or riscv kernels use",
        "dmapbase and dmapend with the known layouts",
        "FreeBSD sys/{amd64,arm64,riscv}/include/vmparam.h, 10.4 to 15",
        "a newer kernel may have another layout; otherwise the header is damaged";
    MD_DMAP_PHYS = "MD-DMAP-PHYS", Warning,
        "the direct map of arm64 and riscv begins at a block boundary and covers dump_avail",
        "dmapphys and the length of the direct map with the first and last range of dump_avail",
        "FreeBSD sys/{arm64,riscv}/*/pmap.c, pmap_bootstrap_dmap",
        "header or dump_avail is damaged: direct-map addresses may be translated wrongly";
    MD_KERNBASE_FIXED = "MD-KERNBASE-FIXED", Warning,
        "the kernel map of arm64 and riscv begins at VM_MIN_KERNEL_ADDRESS",
        "kernbase with VM_MIN_KERNEL_ADDRESS",
        "FreeBSD sys/{arm64,riscv}/include/vmparam.h, 12.1 to 15",
        "a newer kernel may have another layout; otherwise the header is damaged";
    MD_KERNBASE = "MD-KERNBASE", Error,
        "kernbase is a multiple of what one page of the page-table section maps",
        "kernbase with the size that one page of the section maps",
        "FreeBSD sys/*/*/minidump_machdep.c walks in these steps",
        "the header is damaged: kernel addresses may be translated wrongly";
    MD_KERNEL_MAP = "MD-KERNEL-MAP", Warning,
        "amd64's kernel map covers KERNBASE and ends within the address space",
        "kernbase and pmapsize with KERNBASE",
        "FreeBSD sys/amd64/amd64/minidump_machdep.c, 10.4 to 15",
        "the header is damaged: kernel addresses may be translated wrongly";
    MD_KERNBASE_LAYOUT = "MD-KERNBASE-LAYOUT", Note,
        "amd64's kernel map begins at VM_MIN_KERNEL_ADDRESS, in version 1 at KERNBASE",
        "kernbase with VM_MIN_KERNEL_ADDRESS, in version 1 with KERNBASE",
        "FreeBSD sys/amd64/include/vmparam.h, 10.4 to 15",
        "a reduced dump, or a newer kernel with another layout; otherwise the header is damaged";
    MD_PMAP_SIZE = "MD-PMAP-SIZE", Warning,
        "amd64's page tables map from kernbase to the GiB of KERNBASE, or one GiB further",
        "pmapsize with 2047 and 2048 pages",
        "FreeBSD sys/amd64/amd64/minidump_machdep.c; seen on 10.4, 12.1 and 14",
        "the header is damaged, or the kernel has a new layout";
    MD_HASH_GROUPS = "MD-HASH-GROUPS", Warning,
        "powerpc64's hashed page table has 2048 groups, or a larger power of two",
        "pmapsize with the sizes that such a table can have",
        "Power ISA book III, the page table; FreeBSD sys/powerpc/aim/mmu_oea64.c",
        "the header is damaged: kernel addresses cannot be translated";
    MD_RADIX_ROOT = "MD-RADIX-ROOT", Warning,
        "the root of powerpc64's radix page tables has 64 KiB",
        "pmapsize with 65536",
        "FreeBSD lib/libkvm/kvm_minidump_powerpc64_radix.c of 2026; sys/powerpc/aim/mmu_radix.c",
        "the header is damaged: kernel addresses cannot be translated";
    MD_SECTIONS = "MD-SECTIONS", Error,
        "every section before the page data lies within the payload",
        "the end of each section with the end of the payload",
        "FreeBSD sys/*/*/minidump_machdep.c",
        "the dump was truncated before its first page: nothing in it can be read";
    MD_LONG = "MD-LONG", Warning,
        "the payload ends with the last page of the bitmap",
        "the payload's length with the sections and the set bits",
        "FreeBSD sys/*/*/minidump_machdep.c; observed in 18 complete minidumps",
        "the bitmap lost bits, or bytes were appended: readers may find wrong pages";
    MD_SHORT = "MD-SHORT", Error,
        "the payload has the length that header, seal or info file state",
        "the payload's length with header, seal or info file, and with the sections and the set bits",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c",
        "the dump was truncated: copy it again, or run livecore salvage";
    MD_SHORT_TAIL = "MD-SHORT-TAIL", Warning,
        "the payload contains every page of the bitmap",
        "the payload's length with the sections and the set bits",
        "FreeBSD 12.1 sbin/savecore/savecore.c drops zeros at the end of a dump",
        "the missing pages are lost or were zero; the other pages can be read";
}

rules! { Bitmap, BITMAP:
    DA_ORDER = "DA-ORDER", Error,
        "each range of dump_avail begins before it ends",
        "the first address of each pair with the second",
        "FreeBSD 14 sys/vm/vm_phys.c",
        "the section is damaged: readers may find pages at wrong addresses";
    DA_DISJOINT = "DA-DISJOINT", Error,
        "the ranges of dump_avail ascend and do not overlap",
        "the start of each range with the end of the previous one",
        "FreeBSD 14 sys/vm/vm_phys.c",
        "the section is damaged: readers may find pages at wrong addresses";
    DA_ALIGN = "DA-ALIGN", Warning,
        "the ranges of dump_avail begin and end at page boundaries",
        "each address with the page size",
        "FreeBSD 14 sys/vm/vm_dumpset.h",
        "kernel and readers ignore a partial page";
    DA_TERMINATED = "DA-TERMINATED", Error,
        "dump_avail ends with a pair whose second address is 0",
        "the section's pairs with 0",
        "FreeBSD 14 sys/vm/vm_dumpset.h",
        "the section is damaged";
    DA_TAIL = "DA-TAIL", Error,
        "dump_avail is zero after its last range",
        "the rest of the section with zeros",
        "FreeBSD 14 sys/*/*/minidump_machdep.c copies a zeroed array",
        "the section is damaged";
    BM_SIZE = "BM-SIZE", Error,
        "the bitmap has one bit for each page of dump_avail, rounded up to whole pages",
        "bitmapsize with the number of pages in dump_avail",
        "FreeBSD 14 sys/*/*/minidump_machdep.c",
        "header or dump_avail is damaged";
    BM_BEYOND = "BM-BEYOND", Note,
        "no bit is set after the last page of dump_avail",
        "the bits after the last page of dump_avail with zeros",
        "FreeBSD 14 sys/kern/kern_dump.c copies the words of the bitmap to memory that it did not zero",
        "normal for live dumps; other pages are not affected";
    BM_BEYOND_PAGES = "BM-BEYOND-PAGES", Warning,
        "every page in the dump has an address",
        "the bits after the last page of dump_avail, in the same word, with zeros",
        "FreeBSD 14 sys/kern/kern_dump.c writes a page for every set bit of a word",
        "these pages have no physical address; other pages are not affected";
    BM_EIGHTH = "BM-EIGHTH", Warning,
        "a live dump has pages outside of the kernel map after the first eighth of the bitmap",
        "the pages of the bitmap that no page table reaches with the bits that the kernel copied",
        "FreeBSD sys/kern/kern_dump.c, minidumpsys: 13.2, 14 and 15-CURRENT copy an eighth of vm_page_dump",
        "pages of the direct map are missing: take the dump again with livecore take --walk";
    BM_EMPTY = "BM-EMPTY", Note,
        "the dump contains at least one page",
        "the number of set bits with 0",
        "FreeBSD sys/*/*/minidump_machdep.c",
        "the bitmap was lost: no page can be read";
}
