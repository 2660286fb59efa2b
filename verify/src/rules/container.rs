//! Rules about the layout of payload and header in the file.

rules! { Container, KEY:
    KEY_CIPHER = "KEY-CIPHER", Error,
        "the key block of an encrypted dump has a known cipher, the same as the seal",
        "kdk_encryption with the ciphers of FreeBSD, and with the seal's header",
        "FreeBSD 15 sys/sys/kerneldump.h",
        "the key block is damaged, or a later kernel wrote it: without the key block, the data is lost";
    KEY_LENGTH = "KEY-LENGTH", Error,
        "the encrypted one-time key has 1 to 2048 bytes, and is in the key block",
        "kdk_encryptedkeysize with the limit, and with the size of the key block",
        "FreeBSD 15 sys/sys/kerneldump.h",
        "the key block is damaged or truncated: without it, the data is lost";
    KEY_SIZE = "KEY-SIZE", Error,
        "dumpkeysize is the size of the key block, in whole blocks of the dumper",
        "dumpkeysize with kdk_encryptedkeysize and blocksize",
        "FreeBSD 15 sys/kern/kern_shutdown.c",
        "the header or the key block is damaged";
    KEY_PADDING = "KEY-PADDING", Warning,
        "zeros follow the encrypted key in the key block",
        "the bytes from the end of the encrypted key to the end of the block",
        "FreeBSD 15 sys/kern/kern_shutdown.c; seen on 12.1 devices",
        "the key block may be damaged; the private key shows whether it is usable";
    KEY_DATA = "KEY-DATA", Error,
        "AES-256-CBC encrypts uncompressed data of whole blocks",
        "the cipher with the compression byte and with the length of the data",
        "FreeBSD 15 sys/kern/kern_shutdown.c; sbin/decryptcore/decryptcore.c",
        "the header or the key block is damaged: decryptcore(8) cannot decrypt the end of the data";
    KEY_CONTENT = "KEY-CONTENT", Error,
        "decrypted data is a dump",
        "the first bytes of the data, after decryption, with those of a dump",
        "FreeBSD 15 sbin/decryptcore/decryptcore.c",
        "the key block belongs to another dump, or the data is damaged";
    KEY_UNREAD = "KEY-UNREAD", Warning,
        "the data of an encrypted dump was decrypted and checked",
        "whether the verifier has the private key",
        "the verifier checks only headers, key block and seal without it",
        "use --key PRIVATE.pem to check the data";
}

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
