//! The minidump formats as tables: one row per architecture.
//!
//! FreeBSD `sys/<arch>/include/minidump.h` (magics, fields), `vmparam.h` and `pmap.h` (addresses),
//! `sys/kerneldump.h` (architecture versions). Written from the format descriptions,
//! independently of `livecore-defs`, so that a mistake there shows.

use super::content::put_number;
use super::error::{BuildError, Result};

/// A number or string in a header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    /// Upstream name.
    pub(crate) name: &'static str,
    /// Offset in the header.
    pub(crate) offset: usize,
    /// Size in bytes; more than 8 is a string.
    pub(crate) size: usize,
    /// First version with this field.
    pub(crate) since: u32,
}

impl Field {
    /// Writes `value` into the field.
    pub(crate) fn put(&self, out: &mut [u8], value: u64, big: bool, line: usize) -> Result<()> {
        if self.size > 8 {
            return Err(BuildError::UnknownName {
                line,
                kind: "numeric field",
                name: self.name.to_owned(),
            });
        }
        let mut bytes = Vec::new();
        put_number(&mut bytes, value, self.size, big, line)?;
        out[self.offset..self.offset + self.size].copy_from_slice(&bytes);
        Ok(())
    }

    /// Writes a string into the field, padded with NULs.
    pub(crate) fn put_text(&self, out: &mut [u8], bytes: &[u8], line: usize) -> Result<()> {
        if bytes.len() > self.size {
            return Err(BuildError::Value {
                line,
                what: "string length",
                found: bytes.len() as u64,
                expected: format!("at most {}", self.size),
            });
        }
        let field = &mut out[self.offset..self.offset + self.size];
        field.fill(0);
        field[..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

const fn field(name: &'static str, offset: usize, size: usize, since: u32) -> Field {
    Field {
        name,
        offset,
        size,
        since,
    }
}

/// How the pmap section describes kernel memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tables {
    /// Page-directory entries, with leaf tables in the dump (version 1: page-table entries).
    Amd64,
    /// Page descriptors of the last level.
    Arm64,
    /// Page entries of the last level, frame number at bit 10.
    Riscv,
    /// Page-table entries of 4 bytes, or 8 with PAE.
    I386 { pae: bool },
    /// Second-level descriptors of 4 bytes.
    Arm,
    /// The hashed page table.
    Hashed,
    /// Page-table entries of 4 or 8 bytes, frame number at bit 6.
    Mips { wide: bool },
}

impl Tables {
    /// Bytes of one entry of the section.
    pub(crate) fn entry_size(self) -> usize {
        match self {
            Tables::I386 { pae: false } | Tables::Arm | Tables::Mips { wide: false } => 4,
            Tables::Hashed => 16,
            _ => 8,
        }
    }
}

/// One architecture's format.
#[derive(Debug)]
pub(crate) struct Arch {
    /// Name of the architecture in recipes.
    pub(crate) name: &'static str,
    /// `magic` of the minidump header.
    pub(crate) magic: &'static str,
    /// Bytes reserved for the magic.
    pub(crate) magic_size: usize,
    /// Newest version.
    pub(crate) newest: u32,
    /// First version with a dump_avail section.
    pub(crate) avail_since: u32,
    /// MACHINE_ARCH in the kerneldumpheader.
    pub(crate) machine: &'static str,
    /// architectureversion in the kerneldumpheader.
    pub(crate) machine_version: u32,
    /// Big endian.
    pub(crate) big: bool,
    /// Size of the kernel's `long`, which is that of a pointer and of a bitmap word.
    pub(crate) long: usize,
    /// Form of the pmap section.
    pub(crate) tables: Tables,
    /// Default first address of the pmap section.
    pub(crate) kernbase: u64,
    /// Default direct map: start and end.
    pub(crate) dmap: (u64, u64),
    /// Header fields after the magic.
    pub(crate) fields: &'static [Field],
}

const AMD64: &[Field] = &[
    field("version", 24, 4, 1),
    field("msgbufsize", 28, 4, 1),
    field("bitmapsize", 32, 4, 1),
    field("pmapsize", 36, 4, 1),
    field("kernbase", 40, 8, 1),
    field("dmapbase", 48, 8, 1),
    field("dmapend", 56, 8, 1),
    field("dumpavailsize", 64, 4, 3),
];

const ARM64: &[Field] = &[
    field("version", 24, 4, 1),
    field("msgbufsize", 28, 4, 1),
    field("bitmapsize", 32, 4, 1),
    field("pmapsize", 36, 4, 1),
    field("kernbase", 40, 8, 1),
    field("dmapphys", 48, 8, 1),
    field("dmapbase", 56, 8, 1),
    field("dmapend", 64, 8, 1),
    field("dumpavailsize", 72, 4, 2),
    field("flags", 76, 4, 3),
];

const RISCV: &[Field] = &[
    field("version", 24, 4, 1),
    field("msgbufsize", 28, 4, 1),
    field("bitmapsize", 32, 4, 1),
    field("pmapsize", 36, 4, 1),
    field("kernbase", 40, 8, 1),
    field("dmapphys", 48, 8, 1),
    field("dmapbase", 56, 8, 1),
    field("dmapend", 64, 8, 1),
    field("dumpavailsize", 72, 4, 2),
];

const I386: &[Field] = &[
    field("version", 24, 4, 1),
    field("msgbufsize", 28, 4, 1),
    field("bitmapsize", 32, 4, 1),
    field("ptesize", 36, 4, 1),
    field("kernbase", 40, 4, 1),
    field("paemode", 44, 4, 1),
    field("dumpavailsize", 48, 4, 2),
];

const ARM: &[Field] = &[
    field("version", 24, 4, 1),
    field("msgbufsize", 28, 4, 1),
    field("bitmapsize", 32, 4, 1),
    field("ptesize", 36, 4, 1),
    field("kernbase", 40, 4, 1),
    field("arch", 44, 4, 1),
    field("mmuformat", 48, 4, 1),
    field("dumpavailsize", 52, 4, 2),
];

const POWERPC64: &[Field] = &[
    field("mmu_name", 32, 32, 1),
    field("version", 64, 4, 1),
    field("msgbufsize", 68, 4, 1),
    field("bitmapsize", 72, 4, 1),
    field("pmapsize", 76, 4, 1),
    field("kernbase", 80, 8, 1),
    field("kernend", 88, 8, 1),
    field("dmapbase", 96, 8, 1),
    field("dmapend", 104, 8, 1),
    field("hw_direct_map", 112, 4, 1),
    field("startkernel", 120, 8, 1),
    field("endkernel", 128, 8, 1),
    field("dumpavailsize", 136, 4, 2),
];

const MIPS: &[Field] = &[
    field("version", 24, 4, 1),
    field("msgbufsize", 28, 4, 1),
    field("bitmapsize", 32, 4, 1),
    field("ptesize", 36, 4, 1),
    field("kernbase", 40, 8, 1),
    field("dmapbase", 48, 8, 1),
    field("dmapend", 56, 8, 1),
    field("dumpavailsize", 64, 4, 2),
];

const NO_DMAP: (u64, u64) = (0, 0);

/// Defaults for the rows.
const BASE: Arch = Arch {
    name: "",
    magic: "",
    magic_size: 24,
    newest: 2,
    avail_since: 2,
    machine: "",
    machine_version: 1,
    big: false,
    long: 8,
    tables: Tables::Arm,
    kernbase: 0,
    dmap: NO_DMAP,
    fields: &[],
};

const POWERPC: Arch = Arch {
    name: "powerpc64",
    magic: "minidump FreeBSD/powerpc64",
    magic_size: 32,
    machine: "powerpc64",
    big: true,
    tables: Tables::Hashed,
    kernbase: 0xc008_0000_0000_0000,
    dmap: (0xc000_0000_0000_0000, 0xc008_0000_0000_0000),
    fields: POWERPC64,
    ..BASE
};

const MIPS32: Arch = Arch {
    name: "mips",
    magic: "minidump FreeBSD/mips",
    machine: "mips",
    big: true,
    long: 4,
    tables: Tables::Mips { wide: false },
    kernbase: 0xc000_0000,
    fields: MIPS,
    ..BASE
};

const MIPS64: Arch = Arch {
    name: "mips64",
    machine: "mips64",
    long: 8,
    tables: Tables::Mips { wide: true },
    kernbase: 0xc000_0000_0000_0000,
    ..MIPS32
};

const IA32: Arch = Arch {
    name: "i386",
    magic: "minidump FreeBSD/i386",
    machine: "i386",
    machine_version: 2,
    long: 4,
    tables: Tables::I386 { pae: false },
    kernbase: 0x80_0000,
    fields: I386,
    ..BASE
};

/// Every architecture that a recipe can name.
pub(crate) const ARCHES: &[Arch] = &[
    Arch {
        name: "amd64",
        magic: "minidump FreeBSD/amd64",
        newest: 3,
        avail_since: 3,
        machine: "amd64",
        machine_version: 2,
        tables: Tables::Amd64,
        kernbase: 0xffff_fe00_0000_0000,
        dmap: (0xffff_f800_0000_0000, 0xffff_fc00_0000_0000),
        fields: AMD64,
        ..BASE
    },
    Arch {
        name: "arm64",
        magic: "minidump FreeBSD/arm64",
        newest: 3,
        machine: "aarch64",
        tables: Tables::Arm64,
        kernbase: 0xffff_0000_0000_0000,
        dmap: (0xffff_a000_0000_0000, 0xffff_ff00_0000_0000),
        fields: ARM64,
        ..BASE
    },
    Arch {
        name: "riscv64",
        magic: "minidump FreeBSD/riscv",
        machine: "riscv64",
        tables: Tables::Riscv,
        kernbase: 0xffff_ffc0_0000_0000,
        dmap: (0xffff_ffd0_0000_0000, 0xffff_fff0_0000_0000),
        fields: RISCV,
        ..BASE
    },
    IA32,
    Arch {
        name: "i386pae",
        tables: Tables::I386 { pae: true },
        kernbase: 0x40_0000,
        ..IA32
    },
    Arch {
        name: "arm",
        magic: "minidump FreeBSD/arm",
        machine: "armv7",
        long: 4,
        tables: Tables::Arm,
        kernbase: 0xc000_0000,
        fields: ARM,
        ..BASE
    },
    POWERPC,
    Arch {
        name: "powerpc64le",
        machine: "powerpc64le",
        big: false,
        ..POWERPC
    },
    MIPS32,
    Arch {
        name: "mipsel",
        machine: "mipsel",
        big: false,
        ..MIPS32
    },
    MIPS64,
    Arch {
        name: "mips64el",
        machine: "mips64el",
        big: false,
        ..MIPS64
    },
];

impl Arch {
    /// The row named `name`.
    pub(crate) fn named(name: &str) -> Option<&'static Arch> {
        ARCHES.iter().find(|arch| arch.name == name)
    }

    /// The header field named `name`, if `version` has it.
    pub(crate) fn field(&self, name: &str, version: u32) -> Option<&'static Field> {
        self.fields
            .iter()
            .find(|f| f.name == name && f.since <= version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes of `struct minidumphdr` from a C compiler, without tail padding.
    #[test]
    fn header_fields_end_where_the_struct_ends() {
        let ends = [
            ("amd64", 2, 64),
            ("amd64", 3, 68),
            ("arm64", 1, 72),
            ("arm64", 2, 76),
            ("arm64", 3, 80),
            ("riscv64", 1, 72),
            ("riscv64", 2, 76),
            ("i386", 1, 48),
            ("i386", 2, 52),
            ("arm", 1, 52),
            ("arm", 2, 56),
            ("powerpc64", 1, 136),
            ("powerpc64le", 2, 140),
            ("mips", 1, 64),
            ("mips64el", 2, 68),
        ];
        for (name, version, end) in ends {
            let arch = Arch::named(name).unwrap();
            let fields = arch.fields.iter().filter(|f| f.since <= version);
            assert_eq!(
                fields.map(|f| f.offset + f.size).max(),
                Some(end),
                "{name} {version}"
            );
        }
    }

    #[test]
    fn header_fields_do_not_overlap() {
        for arch in ARCHES {
            let mut end = arch.magic_size;
            for field in arch.fields {
                assert!(field.offset >= end, "{} {}", arch.name, field.name);
                end = field.offset + field.size;
            }
        }
    }
}
