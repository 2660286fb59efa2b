//! Rules about the layout of payload and header in the file.

rules! { Container, CONTAINER:
    CON_HEADER_PLACE = "CON-HEADER-PLACE", Error,
        "a raw live file ends with its header, at dumplength rounded up to the block size",
        "the header's offset with dumplength, blocksize and the end of the file",
        "FreeBSD 14 sys/kern/kern_vnodedumper.c",
        "the payload was truncated or extended, or the header belongs to another dump";
    CON_HEADER_HIDDEN = "CON-HEADER-HIDDEN", Warning,
        "nothing follows a raw live file's header",
        "the end of the file with the end of the header found after the payload",
        "FreeBSD 14 sys/kern/kern_vnodedumper.c writes at offsets and does not truncate the file",
        "the dump overwrote a longer file: truncate it after the header";
    CON_PADDING = "CON-PADDING", Warning,
        "the padding between payload and header, and after the header in its sector, is zero",
        "the bytes from the end of the payload to the header, and from the header to the end of the sector, with zeros",
        "FreeBSD 14 sys/kern/kern_shutdown.c",
        "the payload may not end where the header states, or the file was overwritten: compare it with the source";
    CON_TRAILING = "CON-TRAILING", Warning,
        "nothing follows the payload except what belongs to the container",
        "the end of the file with the end of the payload",
        "FreeBSD 14 sbin/savecore/savecore.c truncates the file to dumplength",
        "bytes were appended, or the payload ends early: inspect the first bytes after it";
    CON_LEADING_HEADER = "CON-LEADING-HEADER", Error,
        "both headers of a dump device are identical",
        "the first header with the last, byte by byte; the magic that savecore(8) clears is accepted",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c; seen on 12.1 devices",
        "the device was written to after the dump, or still contains part of an older one";
    CON_DEVICE_EXTENT = "CON-DEVICE-EXTENT", Error,
        "a dump on a device leaves the first 64 KiB of the device untouched",
        "the first header's offset, from mediasize, dumpextent and dumpkeysize, with 65536",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c",
        "the image is not the whole partition, or dumpextent is wrong";
    CON_DEVICE_SECTOR = "CON-DEVICE-SECTOR", Error,
        "the last header of a dump device is in the last block",
        "the header's distance from the end with blocksize",
        "FreeBSD 12.1 sys/kern/kern_shutdown.c",
        "the image was truncated or padded: copy the whole partition again";
}
