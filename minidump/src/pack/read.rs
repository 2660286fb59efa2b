//! Reads a pack.

use std::collections::HashSet;
use std::sync::Arc;

use livecore_compress::{Codec, NoProgress, Progress, ReadAt, Stream, Window};
use livecore_defs::text::escaped;
use livecore_defs::textdump::BLOCK;

use super::manifest::{Kind, Manifest, Member, VERSION};
use super::member::{Checked, differs, digest};
use super::name::is_usable;
use super::{KERNEL, MANIFEST};
use crate::info::{self, Info, InfoFile};
use crate::tar_block::TarBlock;
use crate::{Error, SealRecord, container};

/// Maximum size of the manifest, in bytes.
pub const MANIFEST_MAX: u64 = 1 << 20;

/// Maximum number of members after the manifest.
pub const MEMBERS_MAX: usize = 2048;

/// Maximum size of a kernel, a module or a debug file, in bytes. A reader computes the digest of the
/// whole file before it uses it.
pub const FILE_MAX: u64 = 1 << 30;

/// An open pack.
pub struct Pack {
    manifest: Manifest,
    content: Arc<dyn ReadAt>,
    /// Damage of the pack's own seal.
    damage: Option<livecore_compress::Error>,
    /// The offset of each member of the manifest in the archive.
    offsets: Vec<u64>,
    /// The index of the dump.
    dump: usize,
}

impl Pack {
    /// Whether the archive that begins with `head` is a pack: its first member is the manifest.
    pub fn probe(head: &[u8]) -> bool {
        let rest = head.strip_prefix(MANIFEST.as_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"\0"))
    }

    /// Opens the pack in `source`, compressed or not. `None` if it is not a pack.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the source cannot be read, and the errors of [`Pack::open`].
    pub fn from_source(
        source: Arc<dyn ReadAt>,
        options: &livecore_compress::OpenOptions,
    ) -> Result<Option<Self>, Error> {
        let Some((content, damage)) = content(source, options)? else {
            return Ok(None);
        };
        let pack = Self::open(content)?;
        Ok(Some(Self { damage, ..pack }))
    }

    /// Opens the archive `content`.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] if the manifest or the archive is damaged or they contradict each other,
    /// [`Error::Unsupported`] if the version of the manifest is unknown, [`Error::Io`] if the archive
    /// cannot be read.
    pub fn open(content: Arc<dyn ReadAt>) -> Result<Self, Error> {
        let (offset, size) = member(&*content, 0, MANIFEST)?;
        if size > MANIFEST_MAX {
            let expected = format!("at most {MANIFEST_MAX}");
            return Err(broken(
                MANIFEST,
                0,
                format!("a size of {size} bytes"),
                expected,
            ));
        }
        let mut json = vec![0; size as usize]; // at most MANIFEST_MAX
        let got = content.read_full_at(&mut json, offset)?;
        if got < json.len() {
            let found = format!("end of the pack after {got} bytes");
            return Err(broken(MANIFEST, offset, found, format!("{size} bytes")));
        }
        let manifest = parse(&json, offset)?;
        let mut at = next(offset, size).unwrap_or(u64::MAX);
        let mut offsets = Vec::new();
        for listed in &manifest.members {
            let (offset, size) = member(&*content, at, &listed.name)?;
            if size != listed.size {
                let expected = format!("{}, by the manifest", listed.size);
                return Err(broken(
                    &listed.name,
                    at,
                    format!("a size of {size} bytes"),
                    expected,
                ));
            }
            let end = next(offset, size);
            let Some(end) = end.filter(|_| reaches(&*content, offset, size)) else {
                let found = format!("a size of {size} bytes");
                return Err(broken(&listed.name, at, found, "an end within the pack"));
            };
            offsets.push(offset);
            at = end;
        }
        require_end(&*content, at)?;
        let dump = manifest.members.iter().position(|m| m.kind == Kind::Dump);
        let Some(dump) = dump else {
            return Err(broken(MANIFEST, offset, "no dump", "one dump"));
        };
        Ok(Self {
            manifest,
            content,
            damage: None,
            offsets,
            dump,
        })
    }

    /// Damage of the pack's own seal, as [`livecore_compress::Stream::seal_damage`] describes it.
    pub fn seal_damage(&self) -> Option<&livecore_compress::Error> {
        self.damage.as_ref()
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The member that is the dump.
    pub fn dump_member(&self) -> &Member {
        &self.manifest.members[self.dump]
    }

    /// The contents of the dump. Its digest is compared by [`Pack::check`] only.
    pub fn dump(&self) -> Arc<dyn ReadAt> {
        let len = self.dump_member().size;
        let content = Arc::clone(&self.content);
        Arc::new(Window::new(content, self.offsets[self.dump], len))
    }

    /// The contents of the member `name`. The first read compares its digest and its build-id with the
    /// manifest, and fails if they differ. `None` if there is no such member.
    pub fn member(&self, name: &str) -> Option<Arc<dyn ReadAt>> {
        let members = self.manifest.members.iter().zip(&self.offsets);
        let (member, offset) = members
            .into_iter()
            .find(|(member, _)| member.name == name)?;
        let content = Arc::clone(&self.content);
        Some(Arc::new(Checked::new(content, *offset, member.clone())))
    }

    /// The kernel file, as [`Pack::member`] returns it.
    pub fn kernel(&self) -> Option<Arc<dyn ReadAt>> {
        self.member(KERNEL)
    }

    /// The debug file of the member `name`, as [`Pack::member`] returns it.
    pub fn debug_file(&self, name: &str) -> Option<Arc<dyn ReadAt>> {
        self.member(&format!("{name}.debug"))
    }

    /// The text of the info file; `None` if there is none or it cannot be read.
    pub fn info(&self) -> Option<String> {
        let member = self.info_member()?;
        if member.size > info::MAX_LEN {
            return None;
        }
        let mut bytes = vec![0; member.size as usize]; // at most MAX_LEN
        let contents = self.member(&member.name)?;
        contents.read_exact_at(&mut bytes, 0).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn info_member(&self) -> Option<&Member> {
        self.manifest.members.iter().find(|m| m.kind == Kind::Info)
    }

    pub(crate) fn info_file(&self) -> Option<InfoFile> {
        let path = self.info_member()?.name.clone().into();
        let text = self
            .info()
            .ok_or_else(|| "differs from the manifest".to_owned());
        let parsed = text.and_then(|text| {
            Info::parse(&text).ok_or_else(|| "not in the format of savecore".to_owned())
        });
        Some(InfoFile { path, info: parsed })
    }

    /// Compares the seal of the open dump, whose attachment is `attachment`, with the manifest.
    pub(crate) fn require_seal(&self, attachment: Option<&[u8]>) -> Result<(), Error> {
        let found = attachment.map(|bytes| digest(&bytes, &NoProgress));
        let found = found.transpose()?.map(|(_, digest)| digest);
        if found == self.manifest.seal {
            return Ok(());
        }
        let text = |seal: &Option<String>| match seal {
            Some(digest) => format!("SHA-256 {digest}"),
            None => "none".to_owned(),
        };
        let name = format!("{}, seal", self.dump_member().name);
        let expected = format!("{}, by the manifest", text(&self.manifest.seal));
        Err(broken(
            &name,
            self.offsets[self.dump],
            text(&found),
            expected,
        ))
    }

    /// The size of all members in bytes.
    pub fn size(&self) -> u64 {
        let sizes = self.manifest.members.iter().map(|member| member.size);
        sizes.fold(0, u64::saturating_add)
    }

    /// Compares digests and build-ids of all members with the manifest. `with_dump`: also of the dump.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] for the first that differs, or if the seal of the pack is damaged, [`Error::Io`] if the pack cannot be read,
    /// [`Error::Cancelled`].
    pub fn check(&self, with_dump: bool, progress: &dyn Progress) -> Result<(), Error> {
        if let Some(damage) = &self.damage {
            return Err(damage.again().into());
        }
        for (member, offset) in self.manifest.members.iter().zip(&self.offsets) {
            if member.kind == Kind::Dump && !with_dump {
                continue;
            }
            let contents = Window::new(Arc::clone(&self.content), *offset, member.size);
            if let Some((found, expected)) = differs(&contents, member, progress)? {
                return Err(broken(&member.name, *offset, found, expected));
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Pack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pack")
            .field("manifest", &self.manifest)
            .finish_non_exhaustive()
    }
}

/// The bytes of an archive, and the damage of its seal.
type Content = (Arc<dyn ReadAt>, Option<livecore_compress::Error>);

/// The archive in `source`; `None` if it is not a pack.
fn content(
    source: Arc<dyn ReadAt>,
    options: &livecore_compress::OpenOptions,
) -> Result<Option<Content>, Error> {
    let is_pack = |content: &dyn ReadAt| {
        let mut head = [0; 64];
        let got = content.read_full_at(&mut head, 0).unwrap_or(0);
        Pack::probe(&head[..got])
    };
    if Codec::sniff(&container::head_of(&*source)?) == Codec::None {
        return Ok(is_pack(&*source).then_some((source, None)));
    }
    // A stream that cannot be opened is not a pack; the reader of dumps reports its damage.
    let Ok(stream) = Stream::from_source(source, options) else {
        return Ok(None);
    };
    let of_dump = |attachment| SealRecord::parse(attachment).is_ok();
    if stream.attachment().is_some_and(of_dump) {
        return Ok(None);
    }
    let damage = stream.seal_damage().map(livecore_compress::Error::again);
    let content = stream.content();
    Ok(is_pack(&*content).then_some((content, damage)))
}

fn broken(
    member: &str,
    offset: u64,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> Error {
    Error::broken(format!("pack, {member}"), offset, found, expected)
}

/// Reads the header of the member `name` at `at`. Returns offset and size of its contents.
fn member(content: &dyn ReadAt, at: u64, name: &str) -> Result<(u64, u64), Error> {
    let mut bytes = [0; BLOCK as usize];
    let got = content.read_full_at(&mut bytes, at)?;
    if got < bytes.len() {
        let found = format!("end of the pack after {got} bytes");
        return Err(broken(name, at, found, "a header of 512 bytes"));
    }
    if bytes == [0; BLOCK as usize] {
        return Err(broken(name, at, "the end of the archive", "this member"));
    }
    let header =
        TarBlock::parse(&bytes).map_err(|(found, expected)| broken(name, at, found, expected))?;
    if header.name != name.as_bytes() {
        let found = format!("member {}", escaped(&header.name, 64));
        return Err(broken(name, at, found, "this member, by the manifest"));
    }
    if !header.is_file {
        let found = "a link, a directory or another special file";
        return Err(broken(name, at, found, "a regular file"));
    }
    // A block was read at `at`, so that this cannot overflow.
    Ok((at + BLOCK, header.size))
}

/// The offset after a member of `size` bytes at `offset`.
fn next(offset: u64, size: u64) -> Option<u64> {
    offset.checked_add(size.checked_next_multiple_of(BLOCK)?)
}

/// Whether the archive has `size` bytes at `offset`.
fn reaches(content: &dyn ReadAt, offset: u64, size: u64) -> bool {
    let Some(last) = size.checked_sub(1) else {
        return true;
    };
    let read = offset
        .checked_add(last)
        .map(|at| content.read_at(&mut [0], at));
    matches!(read, Some(Ok(1)))
}

/// Checks that nothing follows the last member.
fn require_end(content: &dyn ReadAt, at: u64) -> Result<(), Error> {
    let mut bytes = [0; 2 * BLOCK as usize];
    let got = content.read_full_at(&mut bytes, at)?;
    match bytes[..got].iter().any(|byte| *byte != 0) {
        true => Err(broken(
            "end",
            at,
            "another member",
            "the end of the archive, by the manifest",
        )),
        false => Ok(()),
    }
}

/// Parses and checks the manifest, whose offset in the archive is `offset`.
fn parse(json: &[u8], offset: u64) -> Result<Manifest, Error> {
    /// The part that is the same in all versions.
    #[derive(serde::Deserialize)]
    struct Version {
        pack: u32,
    }
    let wrong = |found: String, expected: String| broken(MANIFEST, offset, found, expected);
    let invalid = |error: serde_json::Error| wrong(error.to_string(), "a manifest".into());
    let Version { pack } = serde_json::from_slice(json).map_err(invalid)?;
    if pack != VERSION {
        return Err(Error::Unsupported {
            what: format!("pack version {pack} (supported: {VERSION})"),
        });
    }
    let manifest: Manifest = serde_json::from_slice(json).map_err(invalid)?;
    if manifest.members.len() > MEMBERS_MAX {
        let found = format!("{} members", manifest.members.len());
        return Err(wrong(found, format!("at most {MEMBERS_MAX}")));
    }
    let mut names = HashSet::from([MANIFEST]);
    for member in &manifest.members {
        let is_file = matches!(member.kind, Kind::Kernel | Kind::Module | Kind::Debug);
        if is_file && member.size > FILE_MAX {
            let found = format!("{} of {} bytes", member.name, member.size);
            return Err(wrong(found, format!("at most {FILE_MAX} bytes")));
        }
        if !is_usable(&member.name) {
            let found = format!("the name {}", escaped(member.name.as_bytes(), 64));
            let expected = "a relative path of letters, digits and ._+- without ..";
            return Err(wrong(found, expected.into()));
        }
        if !names.insert(&member.name) {
            let found = format!("two members {}", member.name);
            return Err(wrong(found, "one of each name".into()));
        }
    }
    for (kind, least) in [(Kind::Dump, 1), (Kind::Info, 0), (Kind::Kernel, 0)] {
        let count = manifest.members.iter().filter(|m| m.kind == kind).count();
        if count < least || count > 1 {
            let found = format!("{count} members of kind {}", kind.name());
            return Err(wrong(found, "one".into()));
        }
    }
    let kernel = manifest.members.iter().find(|m| m.kind == Kind::Kernel);
    if let Some(kernel) = kernel.filter(|kernel| kernel.name != KERNEL) {
        return Err(wrong(format!("kernel {}", kernel.name), KERNEL.into()));
    }
    for debug in manifest.members.iter().filter(|m| m.kind == Kind::Debug) {
        let of = debug.name.strip_suffix(".debug");
        let of = of.and_then(|of| manifest.members.iter().find(|m| m.name == of));
        if let Some(of) = of
            && of.build_id != debug.build_id
        {
            let text = |id: &Option<String>| id.clone().unwrap_or_else(|| "none".into());
            let found = format!("build-id {} of {}", text(&debug.build_id), debug.name);
            let expected = format!("{}, that of {}", text(&of.build_id), of.name);
            return Err(wrong(found, expected));
        }
    }
    Ok(manifest)
}
