//! The attachment in the seal of a sealed file.
//!
//! A format of livecore. Integers are little-endian, except in the kerneldumpheader. The seal has a
//! digest of the attachment; the attachment itself has none.
//!
//! | bytes     | content                                                     |
//! |-----------|-------------------------------------------------------------|
//! | 0..8      | [`MAGIC`]                                                   |
//! | 8..12     | version, [`VERSION`]; a reader refuses a higher one         |
//! | 12..16    | flags; a reader ignores bits that it does not know          |
//! | 16..528   | `struct kerneldumpheader`                                   |
//! | 528..     | records until the end                                       |
//!
//! A record is a type (u32), a length (u32) and that many bytes. A reader skips unknown types, and
//! copies them when it writes the dump again.
//!
//! In the attached header `dumplength` is the stored length of the data frames, and `dumpextent` the
//! length of the payload.

use crate::{Field, at, kerneldump};

/// The attachment's magic.
pub const MAGIC: [u8; 8] = *b"LiveCore";
/// The current version.
pub const VERSION: u32 = 1;

/// The field of [`MAGIC`].
pub const MAGIC_FIELD: Field = at(0, 8);
/// The field of the version.
pub const VERSION_FIELD: Field = at(8, 4);
/// The field of the flags.
pub const FLAGS_FIELD: Field = at(12, 4);
/// The field of the kerneldumpheader.
pub const HEADER_FIELD: Field = at(16, kerneldump::SIZE);
/// Offset of the first record.
pub const RECORDS_OFFSET: usize = 16 + kerneldump::SIZE;

/// Flag: the header was rebuilt from an info file.
pub const FLAG_HEADER_FROM_INFO: u32 = 1 << 0;
/// Flag: the header was rebuilt from the payload; its strings are empty and its time is 0.
pub const FLAG_HEADER_FROM_PAYLOAD: u32 = 1 << 1;
/// Flag: the source was truncated, and zeros replace the missing pages at the end.
pub const FLAG_ZERO_TAIL: u32 = 1 << 2;
/// Flag: the source was truncated, and the dump ends before the end that it states.
pub const FLAG_SHORT: u32 = 1 << 3;
/// Flag: the dump was salvaged from a damaged one with losses: pages, which are now holes, or parts
/// of sections. [`RECORD_SALVAGED`] has the numbers.
pub const FLAG_SALVAGED: u32 = 1 << 4;

/// Size of a record's head: type and length.
pub const RECORD_HEAD: usize = 8;
/// Record: the program that wrote the file, UTF-8.
pub const RECORD_CREATOR: u32 = 1;
/// Record: length of the payload in the source, u64. Accompanies [`FLAG_ZERO_TAIL`].
pub const RECORD_SOURCE_LENGTH: u32 = 2;

/// Record: pages that changed during the dump, [`TORN_LEN`] bytes. Written by producers that watched a
/// running machine.
///
/// | bytes  | content                                                                        |
/// |--------|--------------------------------------------------------------------------------|
/// | 0..8   | number of pages watched for changes                                            |
/// | 8..16  | number of torn pages: parts may be from different times                        |
/// | 16..24 | number of pages that changed before they were written, and were read again     |
/// | 24..28 | rounds of reading pages again                                                  |
/// | 28..32 | 0                                                                              |
/// | 32..40 | time of reading the first page, in nanoseconds since 1970 by the producer's clock |
/// | 40..48 | time of reading the last page                                                  |
pub const RECORD_TORN: u32 = 3;
/// Size of a [`RECORD_TORN`].
pub const TORN_LEN: usize = 48;
/// [`RECORD_TORN`]: number of watched pages.
pub const TORN_PAGES_FIELD: Field = at(0, 8);
/// [`RECORD_TORN`]: number of torn pages.
pub const TORN_TORN_FIELD: Field = at(8, 8);
/// [`RECORD_TORN`]: number of pages read again.
pub const TORN_AGAIN_FIELD: Field = at(16, 8);
/// [`RECORD_TORN`]: rounds of reading again.
pub const TORN_ROUNDS_FIELD: Field = at(24, 4);
/// [`RECORD_TORN`]: time of reading the first page.
pub const TORN_START_FIELD: Field = at(32, 8);
/// [`RECORD_TORN`]: time of reading the last page.
pub const TORN_END_FIELD: Field = at(40, 8);

/// Record: CPUs whose registers the producer inserted into pages of the dump, [`CPU_LEN`] bytes for
/// each CPU. The pages with `dumptid`, `dumppcb`, `stoppcbs` and `stopped_cpus` differ from the
/// machine's memory.
///
/// | bytes  | content                                                       |
/// |--------|---------------------------------------------------------------|
/// | 0..4   | number of the CPU in the image                                |
/// | 4..8   | the kernel's number of the CPU; all ones if unknown           |
/// | 8..12  | `td_tid` of the thread on the CPU; 0 if unknown               |
/// | 12..16 | location of the registers: 0 nowhere, 1 `dumppcb`, 2 `stoppcbs` |
pub const RECORD_CPUS: u32 = 4;
/// Size of one CPU in a [`RECORD_CPUS`].
pub const CPU_LEN: usize = 16;

/// Record: how the machine was paused for the dump, [`PAUSE_LEN`] bytes. Written by producers that
/// paused a guest, or found it paused. Pages are counted in units of 4 KiB.
///
/// | bytes  | content                                                                           |
/// |--------|-----------------------------------------------------------------------------------|
/// | 0..4   | kind: 0 the machine was already paused; 1 the producer copied pages before the pause and compared them during the pause; 2 the producer read all pages during the pause; 3 the hypervisor paused the machine and wrote its memory |
/// | 4..8   | 0                                                                                 |
/// | 8..16  | start of the pause, in nanoseconds since 1970 by the producer's clock; kind 0: time at which the producer found the machine paused |
/// | 16..24 | length of the pause in nanoseconds; 0 if the producer did not end it              |
/// | 24..32 | kind 1: number of pages copied before the pause and compared                      |
/// | 32..40 | kind 1: number of these pages that had changed, and were copied again             |
/// | 40..48 | kind 1: number of pages copied for the first time during the pause                |
pub const RECORD_PAUSE: u32 = 5;
/// Size of a [`RECORD_PAUSE`].
pub const PAUSE_LEN: usize = 48;
/// [`RECORD_PAUSE`]: kind.
pub const PAUSE_HOW_FIELD: Field = at(0, 4);
/// [`RECORD_PAUSE`]: start.
pub const PAUSE_START_FIELD: Field = at(8, 8);
/// [`RECORD_PAUSE`]: length.
pub const PAUSE_LENGTH_FIELD: Field = at(16, 8);
/// [`RECORD_PAUSE`]: number of pages compared.
pub const PAUSE_COMPARED_FIELD: Field = at(24, 8);
/// [`RECORD_PAUSE`]: number of pages that had changed.
pub const PAUSE_CHANGED_FIELD: Field = at(32, 8);
/// [`RECORD_PAUSE`]: number of new pages.
pub const PAUSE_NEW_FIELD: Field = at(40, 8);
/// Record: result of salvage, three u64: pages kept, pages lost, bytes of sections lost. Accompanies
/// [`FLAG_SALVAGED`].
pub const RECORD_SALVAGED: u32 = 16;

/// Record: how much of the dump no checksum proves, [`UNPROVEN_LEN`] bytes. Written by salvage. The
/// seal's list of unproven ranges locates these pages and sections.
///
/// | bytes  | content                                                           |
/// |--------|-------------------------------------------------------------------|
/// | 0..8   | number of pages that no checksum proves completely                |
/// | 8..16  | number of bytes of sections that no checksum proves               |
/// | 16..24 | number of ranges in the seal's list; 0 if there is no list        |
pub const RECORD_UNPROVEN: u32 = 17;
/// Size of a [`RECORD_UNPROVEN`].
pub const UNPROVEN_LEN: usize = 24;
/// [`RECORD_UNPROVEN`]: number of unproven pages.
pub const UNPROVEN_PAGES_FIELD: Field = at(0, 8);
/// [`RECORD_UNPROVEN`]: number of unproven bytes of sections.
pub const UNPROVEN_SECTIONS_FIELD: Field = at(8, 8);
/// [`RECORD_UNPROVEN`]: number of ranges in the list.
pub const UNPROVEN_RANGES_FIELD: Field = at(16, 8);
/// Record: reserved for the encryption of the file.
pub const RECORD_ENCRYPTION: u32 = 18;
/// Record: pages that were excluded on request. The seal's list of excluded pages locates them.
///
/// | bytes  | content                                                          |
/// |--------|------------------------------------------------------------------|
/// | 0..8   | number of runs in the list                                       |
/// | 8..12  | size of a page                                                   |
/// | 12..16 | number of classes                                                |
/// | 16..   | for each class: number of pages (8), length of the name (4), name, UTF-8 |
///
/// A program that writes the dump again and does not know the list keeps the record and drops the list.
pub const RECORD_EXCLUDED: u32 = 19;
/// Size of a [`RECORD_EXCLUDED`] without classes.
pub const EXCLUDED_LEN: usize = 16;
/// [`RECORD_EXCLUDED`]: number of runs.
pub const EXCLUDED_RUNS_FIELD: Field = at(0, 8);
/// [`RECORD_EXCLUDED`]: size of a page.
pub const EXCLUDED_PAGE_FIELD: Field = at(8, 4);
/// [`RECORD_EXCLUDED`]: number of classes.
pub const EXCLUDED_CLASSES_FIELD: Field = at(12, 4);
/// Maximum number of classes.
pub const EXCLUDED_CLASSES_MAX: usize = 256;
/// Maximum length of the name of a class or of redacted memory.
pub const RECEIPT_NAME_MAX: usize = 256;
/// Size of a run in the list of excluded pages: physical address divided by the size of a page (8), number
/// of pages (4), index of the class (4). Runs ascend and do not overlap.
pub const EXCLUDED_RUN_LEN: usize = 16;

/// Record: memory that was overwritten on request. For each range of physical addresses: start (8), length
/// (8), length of the name (4), name, UTF-8. Ranges ascend and do not overlap.
///
/// The byte at physical address A is byte A modulo 8 of [`REDACTED`].
pub const RECORD_REDACTED: u32 = 20;
/// Size of a redacted range without its name.
pub const REDACTED_RANGE_LEN: usize = 20;
/// Maximum number of redacted ranges.
pub const REDACTED_RANGES_MAX: usize = 4096;
/// The pattern of redacted memory.
pub const REDACTED: [u8; 8] = *b"REDACTED";
