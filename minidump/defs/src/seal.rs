//! What a sealed file carries beside its data: the attachment that the seal keeps for us.
//!
//! Our own format. Little endian, but for the kerneldumpheader, which is as a kernel writes it.
//! The seal that holds the attachment covers it with a check; there is none in here.
//!
//! | bytes     | what                                                        |
//! |-----------|-------------------------------------------------------------|
//! | 0..8      | [`MAGIC`]                                                   |
//! | 8..12     | version, [`VERSION`]; a reader refuses a higher one         |
//! | 12..16    | flags; a reader ignores bits that it does not know          |
//! | 16..528   | `struct kerneldumpheader`                                   |
//! | 528..     | records until the end                                       |
//!
//! A record is a type (u32), a length (u32) and as many bytes. A reader skips types that it does
//! not know, and keeps them when it writes the dump again.
//!
//! In this header `dumplength` is the stored length of the data frames, and `dumpextent` the length
//! of the payload.

use crate::{Field, at, kerneldump};

/// The attachment's magic.
pub const MAGIC: [u8; 8] = *b"LiveCore";
/// The version that is written.
pub const VERSION: u32 = 1;

/// [`MAGIC`]'s field.
pub const MAGIC_FIELD: Field = at(0, 8);
/// The version's field.
pub const VERSION_FIELD: Field = at(8, 4);
/// The flags' field.
pub const FLAGS_FIELD: Field = at(12, 4);
/// The kerneldumpheader's field.
pub const HEADER_FIELD: Field = at(16, kerneldump::SIZE);
/// Where records begin.
pub const RECORDS_OFFSET: usize = 16 + kerneldump::SIZE;

/// Flag: the header was rebuilt from an info file.
pub const FLAG_HEADER_FROM_INFO: u32 = 1 << 0;
/// Flag: the header was rebuilt from the payload alone; its strings are empty and its time is 0.
pub const FLAG_HEADER_FROM_PAYLOAD: u32 = 1 << 1;
/// Flag: the dump was cut short, and pages that were lost stand as zeros at its end.
pub const FLAG_ZERO_TAIL: u32 = 1 << 2;
/// Flag: the dump was cut short and ends before the end that it states.
pub const FLAG_SHORT: u32 = 1 << 3;
/// Flag: the dump was salvaged from a damaged one, and something was lost: pages, which are holes
/// now, or parts of sections. [`RECORD_SALVAGED`] says how much.
pub const FLAG_SALVAGED: u32 = 1 << 4;

/// Bytes of a record before its content: type and length.
pub const RECORD_HEAD: usize = 8;
/// Record: what wrote the file, UTF-8.
pub const RECORD_CREATOR: u32 = 1;
/// Record: payload bytes that the source really had, u64. Goes with [`FLAG_ZERO_TAIL`].
pub const RECORD_SOURCE_LENGTH: u32 = 2;

/// Record: what changed while the dump was being taken, [`TORN_LEN`] bytes. Producers that watched a
/// running machine write it.
///
/// | bytes  | what                                                                           |
/// |--------|--------------------------------------------------------------------------------|
/// | 0..8   | pages of the dump that were watched                                            |
/// | 8..16  | torn pages: their bytes may be of another instant than the rest                |
/// | 16..24 | pages that changed before they were written, and were read again               |
/// | 24..28 | rounds of reading again                                                        |
/// | 28..32 | 0                                                                              |
/// | 32..40 | when the first page was read: nanoseconds since 1970, of the producer's clock  |
/// | 40..48 | when the last one was                                                          |
pub const RECORD_TORN: u32 = 3;
/// Bytes of a [`RECORD_TORN`].
pub const TORN_LEN: usize = 48;
/// Pages that were watched.
pub const TORN_PAGES_FIELD: Field = at(0, 8);
/// Torn pages.
pub const TORN_TORN_FIELD: Field = at(8, 8);
/// Pages that were read again.
pub const TORN_AGAIN_FIELD: Field = at(16, 8);
/// Rounds.
pub const TORN_ROUNDS_FIELD: Field = at(24, 4);
/// When the first page was read.
pub const TORN_START_FIELD: Field = at(32, 8);
/// When the last page was read.
pub const TORN_END_FIELD: Field = at(40, 8);

/// Record: whose registers the producer put into the dump's pages, [`CPU_LEN`] bytes a processor.
/// The pages that hold `dumptid`, `dumppcb`, `stoppcbs` and `stopped_cpus` are not what was in
/// memory then.
///
/// | bytes  | what                                                          |
/// |--------|---------------------------------------------------------------|
/// | 0..4   | the processor's number in the image                           |
/// | 4..8   | the kernel's number of it; all ones if unknown                |
/// | 8..12  | `td_tid` of the thread on it; 0 if unknown                    |
/// | 12..16 | where: 0 nowhere, 1 `dumppcb`, 2 `stoppcbs`                   |
pub const RECORD_CPUS: u32 = 4;
/// Bytes a processor of a [`RECORD_CPUS`].
pub const CPU_LEN: usize = 16;

/// Record: how the machine stood still for its dump, [`PAUSE_LEN`] bytes. Producers write it that
/// paused a guest, or found it paused. A page is 4 KiB here.
///
/// | bytes  | what                                                                              |
/// |--------|-----------------------------------------------------------------------------------|
/// | 0..4   | how: 0 others had paused it; 1 its pages were copied while it ran and compared while it was paused; 2 all was read while it was paused; 3 its hypervisor stopped it and wrote its memory |
/// | 4..8   | 0                                                                                 |
/// | 8..16  | when it was paused: nanoseconds since 1970, of the producer's clock; with 0, when it was found paused |
/// | 16..24 | nanoseconds until it went on; 0 if others have to let it go on                    |
/// | 24..32 | with 1, pages that had been copied and were compared                              |
/// | 32..40 | with 1, pages of these that had changed, and were copied again                    |
/// | 40..48 | with 1, pages that were copied for the first time                                 |
pub const RECORD_PAUSE: u32 = 5;
/// Bytes of a [`RECORD_PAUSE`].
pub const PAUSE_LEN: usize = 48;
/// How.
pub const PAUSE_HOW_FIELD: Field = at(0, 4);
/// When the pause began.
pub const PAUSE_START_FIELD: Field = at(8, 8);
/// How long it was.
pub const PAUSE_LENGTH_FIELD: Field = at(16, 8);
/// Pages that were compared.
pub const PAUSE_COMPARED_FIELD: Field = at(24, 8);
/// Pages that had changed.
pub const PAUSE_CHANGED_FIELD: Field = at(32, 8);
/// Pages that were new.
pub const PAUSE_NEW_FIELD: Field = at(40, 8);
/// Record: what a salvaged dump kept and lost, three u64: pages kept, pages lost, bytes of sections
/// lost. Goes with [`FLAG_SALVAGED`].
pub const RECORD_SALVAGED: u32 = 16;

/// Record: how much of the dump no checksum proves, [`UNPROVEN_LEN`] bytes. Salvage writes it. The
/// seal's list of unproven ranges says which pages and sections these are.
///
/// | bytes  | what                                                              |
/// |--------|-------------------------------------------------------------------|
/// | 0..8   | pages of which no checksum proves every byte                      |
/// | 8..16  | bytes of sections that no checksum proves                         |
/// | 16..24 | ranges in the seal's list; 0 if it was not kept                   |
pub const RECORD_UNPROVEN: u32 = 17;
/// Bytes of a [`RECORD_UNPROVEN`].
pub const UNPROVEN_LEN: usize = 24;
/// Unproven pages.
pub const UNPROVEN_PAGES_FIELD: Field = at(0, 8);
/// Unproven bytes of sections.
pub const UNPROVEN_SECTIONS_FIELD: Field = at(8, 8);
/// Ranges in the list.
pub const UNPROVEN_RANGES_FIELD: Field = at(16, 8);
/// Record: reserved for how the file is encrypted.
pub const RECORD_ENCRYPTION: u32 = 18;
/// Record: reserved for how many pages were left out on purpose, and why.
pub const RECORD_EXCLUDED: u32 = 19;
