//! The dump devices of `/etc/fstab`.

use std::path::PathBuf;

/// The devices of the entries with type `swap` or `dump` in `text`, an fstab(5), as savecore(8) selects
/// them.
pub fn dump_devices(text: &str) -> Vec<PathBuf> {
    let entry = |line: &str| {
        let line = line.trim_start();
        let mut fields = line.split_ascii_whitespace();
        let (device, _, kind) = (fields.next()?, fields.next()?, fields.next()?);
        let is_one = !device.starts_with('#') && matches!(kind, "swap" | "dump");
        is_one.then(|| PathBuf::from(device))
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_and_dump_entries_are_dump_devices() {
        let text = "# Device\tMountpoint\tFStype\tOptions\tDump\tPass#\n\
            /dev/ada0p2\tnone\tswap\tsw\t0\t0\n\
            /dev/ada0p3 / ufs rw 1 1\n\
            #/dev/ada1p1 none swap sw 0 0\n\
            /dev/ada1p2 none dump sw,late 0 0\n\
            /dev/ada2\n";
        let found = dump_devices(text);
        assert_eq!(found, ["/dev/ada0p2", "/dev/ada1p2"].map(PathBuf::from));
    }
}
