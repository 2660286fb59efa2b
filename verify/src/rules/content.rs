//! Rules about address translation, the content of sections, and live dumps.

rules! { Translation, TRANSLATION:
    KRN_MACHINE = "KRN-MACHINE", Error,
        "kernel and dump have the same machine type",
        "the ELF header's machine and class with the minidump's magic",
        "ELF specification; FreeBSD lib/libkvm/kvm_private.c",
        "use --kernel with the kernel that was running";
    KRN_COMPARABLE = "KRN-COMPARABLE", Warning,
        "kernel and dump contain what the rules of this group compare",
        "the kernel's symbols and contents, and the dump's pages, with what these rules need",
        "FreeBSD sys/*/*/minidump_machdep.c saves every page that the kernel map reaches",
        "the kernel file or the dump is reduced: the rules that need the missing part were not applied";
    KRN_VERSION = "KRN-VERSION", Error,
        "`version` in the dump is the one in the kernel file",
        "the string, read through the page tables, with the contents of the ELF file",
        "FreeBSD sys/conf/newvers.sh; compared on 10.4 and 12.1 dumps",
        "use --kernel with the kernel that was running; if it was, page tables or bitmap are damaged";
    KRN_HEADER_VERSION = "KRN-HEADER-VERSION", Error,
        "`version` in the dump is the one in the kerneldumpheader",
        "the string, read through the page tables, with versionstring",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c, dump_init_header; seen on 12.1 dumps",
        "the header belongs to another dump, or page tables or bitmap are damaged";
    KRN_PAGES = "KRN-PAGES", Error,
        "`vm_page_dump_pages` is the number of pages in dump_avail",
        "the variable, read through the page tables, with the section",
        "FreeBSD 14 sys/vm/vm_page.c",
        "use --kernel with the kernel that was running; if it was, the dump is damaged";
    KRN_AVAIL = "KRN-AVAIL", Error,
        "the kernel's `dump_avail` is that of the dump",
        "the array, read through the page tables, with the section",
        "FreeBSD 14 sys/*/*/minidump_machdep.c",
        "use --kernel with the kernel that was running; if it was, the dump is damaged";
    KRN_MSGBUF = "KRN-MSGBUF", Error,
        "`msgbufp` points to a message buffer of the size in the header",
        "magic and msg_size at the pointer with 0x063062 and msgbufsize",
        "FreeBSD sys/sys/msgbuf.h; seen on 10.4 and 12.1",
        "use --kernel with the kernel that was running; if it was, the dump is damaged";
    KRN_BITMAP = "KRN-BITMAP", Warning,
        "the pages of `vm_page_dump`, and of most processes and threads, are in the dump",
        "the pages that `vm_page_dump`, `pidhashtbl` and `tidhashtbl` point to with the bitmap",
        "FreeBSD sys/vm/vm_page.c, vm_page_startup; sys/kern/kern_dump.c of 13.2, 14 and 15-CURRENT",
        "the kernel copied only a part of its bitmap: take the dump again with livecore take --walk";
}

rules! { Content, CONTENT:
    MSG_EMPTY = "MSG-EMPTY", Warning,
        "the message buffer contains messages",
        "the ring's bytes with zeros",
        "FreeBSD sys/kern/subr_msgbuf.c",
        "the messages are lost";
    MSG_SIZE = "MSG-SIZE", Warning,
        "the minidump header and struct msgbuf state the same size",
        "msg_size after the ring with msgbufsize",
        "FreeBSD sys/sys/msgbuf.h; observed in 18 dumps",
        "header or message buffer is damaged";
    MSG_CHECKSUM = "MSG-CHECKSUM", Warning,
        "the message buffer's checksum is the sum of its bytes",
        "msg_cksum with the ring",
        "FreeBSD sys/kern/subr_msgbuf.c; observed in 18 dumps",
        "the kernel was writing a message, or the ring is damaged";
    MSG_SEQUENCE = "MSG-SEQUENCE", Warning,
        "the message buffer's sequence numbers are below their modulus, 16 times its size",
        "msg_wseq, msg_rseq and msg_seqmod with msg_size",
        "FreeBSD sys/kern/subr_msgbuf.c",
        "the struct is damaged: the start of the text is unknown";
}

rules! { Liveness, LIVENESS:
    LIV_ALLPROC = "LIV-ALLPROC", Warning,
        "the process list can be followed to its end",
        "each link with the pages of the dump and with the previous links",
        "FreeBSD sys/kern/kern_proc.c",
        "in a live dump the list may have changed during the dump; in a crash dump memory was corrupted";
    LIV_BACK_LINK = "LIV-BACK-LINK", Note,
        "each process points back to the link that points to it",
        "le_prev with the address of the link",
        "FreeBSD sys/sys/queue.h, LIST",
        "in a live dump the list may have changed during the dump; in a crash dump memory was corrupted";
    LIV_THREADS = "LIV-THREADS", Note,
        "every thread can be listed",
        "the lists of processes and threads with the pages of the dump and with each other",
        "FreeBSD sys/kern/kern_proc.c, the exported offsets",
        "in a live dump a list may have changed during the dump; a reduced kernel lacks symbols";
    LIV_STACK = "LIV-STACK", Note,
        "the stack of every sleeping thread is mapped",
        "stack and frame pointer of each pcb with the page tables",
        "FreeBSD sys/*/include/pcb.h",
        "the thread was swapped out, or has run after its registers were saved";
    LIV_TORN = "LIV-TORN", Note,
        "no page changed while the producer read it",
        "the attachment's record of torn pages with 0",
        "minidump/defs/src/seal.rs",
        "normal for a machine that ran during the dump: lists that were changing may be inconsistent";
    LIV_MSGBUF = "LIV-MSGBUF", Note,
        "the kernel was not writing to the message buffer during the dump",
        "msg_cksum at `msgbufp` with the sum of the bytes of the dumped ring",
        "FreeBSD sys/kern/subr_msgbuf.c",
        "normal for a live dump: the ring was copied while the kernel wrote a message";
    LIV_FOLLOWED = "LIV-FOLLOWED", Note,
        "--deep can read the dump at any offset within the memory limit",
        "the size of the largest frame with a quarter of the memory limit",
        "a kernel writes one frame: FreeBSD sys/kern/subr_compressor.c",
        "lists were not checked: convert the dump, or raise --memory";
    MSG_MAGIC = "MSG-MAGIC", Note,
        "struct msgbuf follows the ring",
        "its magic with 0x063062",
        "FreeBSD sys/kern/subr_prf.c; FreeBSD 14 sys/kern/subr_msgbuf.c copies only the ring for live dumps",
        "normal for a live dump; in a crash dump the struct was lost";
}

rules! { Content, TEXT:
    TD_LENGTH = "TD-LENGTH", Error,
        "the length of a text dump is a whole number of 512-byte blocks, and equals dumpextent",
        "dumplength with dumpextent, 512, and the offset of the last header",
        "FreeBSD 12.1 sys/ddb/db_textdump.c",
        "the header is damaged, or the dump was interrupted";
    TD_MEMBER = "TD-MEMBER", Error,
        "each member of a text dump has a ustar header whose checksum matches",
        "the header's magic and checksum with the bytes of the block",
        "FreeBSD 12.1 sys/ddb/db_textdump.c",
        "the archive is damaged or truncated: the members before this one are readable";
    TD_SIZE = "TD-SIZE", Error,
        "each member of a text dump is within the archive",
        "the size in the member's header with the rest of the archive",
        "FreeBSD 12.1 sys/ddb/db_textdump.c",
        "the archive is truncated: the members before this one are readable";
    TD_NAME = "TD-NAME", Warning,
        "a text dump contains the members that kernels write, in their order",
        "the member's name with those of the kernel",
        "FreeBSD 12.1 sys/ddb/db_textdump.c",
        "another program wrote the archive";
    TD_SHORT = "TD-SHORT", Warning,
        "panic.txt and version.txt have at most 512 bytes",
        "the size in the member's header with the kernel's limit",
        "FreeBSD 12.1 sys/ddb/db_textdump.c",
        "another program wrote the archive";
    TD_PADDING = "TD-PADDING", Warning,
        "zeros follow the contents of a text dump's member in its last block",
        "the bytes after the contents with zeros",
        "FreeBSD 12.1 sys/ddb/db_textdump.c",
        "the archive may be damaged";
}
