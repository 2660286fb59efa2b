//! Rules about `struct kerneldumpheader` and the info file that savecore(8) writes from it.

rules! { Header, HEADER:
    KDH_MAGIC = "KDH-MAGIC", Error,
        "a kerneldumpheader begins with `FreeBSD Kernel Dump`",
        "bytes 0 to 19 with the magic",
        "FreeBSD sys/sys/kerneldump.h, 10.4 to 15",
        "the header is damaged: its other fields may still be right";
    KDH_CLEARED = "KDH-CLEARED", Warning,
        "savecore(8) has not cleared the header",
        "bytes 0 to 19 with `Cleared Kernel Dump`",
        "FreeBSD 12.1 sbin/savecore/savecore.c",
        "savecore(8) already saved this dump; the system may have used the device since then";
    KDH_VERSION = "KDH-VERSION", Error,
        "the header's version is 1, 2, 3 or 4",
        "bytes 32 to 35 with the known versions",
        "FreeBSD sys/sys/kerneldump.h, 10.4 to 15",
        "a newer kernel needs a newer verifier; otherwise the header is damaged";
    KDH_PARITY = "KDH-PARITY", Error,
        "the exclusive or of the header's 128 words is 0",
        "the exclusive or of the 128 words with 0",
        "FreeBSD sys/sys/kerneldump.h, kerneldump_parity; seen on 20 headers",
        "at least one bit of the header is wrong: do not trust its numbers";
    KDH_STRINGS = "KDH-STRINGS", Warning,
        "every string of the header ends with NUL",
        "each string's field with NUL",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c, dump_init_header",
        "the header is damaged";
    KDH_STRING_TAIL = "KDH-STRING-TAIL", Warning,
        "the bytes after a string's NUL are zero",
        "the rest of each string's field with zeros",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c, dump_init_header",
        "a program other than the kernel wrote or changed the header";
    KDH_ARCHITECTURE = "KDH-ARCHITECTURE", Error,
        "the header names a FreeBSD architecture",
        "bytes 20 to 31 with the names of FreeBSD's ports",
        "FreeBSD sys/*/include/param.h, MACHINE_ARCH",
        "the header is damaged, or the port is newer than this verifier";
    KDH_ARCHITECTUREVERSION = "KDH-ARCHITECTUREVERSION", Error,
        "the header's architecture version is the one of its architecture",
        "bytes 36 to 39 with the architecture's number",
        "FreeBSD sys/sys/kerneldump.h, KERNELDUMP_*_VERSION",
        "the header is damaged";
    KDH_COMPRESSION = "KDH-COMPRESSION", Error,
        "the header's compression is 0, 1 or 2",
        "the compression byte with 0, 1 and 2",
        "FreeBSD 12.1 sys/sys/kerneldump.h",
        "the header is damaged";
    KDH_CODEC = "KDH-CODEC", Error,
        "the payload is compressed as the header states",
        "the compression byte with the payload's first bytes",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c",
        "the payload was replaced, or the header belongs to another dump";
    KDH_BLOCKSIZE = "KDH-BLOCKSIZE", Error,
        "the block size of a live dump is its page size; of another dump a power of two, at least 512",
        "the blocksize field with the sizes that a dumper uses",
        "FreeBSD 14 sys/kern/kern_vnodedumper.c, sys/kern/kern_shutdown.c",
        "the header is damaged";
    KDH_KEYSIZE = "KDH-KEYSIZE", Error,
        "only a dump device and an encrypted sealed file contain a key, and the key is a whole number of blocks",
        "the dumpkeysize field with the container and the block size",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c",
        "the header is damaged, or an encrypted dump was copied without its key";
    KDH_UNUSED = "KDH-UNUSED", Error,
        "the unused bytes of a version 4 header are zero",
        "bytes 504 to 507 with zeros",
        "FreeBSD 12.1 sys/sys/kerneldump.h",
        "the header is damaged, or has a later version";
    KDH_DUMPLENGTH = "KDH-DUMPLENGTH", Error,
        "dumplength is the length of the payload as stored",
        "the dumplength field with the end of the frames, or of the pages",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c",
        "the payload was truncated or extended, or the header belongs to another dump";
    KDH_DUMPEXTENT = "KDH-DUMPEXTENT", Error,
        "dumpextent is the length of the payload before compression",
        "the dumpextent field with the decompressed length",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c; seen on 12.1 devices",
        "the payload was truncated, or the header belongs to another dump";
    KDH_PAYLOAD = "KDH-PAYLOAD", Error,
        "header and payload have the same architecture",
        "bytes 20 to 31 of the header with the minidump's magic",
        "FreeBSD sys/*/include/minidump.h, sys/*/include/param.h",
        "the header belongs to another dump";
}

rules! { Header, INFO:
    INFO_FORMAT = "INFO-FORMAT", Note,
        "the info file has a known form",
        "its lines with the text, JSON and XML of savecore(8), and the text of netdumpd",
        "FreeBSD sbin/savecore/savecore.c, printheader, 10.4, 12.1 and 14; netdumpd.c",
        "the info file was not compared with the dump";
    INFO_LENGTH = "INFO-LENGTH", Error,
        "the dump is as long as its info file states",
        "`Dump Length` with the length of the stored payload",
        "FreeBSD sbin/savecore/savecore.c, 12.1 and 14",
        "the dump was truncated, or the info file belongs to another dump";
    INFO_COMPRESSION = "INFO-COMPRESSION", Note,
        "the dump is compressed as its info file states",
        "`Compression` with the payload's first bytes",
        "FreeBSD sbin/savecore/savecore.c, 12.1 and 14",
        "harmless: the dump was compressed or decompressed after the kernel wrote it";
    INFO_ARCHITECTURE = "INFO-ARCHITECTURE", Error,
        "dump and info file have the same architecture",
        "`Architecture` with the minidump's magic",
        "FreeBSD sbin/savecore/savecore.c, 12.1 and 14",
        "the info file belongs to another dump";
    INFO_STATUS = "INFO-STATUS", Warning,
        "savecore(8) reported the dump as good",
        "`Dump Status` with `good`",
        "FreeBSD sbin/savecore/savecore.c, 12.1 and 14",
        "savecore(8) found a problem when it saved the dump: read its messages";
    INFO_HEADER = "INFO-HEADER", Warning,
        "the info file agrees with the kerneldumpheader",
        "strings, architecture version and block size with the kerneldumpheader",
        "FreeBSD sbin/savecore/savecore.c, 12.1 and 14",
        "the info file belongs to another dump";
}
