//! Files that are no images and are known by their first bytes.

use livecore_defs::foreign::Foreign;

/// What a file is that begins so, if it has the mark of something that is no image: in words, with
/// what gives memory instead.
pub fn foreign(head: &[u8]) -> Option<String> {
    let dumps: [(&[u8], &str); 2] = [
        (
            b"minidump FreeBSD/",
            "a minidump, which needs no image; `livecore convert` rewrites it",
        ),
        (
            b"FreeBSD Kernel Dump",
            "a dump device, which needs no image; `livecore convert` reads it",
        ),
    ];
    match dumps.iter().find(|(mark, _)| head.starts_with(mark)) {
        Some((_, what)) => Some((*what).into()),
        None => Foreign::of(head)
            .filter(|foreign| !foreign.is_image)
            .map(Foreign::sentence),
    }
}
