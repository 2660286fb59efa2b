//! Functions of loaded modules, from the symbol tables that the kernel linker keeps in memory.
//!
//! Each `struct linker_file` is the first member of a `struct elf_file` (FreeBSD
//! `sys/kern/link_elf_obj.c` and `link_elf.c`), which points at the module's symbols. ddb(4) uses
//! them, so the module's file is not needed.
//!
//! ```text
//!  linker_file … address size …        same in all releases
//!  preloaded   address                 the same address again
//!  …                                   differs by release and linker
//!  ddbsymtab ddbsymcnt ddbstrtab ddbstrcnt
//! ```
//!
//! The search for the last four words starts after the second `address`. They are accepted if they
//! point at a symbol table and its strings. In a loaded object file (amd64, mips), symbol values are
//! addresses; in a shared object, they are offsets from its load address.

use crate::kernel::Kernel;
use crate::module::Module;
use livecore_minidump::VirtAddr;

/// The number of words searched for the second address and the four `ddb` words.
const WINDOW: u64 = 96;
/// The maximum number of symbols of one file.
const SYMBOLS: u64 = 1 << 18;
/// The maximum size of one file's string table.
const STRINGS: u64 = 16 << 20;
/// The maximum length of a name.
const NAME: usize = 255;
/// The symbol types that can be code: `STT_NOTYPE`, `STT_FUNC`, `STT_GNU_IFUNC`.
const CODE: [u64; 3] = [0, 2, 10];
/// `STT_FUNC`
const STT_FUNC: u64 = 2;

/// The number of functions and bytes that may still be read, for all files together.
pub(crate) struct TableBudget {
    functions: usize,
    bytes: u64,
}

impl TableBudget {
    /// 2^18 functions and 64 MiB of tables.
    pub(crate) fn new() -> Self {
        Self {
            functions: 1 << 18,
            bytes: 64 << 20,
        }
    }
}

/// A possible symbol table.
struct Table {
    symbols: VirtAddr,
    count: u64,
    strings: VirtAddr,
    strings_len: u64,
}

impl Kernel<'_> {
    /// Returns the functions of the loaded module, sorted by address. `after_size` is the address
    /// in its `struct linker_file` after `address` and `size`.
    pub(crate) fn loaded_functions(
        &self,
        module: &Module,
        after_size: VirtAddr,
        budget: &mut TableBudget,
    ) -> Vec<(VirtAddr, String)> {
        let found = self.symbol_tables(module, after_size);
        let mut functions = found
            .iter()
            .find_map(|table| self.functions_of(module, table, budget))
            .unwrap_or_default();
        functions.truncate(budget.functions);
        budget.functions -= functions.len();
        functions
    }

    /// Returns the possible symbol tables, sorted by address.
    fn symbol_tables(&self, module: &Module, after_size: VirtAddr) -> Vec<Table> {
        let word = self.elf().pointer_size() as u64;
        let words: Vec<u64> = (0..WINDOW)
            .map_while(|i| {
                let at = after_size.checked_add(i * word)?;
                self.long_at("elf_file", at).ok()
            })
            .collect();
        let own = words.iter().position(|w| *w == module.address.0);
        let rest = own.map_or(&[][..], |at| &words[at + 1..]);
        rest.windows(4)
            .filter_map(|four| match *four {
                [symbols, count, strings, strings_len] => {
                    let plausible = symbols != 0
                        && strings != 0
                        && (2..=SYMBOLS).contains(&count)
                        && (2..=STRINGS).contains(&strings_len);
                    plausible.then_some(Table {
                        symbols: VirtAddr(symbols),
                        count,
                        strings: VirtAddr(strings),
                        strings_len,
                    })
                }
                _ => None,
            })
            .collect()
    }

    /// Returns the functions in `table` in ascending order, or `None` if it is not a symbol table of
    /// this module.
    fn functions_of(
        &self,
        module: &Module,
        table: &Table,
        budget: &mut TableBudget,
    ) -> Option<Vec<(VirtAddr, String)>> {
        let is_64 = self.elf().is_64();
        let size = if is_64 { 24 } else { 16 };
        // The first symbol and the first name are empty. The last name ends with NUL.
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
        // `count` and `strings_len` are within the limits above, so this cannot overflow.
        let len = table.count * size as u64 + table.strings_len;
        budget.bytes = budget.bytes.checked_sub(len)?;
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
        // Functions whose values are addresses, and whose values are offsets from the load address.
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
            let skip = VirtAddr(value).offset_from(module.address);
            if skip.is_some_and(|skip| skip < module.size) {
                absolute.push((VirtAddr(value), function, name));
            } else if value < module.size {
                relative.push((module.address.wrapping_add(value), function, name));
            }
        }
        let mut found = match absolute.len() >= relative.len() {
            true => absolute,
            false => relative,
        };
        // If two symbols have the same address, the one of type function sorts last. A lookup
        // returns the last one.
        found.sort();
        let named: Vec<_> = found.into_iter().map(|(at, _, name)| (at, name)).collect();
        (!named.is_empty()).then_some(named)
    }
}
