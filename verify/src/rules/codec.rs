//! Rules about compressed streams and about the seal behind them.

rules! { Codec, STREAMS:
    CODEC_SINGLE = "CODEC-SINGLE", Warning,
        "a kernel's compressed dump is one member or one frame",
        "the number of frames with 1",
        "FreeBSD sys/kern/subr_compressor.c, 12.1 and 14",
        "something other than a kernel wrote it: savecore(8) and libkvm may read the first frame only";
    CODEC_INTERRUPTED = "CODEC-INTERRUPTED", Error,
        "the frames of a stream go on to the end of its payload",
        "the last frame's end with the file's, and the content with what header and bitmap promise",
        "RFC 8878 3.1, RFC 1952 2.2",
        "the stream is damaged or cut here: copy the file again, or run livecore salvage";
    ZSTD_FRAME = "ZSTD-FRAME", Error,
        "frame and block headers are well formed",
        "descriptor, block types and sizes with the format",
        "RFC 8878 3.1.1",
        "the stream is damaged here; what lies in front can be saved";
    ZSTD_TRUNCATED = "ZSTD-TRUNCATED", Error,
        "the stream ends with the end of a frame",
        "the last frame's end with the stream's",
        "RFC 8878 3.1.1",
        "the file was cut: copy it again, or save what is there";
    ZSTD_CONTENT = "ZSTD-CONTENT", Error,
        "every block decodes, to as many bytes as the frame says",
        "the decoder's output with the frame header",
        "RFC 8878 3.1.1",
        "this frame is damaged; others can be read";
    ZSTD_CHECKSUM = "ZSTD-CHECKSUM", Error,
        "a frame's content has the checksum that the frame states",
        "the content's XXH64 with the frame's last four bytes",
        "RFC 8878 3.1.1",
        "this frame is damaged; others can be read";
    ZSTD_NO_CHECKSUM = "ZSTD-NO-CHECKSUM", Warning,
        "every frame has a checksum",
        "the frame descriptor's checksum flag",
        "FreeBSD sys/kern/subr_compressor.c sets it, 12.1 and 14",
        "damage inside of this frame may go unseen: convert the dump";
    ZSTD_DICTIONARY = "ZSTD-DICTIONARY", Error,
        "no frame needs a dictionary",
        "the frame header's dictionary number with 0",
        "FreeBSD sys/kern/subr_compressor.c uses none",
        "decompress it with its dictionary first";
    ZSTD_SKIPPABLE = "ZSTD-SKIPPABLE", Note,
        "nothing but data frames and a seal is in the stream",
        "frame magics with those of data frames and of the seal",
        "RFC 8878 3.1.2",
        "another tool's frame, which readers step over";
    GZIP_HEADER = "GZIP-HEADER", Error,
        "member headers are well formed",
        "magic, method, flags, optional fields and header CRC with the format",
        "RFC 1952 2.3",
        "the stream is damaged here; what lies in front can be saved";
    GZIP_KERNEL_HEADER = "GZIP-KERNEL-HEADER", Warning,
        "a kernel's gzip header is the ten bytes that every kernel writes",
        "the member's first ten bytes with 1f 8b 08 00 00 00 00 00 00 03",
        "FreeBSD sys/kern/subr_compressor.c, 12.1 and 14; seen on 12.1 dumps",
        "savecore -u steps over exactly ten bytes and may fail here";
    GZIP_FOREIGN_HEADER = "GZIP-FOREIGN-HEADER", Note,
        "a saved gzip dump has the ten header bytes that a kernel writes",
        "the member's first ten bytes with 1f 8b 08 00 00 00 00 00 00 03",
        "FreeBSD sys/kern/subr_compressor.c, 12.1 and 14",
        "gzip(1) or another tool compressed it, which is no harm";
    GZIP_TRUNCATED = "GZIP-TRUNCATED", Error,
        "the stream ends with the end of a member",
        "the last member's end with the stream's",
        "RFC 1952 2.3",
        "the file was cut: copy it again, or save what is there";
    GZIP_CONTENT = "GZIP-CONTENT", Error,
        "every member's deflate stream inflates",
        "the deflate stream with the format",
        "RFC 1951",
        "this member is damaged; what lies in front can be read";
    GZIP_LENGTH = "GZIP-LENGTH", Error,
        "a member of a sealed file is as long as its extra field says",
        "stored and inflated length with subfield `LC`",
        "docs/sealed.md",
        "this member is damaged; others can be read";
    GZIP_CRC = "GZIP-CRC", Error,
        "a member's content has the CRC-32 that its trailer states",
        "the content's CRC-32 with the trailer",
        "RFC 1952 2.3",
        "this member is damaged";
    GZIP_ISIZE = "GZIP-ISIZE", Error,
        "a member's content has the length that its trailer states, modulo 2^32",
        "the content's length with the trailer",
        "RFC 1952 2.3",
        "this member is damaged";
}

rules! { Codec, SEAL:
    SEAL_HEADER = "SEAL-HEADER", Error,
        "the seal's header has its magic, its zeros and its digest",
        "bytes 0 to 63 with the digest in bytes 64 to 71",
        "docs/sealed.md",
        "the frames in front of it can be read: convert the dump to seal it again";
    SEAL_FRAMES = "SEAL-FRAMES", Error,
        "the seal's header counts the frames, and their bytes, that are there",
        "number, stored length, content length and frame size with the frames",
        "docs/sealed.md",
        "frames are missing or were added: find the dump's source";
    SEAL_INDEX = "SEAL-INDEX", Error,
        "every entry of the index is its frame's length and digests",
        "the entry with the frame that the walk found",
        "docs/sealed.md",
        "the one that is named is damaged: the index if its own digest is wrong, else the frame";
    SEAL_INDEX_DIGEST = "SEAL-INDEX-DIGEST", Error,
        "the index has the digest that the seal's header states",
        "the XXH64 of all entries with bytes 56 to 63",
        "docs/sealed.md",
        "convert the dump to index it again";
    SEAL_ATTACHMENT = "SEAL-ATTACHMENT", Error,
        "the attachment has the digest that the seal's header states",
        "the XXH64 of the attachment with bytes 48 to 55",
        "docs/sealed.md",
        "the kerneldumpheader in it is damaged; the payload is not";
    SEAL_ATTACHMENT_FORM = "SEAL-ATTACHMENT-FORM", Error,
        "the attachment is a header and records to its end",
        "magic, version and record lengths with the format",
        "docs/sealed.md",
        "a newer version needs a newer verifier; otherwise convert the dump";
    SEAL_ZERO_TAIL = "SEAL-ZERO-TAIL", Warning,
        "no page of a sealed dump was made up",
        "the attachment's flag for zeros that fill a short dump",
        "docs/sealed.md",
        "the pages at the end may have been lost: nothing that lies in them can be trusted";
    SEAL_SALVAGED = "SEAL-SALVAGED", Warning,
        "nothing was lost before the dump was sealed",
        "the attachment's flag for what salvage has lost",
        "docs/sealed.md",
        "pages that were lost are holes, lost parts of sections are zero; SEAL-UNPROVEN says what no checksum proves";
    SEAL_UNPROVEN = "SEAL-UNPROVEN", Warning,
        "a checksum proves every page and section",
        "the attachment's record of what salvage took without a checksum",
        "docs/sealed.md",
        "these pages may be damaged: the parts of kind 2 in docs/sealed.md list them";
    SEAL_REBUILT = "SEAL-REBUILT", Note,
        "the sealed kerneldumpheader is the kernel's own",
        "the attachment's flags for a rebuilt header",
        "docs/sealed.md",
        "the dump had lost its header before it was sealed: strings and time may be missing";
    SEAL_RECORDS = "SEAL-RECORDS", Error,
        "the attachment's records of torn pages, of a pause and of CPUs have their form",
        "their lengths, counts and times with the format, their pages with the bitmap's",
        "minidump/defs/src/seal.rs",
        "what is said of the dump's making cannot be trusted; the payload is not damaged";
    SEAL_CPUS = "SEAL-CPUS", Note,
        "dumptid, dumppcb, stoppcbs and stopped_cpus are as they were in memory",
        "the attachment's record of CPUs whose registers its producer put in",
        "minidump/defs/src/seal.rs",
        "normal for a guest that was dumped from outside: the kernel did not write those registers";
    SEAL_PAUSE = "SEAL-PAUSE", Note,
        "nobody held the machine for its dump",
        "the attachment's record of how it was paused",
        "minidump/defs/src/seal.rs",
        "normal for a guest that was dumped from outside: all pages are of the moment of the pause";
    SEAL_PARTS = "SEAL-PARTS", Error,
        "the parts between data and seal are whole, and the copy in them is the content's beginning",
        "their bytes with the digest in the seal's header, each part with its form, the copy with the frames",
        "docs/sealed.md",
        "the data in front of them can be read: convert the dump to seal it again";
    SEAL_LENGTH = "SEAL-LENGTH", Error,
        "a seal is as long as its parts",
        "header, attachment, index and footer with the seal's length",
        "docs/sealed.md",
        "the file was cut, or something was put into it";
    SEAL_FOOTER = "SEAL-FOOTER", Error,
        "the footer is the one that belongs to the seal, and ends the file",
        "its bytes, and for gzip its member, with what a writer writes",
        "docs/sealed.md",
        "readers may not find the index: convert the dump to seal it again";
    SEAL_WRAPPING = "SEAL-WRAPPING", Error,
        "the seal lies in its codec's wrapping, byte for byte",
        "frame and member headers around the seal with what a writer writes",
        "docs/sealed.md",
        "readers of the codec may stumble: convert the dump to seal it again";
    SEAL_SEEK_TABLE = "SEAL-SEEK-TABLE", Error,
        "the seek table lists the frames and the seal, and ends the file",
        "its bytes with those that follow from the frames",
        "docs/sealed.md; zstd contrib/seekable_format 0.1.0",
        "other tools' random access may fail: convert the dump to seal it again";
}
