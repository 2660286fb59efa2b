//! Fields that contradict the format, in a dump whose pages can be located all the same.

use livecore_defs::kerneldump::{self, DEVICE_METADATA};

use super::origin::HeaderOrigin;
use super::warning::{KERNELDUMPHEADER, Warning};
use crate::container::Container;
use crate::{Architecture, DumpAvail, KernelDumpHeader, MinidumpHeader};

/// Block sizes of raw files: the page sizes.
const FILE_BLOCKS: [u32; 2] = [4096, 16384];
/// The smallest block size of a device.
const DEVICE_BLOCK_MIN: u32 = 512;

/// Warns of each field of the minidump header that no kernel writes with this value.
pub(super) fn of_minidump(mini: &MinidumpHeader, ranges: &DumpAvail) -> Vec<Warning> {
    let fields = mini.arch.header;
    let page = mini.page_size();
    let mut found = Vec::new();
    let mut field =
        |right: bool, name: &'static str, offset: usize, value: u64, expected: String| {
            if !right {
                found.push(Warning::Field {
                    structure: "minidump header",
                    name,
                    offset: offset as u64,
                    found: format!("{value:#x}"),
                    expected,
                });
            }
        };
    let (at, size) = (fields.bitmapsize.offset, u64::from(mini.bitmapsize));
    match mini.needed_bitmap_size(ranges) {
        Some(needed) => {
            let expected = format!("{needed:#x} for the {} pages of dump_avail", ranges.bits());
            field(size == u64::from(needed), "bitmapsize", at, size, expected);
        }
        None => {
            let expected = format!("a multiple of the page size {page:#x}");
            field(size.is_multiple_of(page), "bitmapsize", at, size, expected);
        }
    }
    let (at, size) = (fields.pmapsize.offset, u64::from(mini.pmapsize));
    let right = mini.arch.unpadded || size.is_multiple_of(page);
    let expected = format!("a multiple of the page size {page:#x}");
    field(right, "pmapsize", at, size, expected);
    if mini.has_dump_avail() {
        let (at, size) = (fields.dumpavailsize.offset, u64::from(mini.dumpavailsize));
        let expected = format!("one page, {page:#x}");
        field(size == page, "dumpavailsize", at, size, expected);
    }
    let (at, size) = (fields.msgbufsize.offset, u64::from(mini.msgbufsize));
    field(size > 0, "msgbufsize", at, size, "a size above 0".into());
    if let (Some(base), Some(_)) = (fields.dmapbase, fields.dmapend) {
        let (start, end) = (mini.dmapbase, mini.dmapend);
        // mips kernels leave both fields zero.
        let right = start < end || (start, end) == (0, 0);
        let expected = format!("an address below dmapend {end:#x}");
        field(right, "dmapbase", base.offset, start, expected);
    }
    let mut steps = mini.arch.kernbase_align.iter();
    let step = steps.find(|(when, _)| mini.is(*when));
    let step = step.map_or(page, |step| step.1);
    let (at, base) = (fields.kernbase.offset, mini.kernbase);
    let expected = format!("a multiple of {step:#x}");
    field(base.is_multiple_of(step), "kernbase", at, base, expected);
    found
}

/// Warns of each field of the kerneldumpheader in the file that contradicts the format or the
/// container.
pub(super) fn of_kerneldump(
    header: &KernelDumpHeader,
    origin: &HeaderOrigin,
    container: Container,
) -> Vec<Warning> {
    let start = match origin {
        HeaderOrigin::File { offset } => *offset,
        // The offset in the header.
        HeaderOrigin::Seal | HeaderOrigin::SealFromInfo | HeaderOrigin::SealFromPayload => 0,
        _ => return Vec::new(),
    };
    let mut found = Vec::new();
    let mut field =
        |right: bool, name: &'static str, offset: usize, value: String, expected: String| {
            if !right {
                found.push(Warning::Field {
                    structure: KERNELDUMPHEADER,
                    name,
                    offset: start + offset as u64,
                    found: value,
                    expected,
                });
            }
        };
    let name = String::from_utf8_lossy(&header.architecture);
    if let Some(version) = Architecture::architectureversion(&name) {
        let (at, value) = (kerneldump::ARCHITECTUREVERSION, header.architectureversion);
        let expected = format!("{version}, the version of {name}");
        let (right, value) = (value == version, value.to_string());
        field(right, "architectureversion", at.offset, value, expected);
    }
    let block = header.blocksize;
    let (right, expected) = match container {
        Container::Raw => (
            FILE_BLOCKS.contains(&block),
            "the page size, 4096 or 16384".to_owned(),
        ),
        _ => (
            block.is_power_of_two() && block >= DEVICE_BLOCK_MIN,
            format!("a power of two, at least {DEVICE_BLOCK_MIN}"),
        ),
    };
    let mut versions = kerneldump::VERSIONS.iter();
    let fields = versions.find(|fields| fields.version == header.version);
    let fields = fields.unwrap_or(&kerneldump::V4);
    let at = fields.blocksize;
    field(right, "blocksize", at.offset, block.to_string(), expected);
    // The trailing header is one block before the end, the leading one before the data and its key.
    let leading = [header.dumpextent, header.dumpkeysize.into(), block.into()];
    let leading = leading
        .iter()
        .try_fold(start, |at, len| at.checked_sub(*len));
    if let (Container::Device, Some(leading)) = (container, leading) {
        let at = fields.dumpextent.unwrap_or(kerneldump::DUMPLENGTH);
        let value = format!("{:#x}, leading header at {leading:#x}", header.dumpextent);
        let expected = format!("leading header at {DEVICE_METADATA:#x} or later");
        let right = leading >= DEVICE_METADATA;
        field(right, "dumpextent", at.offset, value, expected);
    }
    let (at, right) = (kerneldump::V4_UNUSED, !header.has_stray_bytes);
    let value = "a nonzero byte".to_owned();
    field(right, "unused bytes", at.offset, value, "zeros".to_owned());
    found
}
