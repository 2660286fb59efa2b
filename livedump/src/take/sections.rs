//! The sections of a dump and their sizes, after its pages are known.

use livecore_kernel::locate::Machine;
use livecore_minidump::{DumpAvail, MinidumpHeader, Plan, PmapPages};

use super::error::TakeError;
use super::marks::Marks;
use super::state::KernelState;

/// The format of the minidump.
pub(super) struct Form {
    version: u32,
    /// The ranges of its bitmap, if they differ from those of the kernel's own bitmap.
    ranges: Option<DumpAvail>,
}

impl Form {
    /// The format of version `asked`, or of the kernel's own version.
    pub(super) fn choose(
        machine: &Machine,
        state: &KernelState,
        asked: Option<u32>,
    ) -> Result<Self, TakeError> {
        let (port, paging) = (state.port, machine.located.paging);
        let known = port.versions(paging);
        let dumpavail_since = port.arch().header.dumpavail_since;
        let own = if state.follows_avail {
            port.newest(paging, state.facts.osreldate)
        } else {
            dumpavail_since - 1
        };
        let version = asked.unwrap_or(own);
        if !known.contains(&version) {
            return Err(TakeError::Unsupported {
                what: format!(
                    "{} minidump of version {version} (expected {} to {} for this kernel)",
                    port.arch(),
                    known.start(),
                    known.end()
                ),
            });
        }
        let page_size = machine.page_size();
        let ranges = match (version >= dumpavail_since, state.follows_avail) {
            (true, false) => Some(state.avail.clone()),
            (false, true) => Some(by_number(&state.avail, page_size)),
            _ => None,
        };
        Ok(Self { version, ranges })
    }

    /// `marks` with the bits of this format.
    pub(super) fn over(&self, marks: Marks) -> Result<Marks, TakeError> {
        match &self.ranges {
            Some(ranges) => marks.over(ranges.clone()),
            None => Ok(marks),
        }
    }
}

/// A bit for each page up to the end of `dump_avail`, in complete pages of bits: 12.1's rule.
fn by_number(avail: &DumpAvail, page_size: u64) -> DumpAvail {
    let bytes = avail.end().0.div_ceil(page_size).div_ceil(8);
    DumpAvail::from_zero(bytes.next_multiple_of(page_size) * 8, page_size)
}

/// Computes sizes and offsets.
pub(super) fn lay_out(
    machine: &Machine,
    state: &KernelState,
    form: &Form,
    marks: Marks,
    (pmap, pmap_pages): (PmapPages, u64),
) -> Result<Plan, TakeError> {
    let pmapsize = pmap_pages.saturating_mul(machine.page_size());
    let header = MinidumpHeader {
        msgbufsize: state.msgbuf.size,
        pmapsize: u32::try_from(pmapsize).map_err(|_| TakeError::Contradiction {
            what: "kernel_vm_end",
            found: format!("a page-table section of {pmapsize:#x} bytes"),
            expected: "a section below 4 GiB".into(),
        })?,
        ..state.port.header(machine, form.version)
    };
    let ranges = marks.ranges().clone();
    let plan = Plan::new(
        header,
        state.msgbuf.bytes.clone(),
        ranges,
        marks.into_bitmap()?,
        pmap,
    )?;
    Ok(plan)
}
