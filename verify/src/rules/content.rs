//! Rules about translation, about what sections hold, and about live dumps.

rules! { Translation, TRANSLATION:
    KRN_MACHINE = "KRN-MACHINE", Error,
        "the kernel is for the dump's machine",
        "the ELF header's machine and class with the minidump's magic",
        "ELF specification; FreeBSD lib/libkvm/kvm_private.c",
        "give the kernel that was running";
    KRN_COMPARABLE = "KRN-COMPARABLE", Warning,
        "kernel and dump have what is needed to compare them",
        "symbols, contents of the kernel file, and pages of the dump with what the rules of this group need",
        "FreeBSD sys/*/*/minidump_machdep.c saves every page that the kernel map reaches",
        "a reduced kernel or a thinned dump: nothing says that they do not belong together";
    KRN_VERSION = "KRN-VERSION", Error,
        "the dumped `version` is the kernel file's",
        "the string, read through the page tables, with the ELF's contents",
        "FreeBSD sys/conf/newvers.sh; compared on 10.4 and 12.1 dumps",
        "give the kernel that was running; if it is, page tables or bitmap are damaged";
    KRN_HEADER_VERSION = "KRN-HEADER-VERSION", Error,
        "the dumped `version` is the kerneldumpheader's",
        "the string, read through the page tables, with versionstring",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c, dump_init_header; seen on 12.1 dumps",
        "the header is another dump's, or page tables or bitmap are damaged";
    KRN_PAGES = "KRN-PAGES", Error,
        "`vm_page_dump_pages` is the number of pages of dump_avail",
        "the variable, read through the page tables, with the section",
        "FreeBSD 14 sys/vm/vm_page.c",
        "give the kernel that was running; if it is, the dump is damaged";
    KRN_AVAIL = "KRN-AVAIL", Error,
        "the kernel's `dump_avail` is the dump's",
        "the array, read through the page tables, with the section",
        "FreeBSD 14 sys/*/*/minidump_machdep.c",
        "give the kernel that was running; if it is, the dump is damaged";
    KRN_MSGBUF = "KRN-MSGBUF", Error,
        "`msgbufp` points to a message buffer of the header's size",
        "magic and msg_size behind the pointer with 0x063062 and msgbufsize",
        "FreeBSD sys/sys/msgbuf.h; seen on 10.4 and 12.1",
        "give the kernel that was running; if it is, the dump is damaged";
}

rules! { Content, CONTENT:
    MSG_EMPTY = "MSG-EMPTY", Warning,
        "the message buffer holds messages",
        "the ring's bytes with zeros",
        "FreeBSD sys/kern/subr_msgbuf.c",
        "the messages were lost";
    MSG_SIZE = "MSG-SIZE", Warning,
        "the message buffer's struct and the header agree on its size",
        "msg_size behind the ring with msgbufsize",
        "FreeBSD sys/sys/msgbuf.h; seen on 18 dumps",
        "header or message buffer is damaged";
    MSG_CHECKSUM = "MSG-CHECKSUM", Warning,
        "the message buffer's checksum is the sum of the ring's bytes",
        "msg_cksum with the ring",
        "FreeBSD sys/kern/subr_msgbuf.c; true of 18 dumps",
        "a message was being written, or the ring is damaged";
    MSG_SEQUENCE = "MSG-SEQUENCE", Warning,
        "the message buffer's sequence numbers are below their modulus, 16 rings",
        "msg_wseq, msg_rseq and msg_seqmod with msg_size",
        "FreeBSD sys/kern/subr_msgbuf.c",
        "the struct is damaged: where the text begins is not known";
}

rules! { Liveness, LIVENESS:
    LIV_ALLPROC = "LIV-ALLPROC", Warning,
        "the list of processes can be followed to its end",
        "each link with the dump's pages and with the links before",
        "FreeBSD sys/kern/kern_proc.c",
        "in a live dump the list may have changed meanwhile; in a crash dump memory was damaged";
    LIV_BACK_LINK = "LIV-BACK-LINK", Note,
        "each process points back to what points to it",
        "le_prev with the address of the link",
        "FreeBSD sys/sys/queue.h, LIST",
        "in a live dump the list may have changed meanwhile; in a crash dump memory was damaged";
    LIV_THREADS = "LIV-THREADS", Note,
        "every thread can be listed",
        "the lists of processes and threads with the dump's pages and with each other",
        "FreeBSD sys/kern/kern_proc.c, the exported offsets",
        "in a live dump a list may have changed meanwhile; a reduced kernel lacks symbols";
    LIV_STACK = "LIV-STACK", Note,
        "the stack of a thread that sleeps is mapped",
        "stack and frame pointer of each pcb with the page tables",
        "FreeBSD sys/*/include/pcb.h",
        "the thread was swapped out, or has run since its registers were written";
    LIV_TORN = "LIV-TORN", Note,
        "all pages are of one instant",
        "the attachment's record of pages that changed while they were read",
        "minidump/defs/src/seal.rs",
        "normal for a machine that ran on: lists that were being changed may not fit together";
    LIV_MSGBUF = "LIV-MSGBUF", Note,
        "no message was being written to the message buffer",
        "msg_cksum behind `msgbufp` with the sum of the dumped ring's bytes",
        "FreeBSD sys/kern/subr_msgbuf.c",
        "normal for a live dump: the ring was copied while a message was on its way";
    LIV_FOLLOWED = "LIV-FOLLOWED", Note,
        "a dump that is looked at deeply can be read anywhere",
        "the distance of frames with a quarter of the memory limit",
        "one frame for all of a dump: FreeBSD sys/kern/subr_compressor.c",
        "lists were not followed: convert the dump, or give more memory";
    MSG_MAGIC = "MSG-MAGIC", Note,
        "struct msgbuf lies behind the ring",
        "its magic with 0x063062",
        "FreeBSD sys/kern/subr_prf.c; FreeBSD 14 sys/kern/subr_msgbuf.c copies the ring alone for live dumps",
        "normal for a live dump; in a crash dump the struct was lost";
}
