//! RAM and nothing else: a file whose offsets are addresses, or become addresses by a layout.

use livecore_minidump::Error;

use super::candidate::Row;
use super::foreign::foreign;
use super::format::Format;
use super::memory_image::{Guess, Image};
use super::raw_layout::RawLayout;

/// A file of which the caller knows that it is raw, and its layout.
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

/// What is no other format.
pub(super) const RAW: Row = Row {
    probe: |_| Ok(true),
    open: |candidate| {
        if let Some(what) = foreign(&candidate.head()?) {
            return Err(Error::Unsupported {
                what: format!("as a memory image: {what}"),
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
            image.look()?;
        }
        Ok(image)
    },
};
