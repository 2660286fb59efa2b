//! Rules about compressed streams and the seal after them.

rules! { Codec, STREAMS:
    CODEC_SINGLE = "CODEC-SINGLE", Warning,
        "a dump that a kernel compressed is one gzip member or one zstd frame",
        "the number of frames with 1",
        "FreeBSD sys/kern/subr_compressor.c, 12.1 and 14",
        "another program wrote it: savecore(8) and libkvm may read only the first frame";
    CODEC_INTERRUPTED = "CODEC-INTERRUPTED", Error,
        "the frames continue to the end of the payload",
        "the end of the last frame with the end of the file, and the content's length with header and bitmap",
        "RFC 8878 3.1, RFC 1952 2.2",
        "the stream is damaged or cut at this offset: copy the file again, or run livecore salvage";
    ZSTD_FRAME = "ZSTD-FRAME", Error,
        "frame and block headers are valid",
        "descriptor, block types and sizes with the format",
        "RFC 8878 3.1.1",
        "the stream is damaged at this offset; livecore salvage recovers what precedes it";
    ZSTD_TRUNCATED = "ZSTD-TRUNCATED", Error,
        "the stream ends at the end of a frame",
        "the end of the last frame with the end of the stream",
        "RFC 8878 3.1.1",
        "the file was truncated: copy it again, or run livecore salvage";
    ZSTD_CONTENT = "ZSTD-CONTENT", Error,
        "every block decodes, to the size that the frame header states",
        "the size of the decoder's output with the frame header",
        "RFC 8878 3.1.1",
        "this frame is damaged; the others can be read";
    ZSTD_CHECKSUM = "ZSTD-CHECKSUM", Error,
        "a frame's content matches the frame's checksum",
        "the content's XXH64 with the frame's last four bytes",
        "RFC 8878 3.1.1",
        "this frame is damaged; the others can be read";
    ZSTD_NO_CHECKSUM = "ZSTD-NO-CHECKSUM", Warning,
        "every frame has a checksum",
        "the checksum flag of the frame descriptor with 1",
        "FreeBSD sys/kern/subr_compressor.c sets it, 12.1 and 14",
        "damage in this frame may go unnoticed: convert the dump to add checksums";
    ZSTD_DICTIONARY = "ZSTD-DICTIONARY", Error,
        "no frame needs a dictionary",
        "the dictionary id of the frame header with 0",
        "FreeBSD sys/kern/subr_compressor.c uses none",
        "decompress the file with its dictionary first";
    ZSTD_SKIPPABLE = "ZSTD-SKIPPABLE", Note,
        "the stream contains only data frames and a seal",
        "the magic of each frame with those of data frames and seals",
        "RFC 8878 3.1.2",
        "another program's skippable frame; readers skip it";
    GZIP_HEADER = "GZIP-HEADER", Error,
        "member headers are valid",
        "magic, method, flags, optional fields and header CRC with the format",
        "RFC 1952 2.3",
        "the stream is damaged at this offset; livecore salvage recovers what precedes it";
    GZIP_KERNEL_HEADER = "GZIP-KERNEL-HEADER", Warning,
        "the gzip header of a live dump is the ten bytes that every kernel writes",
        "the member's first ten bytes with 1f 8b 08 00 00 00 00 00 00 03",
        "FreeBSD sys/kern/subr_compressor.c, 12.1 and 14; seen on 12.1 dumps",
        "savecore -u skips exactly ten bytes and may fail on this dump";
    GZIP_FOREIGN_HEADER = "GZIP-FOREIGN-HEADER", Note,
        "the gzip header of a saved dump is the ten bytes that every kernel writes",
        "the member's first ten bytes with 1f 8b 08 00 00 00 00 00 00 03",
        "FreeBSD sys/kern/subr_compressor.c, 12.1 and 14",
        "harmless: gzip(1) or another program compressed it";
    GZIP_TRUNCATED = "GZIP-TRUNCATED", Error,
        "the stream ends at the end of a member",
        "the end of the last member with the end of the stream",
        "RFC 1952 2.3",
        "the file was truncated: copy it again, or run livecore salvage";
    GZIP_CONTENT = "GZIP-CONTENT", Error,
        "every member's deflate stream inflates",
        "the deflate stream with the format",
        "RFC 1951",
        "this member is damaged; what precedes the damage can be read";
    GZIP_LENGTH = "GZIP-LENGTH", Error,
        "a member of a sealed file has the length that its extra field states",
        "stored and inflated length with the subfield `LC`",
        "docs/sealed.md",
        "this member is damaged; the others can be read";
    GZIP_CRC = "GZIP-CRC", Error,
        "a member's content matches the CRC-32 in its trailer",
        "the content's CRC-32 with the trailer",
        "RFC 1952 2.3",
        "this member is damaged";
    GZIP_ISIZE = "GZIP-ISIZE", Error,
        "a member's content has the length in its trailer, modulo 2^32",
        "the content's length with the trailer",
        "RFC 1952 2.3",
        "this member is damaged";
}

rules! { Codec, SEAL:
    SEAL_HEADER = "SEAL-HEADER", Error,
        "the seal's header has the right magic, digest and reserved bytes",
        "bytes 0 to 63 with the digest in bytes 64 to 71",
        "docs/sealed.md",
        "the frames before the seal can be read: convert the dump to seal it again";
    SEAL_FRAMES = "SEAL-FRAMES", Error,
        "the seal's header states the number and lengths of the frames",
        "number, stored length, content length and frame size with the frames in the file",
        "docs/sealed.md",
        "frames are missing or were added: get the dump from its source again";
    SEAL_INDEX = "SEAL-INDEX", Error,
        "every index entry matches its frame's length and digests",
        "the entry with the frame found in the file",
        "docs/sealed.md",
        "if SEAL-INDEX-DIGEST is broken too the index is damaged, otherwise the frame";
    SEAL_INDEX_DIGEST = "SEAL-INDEX-DIGEST", Error,
        "the index matches the digest in the seal's header",
        "the XXH64 of all entries with bytes 56 to 63",
        "docs/sealed.md",
        "convert the dump to index it again";
    SEAL_ATTACHMENT = "SEAL-ATTACHMENT", Error,
        "the attachment matches the digest in the seal's header",
        "the XXH64 of the attachment with bytes 48 to 55",
        "docs/sealed.md",
        "the kerneldumpheader in the attachment is damaged; the payload is not";
    SEAL_ATTACHMENT_FORM = "SEAL-ATTACHMENT-FORM", Error,
        "the attachment is a header followed by whole records",
        "magic, version and record lengths with the format",
        "docs/sealed.md",
        "a newer version needs a newer verifier; otherwise convert the dump to seal it again";
    SEAL_ZERO_TAIL = "SEAL-ZERO-TAIL", Warning,
        "a sealed dump contains no zeros in place of missing pages",
        "the attachment's flag for a dump that was filled with zeros",
        "docs/sealed.md",
        "pages at the end may be lost: do not trust zeros there";
    SEAL_SALVAGED = "SEAL-SALVAGED", Warning,
        "nothing was lost before the dump was sealed",
        "the attachment's flag for a salvaged dump",
        "docs/sealed.md",
        "lost pages are holes and lost parts of sections are zero; SEAL-UNPROVEN reports what no checksum proves";
    SEAL_UNPROVEN = "SEAL-UNPROVEN", Warning,
        "a checksum proves every page and section",
        "the attachment's record of unproven pages with 0",
        "docs/sealed.md",
        "these pages may be damaged: parts of kind 2 in docs/sealed.md list them";
    SEAL_EXCLUDED = "SEAL-EXCLUDED", Note,
        "`convert --exclude` left no page out",
        "the attachment's record of excluded pages with 0",
        "docs/receipt.md",
        "these pages are neither lost nor zero: reading one is an error";
    SEAL_REDACTED = "SEAL-REDACTED", Note,
        "`convert --redact` overwrote no memory",
        "the attachment's record of redacted memory with 0",
        "docs/receipt.md",
        "`convert` overwrote this memory with the text REDACTED";
    SEAL_REBUILT = "SEAL-REBUILT", Note,
        "the sealed kerneldumpheader is the one that the kernel wrote",
        "the attachment's flags for a rebuilt header",
        "docs/sealed.md",
        "the dump had no header when it was sealed: strings and time may be missing";
    SEAL_RECORDS = "SEAL-RECORDS", Error,
        "the attachment's records are valid",
        "their lengths, counts and times with the format, their pages with the bitmap",
        "minidump/defs/src/seal.rs",
        "do not trust these records; the payload is not damaged";
    SEAL_CPUS = "SEAL-CPUS", Note,
        "dumptid, dumppcb, stoppcbs and stopped_cpus are as the kernel left them",
        "the attachment's record of CPUs whose registers the producer inserted",
        "minidump/defs/src/seal.rs",
        "normal for a guest that was dumped from outside: the kernel did not write these registers";
    SEAL_PAUSE = "SEAL-PAUSE", Note,
        "the machine was not paused for the dump",
        "the attachment's record of a pause",
        "minidump/defs/src/seal.rs",
        "normal for a guest that was dumped from outside: the dump is a snapshot of the time of the pause";
    SEAL_PARTS = "SEAL-PARTS", Error,
        "the parts between data and seal are intact, and their copy matches the content",
        "their bytes with the digest in the seal's header, each part with its format, the copy with the frames",
        "docs/sealed.md",
        "the data before the parts can be read: convert the dump to seal it again";
    SEAL_LENGTH = "SEAL-LENGTH", Error,
        "a seal's length is the sum of its header, attachment, index and footer",
        "the lengths of header, attachment, index and footer with the seal's length",
        "docs/sealed.md",
        "the file was truncated, or bytes were inserted or appended";
    SEAL_FOOTER = "SEAL-FOOTER", Error,
        "the seal's footer is right and ends the file",
        "its bytes, and for gzip its member, with what a writer produces",
        "docs/sealed.md",
        "readers may not find the index: convert the dump to seal it again";
    SEAL_WRAPPING = "SEAL-WRAPPING", Error,
        "the frames or members around the seal are exactly those that a writer produces",
        "frame and member headers around the seal with what a writer produces",
        "docs/sealed.md",
        "other tools may fail to read the file: convert the dump to seal it again";
    SEAL_SEEK_TABLE = "SEAL-SEEK-TABLE", Error,
        "the seek table lists the frames and the seal, and ends the file",
        "its bytes with the table computed from the frames",
        "docs/sealed.md; zstd contrib/seekable_format 0.1.0",
        "random access by other tools may fail: convert the dump to seal it again";
}
