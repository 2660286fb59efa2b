//! Rules about `struct kerneldumpheader` and the info file that is made of it.

rules! { Header, HEADER:
    KDH_MAGIC = "KDH-MAGIC", Error,
        "a kerneldumpheader begins with `FreeBSD Kernel Dump`",
        "bytes 0 to 19 with the magic",
        "FreeBSD sys/sys/kerneldump.h, 10.4 to 15",
        "the header is damaged: its other fields may still be right";
    KDH_CLEARED = "KDH-CLEARED", Warning,
        "the dump has not been marked as saved",
        "bytes 0 to 19 with `Cleared Kernel Dump`",
        "FreeBSD 12.1 sbin/savecore/savecore.c",
        "savecore(8) has saved this dump before; the system may have used the device since";
    KDH_VERSION = "KDH-VERSION", Error,
        "the header's version is 1 to 4",
        "bytes 32 to 35 with the known versions",
        "FreeBSD sys/sys/kerneldump.h, 10.4 to 15",
        "a newer kernel needs a newer verifier; otherwise the header is damaged";
    KDH_PARITY = "KDH-PARITY", Error,
        "the exclusive or of the header's 128 words is 0",
        "all 512 bytes with each other",
        "FreeBSD sys/sys/kerneldump.h, kerneldump_parity; seen on 20 headers",
        "some bit of the header is wrong: trust none of its numbers";
    KDH_STRINGS = "KDH-STRINGS", Warning,
        "every string of the header is NUL terminated",
        "each string's field with its NUL",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c, dump_init_header",
        "the header is damaged";
    KDH_STRING_TAIL = "KDH-STRING-TAIL", Warning,
        "the bytes behind a string's NUL are zero",
        "the rest of each string's field with zeros",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c, dump_init_header",
        "the header was made or changed by something other than a kernel";
    KDH_ARCHITECTURE = "KDH-ARCHITECTURE", Error,
        "the header names an architecture that FreeBSD has",
        "bytes 20 to 31 with the names of the ports",
        "FreeBSD sys/*/include/param.h, MACHINE_ARCH",
        "the header is damaged, or the port is newer than the verifier";
    KDH_ARCHITECTUREVERSION = "KDH-ARCHITECTUREVERSION", Error,
        "the header's architecture version is its architecture's",
        "bytes 36 to 39 with the port's number",
        "FreeBSD sys/sys/kerneldump.h, KERNELDUMP_*_VERSION",
        "the header is damaged";
    KDH_COMPRESSION = "KDH-COMPRESSION", Error,
        "the header's compression is one that exists",
        "the compression byte with 0, 1 and 2",
        "FreeBSD 12.1 sys/sys/kerneldump.h",
        "the header is damaged";
    KDH_CODEC = "KDH-CODEC", Error,
        "the payload is stored as the header says",
        "the compression byte with the payload's first bytes",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c",
        "the payload was replaced, or the header is another dump's";
    KDH_BLOCKSIZE = "KDH-BLOCKSIZE", Error,
        "the block size is the page size of a live dump, or a power of two from 512 on",
        "the blocksize field with what a dumper can have",
        "FreeBSD 14 sys/kern/kern_vnodedumper.c, sys/kern/kern_shutdown.c",
        "the header is damaged";
    KDH_KEYSIZE = "KDH-KEYSIZE", Error,
        "only a dump device holds a key, of whole blocks",
        "the dumpkeysize field with the container",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c",
        "the header is damaged, or an encrypted dump was copied without its key";
    KDH_UNUSED = "KDH-UNUSED", Error,
        "the spare bytes of a version 4 header are zero",
        "bytes 504 to 507 with zeros",
        "FreeBSD 12.1 sys/sys/kerneldump.h",
        "the header is damaged, or of a later version";
    KDH_DUMPLENGTH = "KDH-DUMPLENGTH", Error,
        "dumplength is the length of the payload as stored",
        "the dumplength field with where the frames, or the pages, end",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c",
        "the payload was cut or lengthened, or the header is another dump's";
    KDH_DUMPEXTENT = "KDH-DUMPEXTENT", Error,
        "dumpextent is the length of the payload before compression",
        "the dumpextent field with the decompressed length",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c; seen on 12.1 devices",
        "the payload was cut, or the header is another dump's";
    KDH_PAYLOAD = "KDH-PAYLOAD", Error,
        "header and payload are of the same architecture",
        "bytes 20 to 31 of the header with the minidump's magic",
        "FreeBSD sys/*/include/minidump.h, sys/*/include/param.h",
        "the header is another dump's";
}

rules! { Header, INFO:
    INFO_FORMAT = "INFO-FORMAT", Note,
        "the info file is in one of the forms that can be compared",
        "its lines with savecore(8)'s text, JSON and XML, and netdumpd's text",
        "FreeBSD sbin/savecore/savecore.c, printheader, 10.4, 12.1 and 14; netdumpd.c",
        "nothing of it was compared";
    INFO_LENGTH = "INFO-LENGTH", Error,
        "the dump is as long as its info file says",
        "`Dump Length` with the bytes of the stored payload",
        "FreeBSD sbin/savecore/savecore.c, 12.1 and 14",
        "the dump was cut, or the info file is another dump's";
    INFO_COMPRESSION = "INFO-COMPRESSION", Note,
        "the dump is stored as its info file says",
        "`Compression` with the payload's first bytes",
        "FreeBSD sbin/savecore/savecore.c, 12.1 and 14",
        "it was compressed or decompressed after the kernel wrote it, which is no harm";
    INFO_ARCHITECTURE = "INFO-ARCHITECTURE", Error,
        "dump and info file are of the same architecture",
        "`Architecture` with the minidump's magic",
        "FreeBSD sbin/savecore/savecore.c, 12.1 and 14",
        "the info file is another dump's";
    INFO_STATUS = "INFO-STATUS", Warning,
        "savecore(8) found the dump's headers in order",
        "`Dump Status` with `good`",
        "FreeBSD sbin/savecore/savecore.c, 12.1 and 14",
        "savecore(8) had doubts when it saved the dump: look at its messages";
    INFO_HEADER = "INFO-HEADER", Warning,
        "the info file says what the header says",
        "strings, architecture version and block size with the kerneldumpheader",
        "FreeBSD sbin/savecore/savecore.c, 12.1 and 14",
        "the info file is another dump's";
}
