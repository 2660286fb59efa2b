//! `mkdump` builds a dump from text.
//!
//! A recipe is lines of text. The first statement gives the kind of dump, the others its contents.
//! Everything else is derived as the kernel derives it, and every derived value can be overridden.
//! The builder shares no type and no constant with the code under test.
//!
//! ```text
//! minidump amd64 3                    # or: fulldump ARCH, textdump ARCH, raw ARCH
//! avail 0x1000 0x9f000                # ranges of dump_avail, ascending
//! page 0x2000 fill 0x55               # a page by physical address; see "contents"
//! pages 0x3000 4 seed 7               # a run; the seed increases by one per page
//! put 0x2010 u64 0x1234               # bytes in a page; `put va ADDR` through a map
//! map 0xffffffff80200000 0x2000 4K rx # a mapping, in the kernel's page tables; `times N`
//! table 0xffffffff80200000 0x8000     # physical address of the leaf table (amd64)
//! pte 0xffffffff80201000 = 0x2001     # a raw entry; `pde` for the level above
//! nodump 0x3000                       # a page that is mapped but not saved
//! garbage 158 160 pages               # bits without an address; `pages`: write their pages
//! msgbuf text "booting\n"             # also size, start, rseq, at, tail
//! set header.bitmapsize = 0x1234      # any field of header, msgbuf, dump_avail.N, kdh
//! length pmap = 0x1000                # actual length of a section
//! container device                    # saved (default), live, device, sealed
//! compress zstd                       # none, gzip, gzip members N, pigz, zstd, zstd sized,
//!                                     # zstd unchecked, zstd frames N; `level N`
//! patch file 0x40 = hex 00 11         # payload (before), stream (after compression), file
//! flip file section.pmap.start bit 3
//! truncate file section.bitmap.end - 1
//! append file zero len 512
//! ```
//!
//! Also: `let NAME = N`, `pagesize 16K`, `kernbase N`, `kernend N`, `dmap BASE END`,
//! `dmapphys N`, `startkernel N`, `groups N` and `radix` (powerpc64), `bytes CONTENT` (raw),
//! `delta VA PA ALIGN` (full dumps), `member "NAME" CONTENT` (text dumps), `sector N`, `device_size N`, `stale SEED`,
//! `frame N` (sealed), `kdh version N`, `key aes|chacha20 N [pkcs1]`, `cleared`,
//! `info "DEVICE" bounds N status good ctime`, `reword "OLD" "NEW"` in that text. `set leading.` and
//! `set trailing.` change one copy of the header without its parity; `set seal.` changes the seal's
//! header and updates its digest unless that is set as well; `set attachment.` changes `version`
//! and `flags` of the seal's attachment.
//!
//! **Contents** are `zero`, `fill B`, `word V`, `own`, `seed S`, `text "..."`, `hex ..`,
//! `u8|u16|u32|u64 V, V` in the dump's byte order, `be16|be32|be64 V, V`; `times N`
//! repeats, `len N` sets the length.
//!
//! **Names in expressions**: those defined by `let`; in `set`, `length` and edits also
//! `section.NAME.start|middle|end|size` for `header`, `msgbuf`, `dump_avail`, `bitmap`,
//! `pmap` and `data` (offsets in the payload), `bits`, `saved`, `page`, `payload.size`,
//! `stream.size`, and in the file `stream.start`, `seal` (also `.header`, `.attachment`,
//! `.index`, `.footer`, `.end`), `leading`, `key`, `trailing`,
//! `file.size`.
//!
//! **Saved pages**: the pages defined, the pages mapped and the leaf tables of amd64, if they are
//! in `avail` and not excluded by `nodump`. A saved page without contents is zeros.

mod arch;
mod container;
mod content;
mod cursor;
mod digest;
mod edit;
mod encryption;
mod error;
mod full;
mod hpt;
mod info;
mod msgbuf;
mod oracle;
mod payload;
mod radix;
mod ranges;
mod recipe;
mod seal;
mod sealed;
mod statement;
mod stream;
mod tables;
mod textdump;

use cursor::Names;
use recipe::{Container, Kind, Stage};

pub use error::BuildError;
pub use oracle::{MappedPage, Oracle};
pub use recipe::Protection;

pub(crate) use content::{Content, put_number};
pub(crate) use cursor::Cursor;

/// The result of a recipe.
#[derive(Debug)]
pub struct Built {
    /// The file.
    pub bytes: Vec<u8>,
    /// The text of `info.N`, if the recipe has an `info` statement.
    pub info: Option<String>,
    /// The content of `key.N`, if the recipe has a `key` statement.
    pub key: Option<Vec<u8>>,
    /// The uncompressed dump before the edits of `stream` and `file`.
    pub payload: Vec<u8>,
    /// The expected contents of the undamaged dump; only for minidumps.
    pub oracle: Option<Oracle>,
}

/// Builds the file that `text` describes.
///
/// # Errors
///
/// The first statement that is invalid or cannot be applied, with its line.
pub fn build(text: &str) -> Result<Vec<u8>, BuildError> {
    build_all(text).map(|built| built.bytes)
}

/// Builds the file, its info text, payload and expected contents.
///
/// # Errors
///
/// As for [`build`].
pub fn build_all(text: &str) -> Result<Built, BuildError> {
    let recipe = statement::parse(text)?;
    let mut names: Names = recipe.names.clone();
    let (mut payload, oracle) = match recipe.kind {
        Kind::Minidump(arch, version) => {
            let built = payload::build(&recipe, arch, version, &mut names)?;
            let oracle = Oracle::new(&recipe, arch, version, &built);
            (built.bytes, Some(oracle))
        }
        Kind::Full(_) => (full::build(&recipe)?, None),
        Kind::Text(_) => (textdump::tar(&recipe.members), None),
        Kind::Raw(_) => (recipe.raw.clone(), None),
    };
    let define = |names: &mut Names, name: &str, len: usize| {
        names.insert(name.to_owned(), len as u64);
    };
    define(&mut names, "payload.size", payload.len());
    edit::apply(&recipe, Stage::Payload, &names, &mut payload)?;
    let (mut bytes, header) = if recipe.container == Container::Sealed {
        sealed::pack(&recipe, &payload, &mut names)?
    } else {
        let mut stored = stream::store(&recipe, &payload)?;
        define(&mut names, "stream.size", stored.len());
        edit::apply(&recipe, Stage::Stream, &names, &mut stored)?;
        let packed = container::pack(&recipe, &stored, payload.len() as u64, &mut names)?;
        (packed.bytes, packed.header)
    };
    define(&mut names, "file.size", bytes.len());
    edit::apply(&recipe, Stage::File, &names, &mut bytes)?;
    let info = recipe.info.as_ref();
    let info = info
        .map(|info| info::text(info, &header, recipe.kdh_version))
        .transpose()?;
    Ok(Built {
        bytes,
        info,
        key: recipe.key.map(|key| {
            let size = (37 + key.wrapped).next_multiple_of(recipe.sector);
            encryption::key_block(key, size)
        }),
        payload,
        oracle,
    })
}

#[cfg(test)]
mod tests;
