//! Rules about how payload and header are laid in the file.

rules! { Container, CONTAINER:
    CON_HEADER_PLACE = "CON-HEADER-PLACE", Error,
        "a raw live file ends with its header, at dumplength rounded up to the block size",
        "the header's place with dumplength, blocksize and the file's end",
        "FreeBSD 14 sys/kern/kern_vnodedumper.c",
        "the payload was cut or lengthened, or the header is another dump's";
    CON_HEADER_HIDDEN = "CON-HEADER-HIDDEN", Warning,
        "nothing follows a raw live file's header",
        "the file's end with the header found behind the payload",
        "FreeBSD 14 sys/kern/kern_vnodedumper.c writes at offsets and cuts nothing",
        "the dump was written over a longer file: cut it behind the header";
    CON_PADDING = "CON-PADDING", Warning,
        "what lies between payload and header, and behind the header of a sector, is zero",
        "the bytes from the payload's end to the header, and from the header to the sector's end",
        "FreeBSD 14 sys/kern/kern_shutdown.c",
        "the payload may end elsewhere than the header says, or the file was written over: compare with the source";
    CON_TRAILING = "CON-TRAILING", Warning,
        "nothing follows the payload but what belongs to the container",
        "the file's end with the payload's end",
        "FreeBSD 14 sbin/savecore/savecore.c cuts the file to dumplength",
        "something was appended, or the payload ends too early: look at the first bytes behind it";
    CON_LEADING_HEADER = "CON-LEADING-HEADER", Error,
        "both headers of a dump device are the same",
        "the first header with the last, byte by byte; a magic that savecore(8) has cleared is the same",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c; seen on 12.1 devices",
        "the device was written to since the dump, or holds the rest of an older one";
    CON_DEVICE_EXTENT = "CON-DEVICE-EXTENT", Error,
        "a dump on a device leaves the first 64 KiB alone",
        "the first header's place, from mediasize, dumpextent and dumpkeysize, with 65536",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c",
        "the image is not the whole partition, or dumpextent is wrong";
    CON_DEVICE_SECTOR = "CON-DEVICE-SECTOR", Error,
        "the last header of a dump device is in the last block",
        "the header's distance to the end with blocksize",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c",
        "the image was cut or padded: copy the partition again";
}
