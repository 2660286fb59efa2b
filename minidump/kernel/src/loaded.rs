//! Functions of loaded kernel files, as the kernel's own linker keeps them.
//!
//! The kernel's debugger names functions of modules without their files: each `struct linker_file` is
//! the first member of the linker's own structure (FreeBSD `sys/kern/link_elf_obj.c` and
//! `link_elf.c`, `struct elf_file`), which has the file's symbols in memory.
//!
//! ```text
//!  linker_file … address size …        what all releases have
//!  preloaded   address                 the same address once more
//!  …                                   differs by release and linker
//!  ddbsymtab ddbsymcnt ddbstrtab ddbstrcnt
//! ```
//!
//! The four are looked for behind the second `address`, and believed when they lead to a symbol table
//! and its strings. Values of an object file's symbols are addresses once it is loaded (amd64, mips);
//! those of a shared object count from where it was loaded.

use crate::kernel::Kernel;
use crate::module::Module;

/// Words in which the address and the four are looked for.
const WINDOW: u64 = 96;
/// The most symbols of one file.
const SYMBOLS: u64 = 1 << 18;
/// The most bytes of one file's names.
const STRINGS: u64 = 16 << 20;
/// The most bytes of a name.
const NAME: usize = 255;
/// `STT_NOTYPE`, `STT_FUNC`, `STT_GNU_IFUNC`: what may be code.
const CODE: [u64; 3] = [0, 2, 10];
/// `STT_FUNC`
const STT_FUNC: u64 = 2;

/// How much of all files' tables may yet be read.
pub(crate) struct Room {
    functions: usize,
    bytes: u64,
}

impl Room {
    /// 2^18 functions, and tables of 64 MiB.
    pub(crate) fn new() -> Self {
        Self {
            functions: 1 << 18,
            bytes: 64 << 20,
        }
    }
}

/// A symbol table that was found.
struct Table {
    symbols: u64,
    count: u64,
    strings: u64,
    strings_len: u64,
}

impl Kernel<'_> {
    /// The functions of a loaded file that is not the kernel itself, by address. `behind` is where
    /// its `struct linker_file` goes on behind address and size.
    pub(crate) fn loaded_functions(
        &self,
        module: &Module,
        behind: u64,
        room: &mut Room,
    ) -> Vec<(u64, String)> {
        let found = self.tables_behind(module, behind);
        let mut functions = found
            .iter()
            .find_map(|table| self.functions_of(module, table, room))
            .unwrap_or_default();
        functions.truncate(room.functions);
        room.functions -= functions.len();
        functions
    }

    /// What may be the symbol table, in the order of memory.
    fn tables_behind(&self, module: &Module, behind: u64) -> Vec<Table> {
        let word = self.elf().pointer_size() as u64;
        let words: Vec<u64> = (0..WINDOW)
            .map_while(|i| {
                let at = behind.checked_add(i * word)?;
                self.pointer_at("elf_file", at).ok()
            })
            .collect();
        let own = words.iter().position(|w| *w == module.address);
        let rest = own.map_or(&[][..], |at| &words[at + 1..]);
        rest.windows(4)
            .filter_map(|four| match *four {
                [symbols, count, strings, strings_len] => {
                    let right = symbols != 0
                        && strings != 0
                        && (2..=SYMBOLS).contains(&count)
                        && (2..=STRINGS).contains(&strings_len);
                    right.then_some(Table {
                        symbols,
                        count,
                        strings,
                        strings_len,
                    })
                }
                _ => None,
            })
            .collect()
    }

    /// The functions in `table`, ascending; none if it is no symbol table of this file.
    fn functions_of(
        &self,
        module: &Module,
        table: &Table,
        room: &mut Room,
    ) -> Option<Vec<(u64, String)>> {
        let is_64 = self.elf().is_64();
        let size = if is_64 { 24 } else { 16 };
        // The first symbol and the first name are empty, and the last name ends.
        let mut first = [0; 24];
        self.bytes_at("symbol", table.symbols, &mut first[..size])
            .ok()?;
        let last = table.strings.checked_add(table.strings_len - 1)?;
        let ends = [table.strings, last]
            .into_iter()
            .all(|at| self.uint_at("names", at, 1).is_ok_and(|byte| byte == 0));
        if !ends || first.iter().any(|byte| *byte != 0) {
            return None;
        }
        // Both are within the limits above.
        let len = table.count * size as u64 + table.strings_len;
        room.bytes = room.bytes.checked_sub(len)?;
        let mut symbols = vec![0; table.count as usize * size];
        self.bytes_at("symbols", table.symbols, &mut symbols).ok()?;
        let mut strings = vec![0; table.strings_len as usize];
        self.bytes_at("names", table.strings, &mut strings).ok()?;
        let name = |at: u64| {
            let rest = strings.get(usize::try_from(at).ok()?..)?;
            let rest = &rest[..rest.len().min(NAME)];
            let name = rest.split(|byte| *byte == 0).next()?;
            (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
        };
        // Those with addresses, and those that count from the file's.
        let (mut absolute, mut relative) = (Vec::new(), Vec::new());
        for symbol in symbols.chunks_exact(size) {
            let order = self.elf().order();
            let uint = |at: usize, len: usize| order.uint(&symbol[at..at + len]).unwrap_or(0);
            let (value, info, section) = match is_64 {
                true => (uint(8, 8), uint(4, 1), uint(6, 2)),
                false => (uint(4, 4), uint(12, 1), uint(14, 2)),
            };
            let kind = info & 0xf;
            if section == 0 || !CODE.contains(&kind) {
                continue;
            }
            let name_at = uint(0, 4);
            if name_at >= table.strings_len {
                return None;
            }
            let Some(name) = name(name_at) else {
                continue;
            };
            let function = kind == STT_FUNC;
            let skip = value.checked_sub(module.address);
            if skip.is_some_and(|skip| skip < module.size) {
                absolute.push((value, function, name));
            } else if value < module.size {
                relative.push((module.address.wrapping_add(value), function, name));
            }
        }
        let mut found = match absolute.len() >= relative.len() {
            true => absolute,
            false => relative,
        };
        // Of two at one address the function comes last, and is the one that is found.
        found.sort();
        let named: Vec<_> = found.into_iter().map(|(at, _, name)| (at, name)).collect();
        (!named.is_empty()).then_some(named)
    }
}
