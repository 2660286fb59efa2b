//! Files that are no images, by their first bytes.

use super::lime;

/// What a file is that begins so, if it has the mark of something that is no image: in words, with
/// what gives memory instead.
pub fn foreign(head: &[u8]) -> Option<&'static str> {
    let kinds: &[(&[u8], &str)] = &[
        (
            b"minidump FreeBSD/",
            "a minidump, which needs no image; `livecore convert` rewrites it",
        ),
        (
            b"FreeBSD Kernel Dump",
            "a dump device, which needs no image; `livecore convert` reads it",
        ),
        (b"PAGEDU64", WINDOWS),
        (b"PAGEDUMP", WINDOWS),
        (
            b"QFI\xfb",
            "a qcow2 disk image; if a memory image is in it, `qemu-img convert -O raw IN OUT` \
             extracts that; `virsh dump --memory-only` and dump-guest-memory write a guest's memory",
        ),
        (b"KDMV", VMDK),
        (b"COWD", VMDK),
        (b"# Disk DescriptorFile", VMDK),
        (
            b"vhdxfile",
            "a VHDX disk image; if a memory image is in it, `qemu-img convert -O raw IN OUT` \
             extracts that",
        ),
        (
            b"conectix",
            "a VHD disk image; if a memory image is in it, `qemu-img convert -O raw IN OUT` \
             extracts that",
        ),
        (
            b"EVF\x09\x0d\x0a\xff\0",
            "an EWF (E01) evidence file; `ewfexport` of libewf writes the raw image that is in it",
        ),
        (
            b"EVF2\x0d\x0a\x81",
            "an EWF (Ex01) evidence file; `ewfexport` of libewf writes the raw image that is in it",
        ),
        (
            b"AFF10\x0d\x0a\0",
            "an AFF evidence file; `affconvert -r` of AFFLIB writes the raw image that is in it",
        ),
        (
            b"PK\x03\x04",
            "a zip archive; unpack it first (an AFF4 volume: `aff4imager --export` writes the image \
             that is in it)",
        ),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it first"),
        (b"LZIP", "a file that lzip has compressed; unpack it first"),
        (
            b"QEVM",
            "QEMU's migration stream, which `virsh dump` writes, too; `virsh dump --memory-only` \
             and dump-guest-memory give memory",
        ),
        (
            b"LibvirtQemudSave",
            "a guest that `virsh save` or managedsave has saved, a migration stream; start it with \
             `virsh restore`, and `virsh dump --memory-only` gives memory",
        ),
        (
            b"LibvirtQemudPart",
            "a guest that `virsh save` has not finished saving",
        ),
        (
            b"Xen saved domain, xl format",
            "a domain that `xl save` has saved, a migration stream; start it with `xl restore`, \
             and `xl dump-core` gives memory",
        ),
        (
            b"\x7fVirtualBox SavedState",
            "VirtualBox's saved state; start it, and `VBoxManage debugvm NAME dumpvmcore` gives \
             memory",
        ),
        (
            b"\xfd7zXZ\0",
            "a file that xz has compressed; unpack it first",
        ),
        (b"BZh", "a file that bzip2 has compressed; unpack it first"),
        (
            b"\x89LZO\0\r\n\x1a\n",
            "a file that lzop has compressed; unpack it first",
        ),
        (
            b"\x04\x22\x4d\x18",
            "a file that lz4 has compressed; unpack it first",
        ),
        (
            b"\x02\x21\x4c\x18",
            "a file that lz4 has compressed; unpack it first",
        ),
    ];
    let known = kinds.iter().find(|(mark, _)| head.starts_with(mark));
    known.map(|(_, what)| *what).or_else(|| {
        lime::is_deflated(head).then_some(
            "LiME's format in one zlib stream (compress=1); `zlib-flate -uncompress` or `pigz -dz` \
             unpacks it",
        )
    })
}

const WINDOWS: &str = "a Windows crash dump; only FreeBSD machines are read";
const VMDK: &str = "a VMDK disk image; if a memory image is in it, `qemu-img convert -O raw IN OUT` \
                    extracts that; a VMware guest's memory is in its .vmem, .vmss or .vmsn";
