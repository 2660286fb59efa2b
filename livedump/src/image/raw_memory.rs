//! The table rows of raw memory, with or without a layout.

use livecore_defs::foreign::Foreign;
use livecore_minidump::Error;

use super::candidate::Row;
use super::format::{Format, not_an_image};
use super::lime;
use super::memory_image::{Guess, Image};
use super::raw_layout::RawLayout;

/// A file that is raw according to the caller, with its layout.
pub(super) const LAID_OUT: Row = Row {
    probe: |candidate| Ok(candidate.options.layout.is_some()),
    open: |candidate| {
        let (source, options) = (candidate.source()?, candidate.options);
        let layout = options.layout.clone().unwrap_or(RawLayout::Flat);
        let memory = layout.memory(source, options)?;
        Ok(Image {
            layout: Some(layout),
            ..Image::new(Format::Raw, source, memory)
        })
    },
};

/// A file of no other format.
pub(super) const RAW: Row = Row {
    probe: |_| Ok(true),
    open: |candidate| {
        if let Some(what) = otherwise(&candidate.head()?) {
            return Err(Error::Unsupported {
                what: not_an_image(&what),
            });
        }
        let (source, options) = (candidate.source()?, candidate.options);
        let layout = RawLayout::Flat;
        let memory = layout.memory(source, options)?;
        let mut image = Image {
            layout: Some(layout),
            guess: Some(Guess::new(source, options)),
            ..Image::new(Format::Raw, source, memory)
        };
        if !options.kernel_is_asked {
            image.search_layout()?;
        }
        Ok(image)
    },
};

/// What a file is that begins with `head` and is known to be no memory, and what to do.
fn otherwise(head: &[u8]) -> Option<String> {
    const DUMPS: [(&[u8], &str); 2] = [
        (b"minidump FreeBSD/", "a minidump"),
        (b"FreeBSD Kernel Dump", "a dump device"),
    ];
    if let Some((_, what)) = DUMPS.iter().find(|(mark, _)| head.starts_with(mark)) {
        return Some(format!("{what}, which `livecore convert` reads"));
    }
    let foreign = Foreign::of(head)?;
    let is_known = !foreign.is_doubtful() || lime::is_deflated(head);
    is_known.then(|| foreign.sentence())
}
