//! The types and symbols of a kernel in the Intermediate Symbol Format (ISF) of Volatility 3: JSON,
//! version 6.2.0 of its schema.
//!
//! Types come from DWARF, or from CTF if the kernel has no DWARF; symbols from the symbol table.
//!
//! | key | value |
//! |---|---|
//! | `metadata` | the version of the format, and livecore as the producer |
//! | `base_types` | integers and floating-point types, `void`, `pointer` |
//! | `user_types` | structures and unions: size, and offset and type of each member |
//! | `enums` | size, base type and constants |
//! | `symbols` | address; type of a variable, if DWARF has it; the text of `version` |
//!
//! Typedefs and qualifiers are resolved. A structure without a name is `unnamed_` and a hash of its
//! members. Of several definitions with one name, the first is used. A structure that is only declared has
//! size 0 and no members. The keys of all objects are sorted,
//! so the same kernel gives the same bytes.

mod ctf;
mod dwarf;
mod text;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use livecore_minidump::{ByteOrder, Error, KernelElf, VirtAddr};

use crate::debug_file::debug_file;
use crate::pair::kernel_file;
use crate::pair_error::PairError;
use crate::section;
use text::{base64, quoted};

/// The version of the format.
pub const FORMAT: &str = "6.2.0";
/// The maximum number of pointers, arrays and typedefs followed for the type of a member.
const HOPS: u32 = 64;
/// The maximum depth of structures without names in each other.
const DEPTH: u32 = 16;
/// The maximum number of members of a structure, and of constants of an enumeration.
const MEMBERS: usize = 1 << 16;
/// The maximum length of a name. Longer names are left out.
const NAME: usize = 512;

/// The number of a type in its source.
type Id = u64;

/// A type, without its members.
enum Node {
    Base {
        name: String,
        size: u64,
        kind: &'static str,
        signed: bool,
    },
    Pointer(Option<Id>),
    /// The element and the dimensions, the outermost first.
    Array(Option<Id>, Vec<u64>),
    /// `size` is `None` if this is only a declaration.
    Composite {
        kind: &'static str,
        name: Option<String>,
        size: Option<u64>,
    },
    Enum {
        name: Option<String>,
        size: u64,
    },
    Function,
    /// A typedef or a qualifier.
    Alias(Option<Id>),
    Void,
}

/// A member of a structure.
struct Member {
    name: Option<String>,
    /// The offset in bits.
    at: u64,
    /// The size of a bit-field.
    bits: Option<u64>,
    ty: Option<Id>,
}

/// The types of a file or of a unit of DWARF.
trait Types {
    fn node(&self, id: Id) -> Option<Node>;
    fn members(&self, id: Id) -> Vec<Member>;
    fn constants(&self, id: Id) -> Vec<(String, i64)>;
    /// The size of a type in bytes.
    fn size(&self, id: Id) -> Option<u64>;
}

/// The types and symbols of a kernel.
pub struct Isf {
    order: ByteOrder,
    pointer: usize,
    base_types: BTreeMap<String, String>,
    user_types: BTreeMap<String, String>,
    enums: BTreeMap<String, String>,
    /// The structures and unions that are declared, and whether they are unions.
    declared: BTreeMap<String, &'static str>,
    symbols: BTreeMap<String, (u64, Option<String>)>,
    version: Option<String>,
    /// The names of the structures and enumerations without names, by their numbers in a unit.
    unnamed: HashMap<Id, String>,
    /// The structures without names whose members are being read.
    open: HashSet<Id>,
    /// The bytes that the texts may still take.
    left: u64,
    /// Whether the types come from DWARF.
    is_dwarf: bool,
}

impl Isf {
    /// Reads the symbols and types of the kernel `elf`, the file `path`. If it has no DWARF, reads that of its
    /// debug file, if there is one: see [`debug_file`].
    ///
    /// # Errors
    ///
    /// Returns [`PairError::Open`] if the debug file cannot be opened, else the errors of [`Self::of`].
    pub fn of_file(elf: &KernelElf, path: &Path) -> Result<Self, PairError> {
        let debug = match section::exists(elf, ".debug_info") {
            true => None,
            false => debug_file(path),
        };
        let open = |path: PathBuf| kernel_file(path, elf.memory());
        let debug = debug.map(open).transpose()?;
        Ok(Self::of(elf, debug.as_ref())?)
    }

    /// Reads the symbols of the kernel `elf` and its types: its DWARF, that of `debug`, or its CTF. The
    /// texts take at most as much memory as `elf` may: [`KernelElf::parse_within`].
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unsupported`] if the kernel has neither DWARF nor CTF, [`Error::Broken`] if
    /// they contradict their format, and [`Error::Options`] if the memory does not suffice.
    pub fn of(elf: &KernelElf, debug: Option<&KernelElf>) -> Result<Self, Error> {
        let mut isf = Self {
            order: elf.order(),
            pointer: elf.pointer_size(),
            base_types: BTreeMap::new(),
            user_types: BTreeMap::new(),
            enums: BTreeMap::new(),
            declared: BTreeMap::new(),
            symbols: BTreeMap::new(),
            version: None,
            unnamed: HashMap::new(),
            open: HashSet::new(),
            left: elf.memory(),
            is_dwarf: true,
        };
        let void = isf.base(0, "void", false);
        let pointer = isf.base(isf.pointer as u64, "int", false);
        isf.base_types.insert("void".into(), void);
        isf.base_types.insert("pointer".into(), pointer);
        for (name, symbol) in elf.symbols() {
            isf.take(name.len())?;
            // Of several with one name, the one that the kernel file is searched for.
            let of_name = || elf.symbol(name).unwrap_or(symbol).value;
            let entry = isf.symbols.entry(name.into());
            entry.or_insert_with(|| (of_name(), None));
        }
        isf.version = version(elf);
        isf.is_dwarf = false;
        for elf in [Some(elf), debug].into_iter().flatten() {
            isf.is_dwarf = isf.is_dwarf || dwarf::read(elf, &mut isf)?;
        }
        if !isf.is_dwarf && !ctf::read(elf, &mut isf)? {
            return Err(Error::Unsupported {
                what: "a kernel without type information (DWARF or CTF)".into(),
            });
        }
        isf.complete();
        Ok(isf)
    }

    /// Adds structures that are only declared, without members. Volatility does not accept a type
    /// that refers to one that is not in the document.
    fn complete(&mut self) {
        for (name, kind) in std::mem::take(&mut self.declared) {
            let text = format!("{{\"fields\": {{}}, \"kind\": \"{kind}\", \"size\": 0}}");
            self.user_types.entry(name).or_insert(text);
        }
    }

    /// Whether the types come from DWARF, and not from CTF.
    pub fn is_dwarf(&self) -> bool {
        self.is_dwarf
    }

    /// Whether the document has the text of `version`, by which Volatility finds it.
    pub fn has_version(&self) -> bool {
        self.version.is_some()
    }

    /// The number of structures and unions.
    pub fn structures(&self) -> usize {
        self.user_types.len()
    }

    /// The number of symbols.
    pub fn symbols(&self) -> usize {
        self.symbols.len()
    }

    /// Writes the document.
    ///
    /// # Errors
    ///
    /// Returns the errors of `out`.
    pub fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let object = |out: &mut dyn io::Write, name: &str, all: &BTreeMap<String, String>| {
            write!(out, "\"{name}\": {{")?;
            for (i, (key, value)) in all.iter().enumerate() {
                let comma = if i == 0 { "" } else { "," };
                write!(out, "{comma}\n{}: {value}", quoted(key))?;
            }
            writeln!(out, "\n}},")
        };
        writeln!(out, "{{")?;
        object(out, "base_types", &self.base_types)?;
        object(out, "enums", &self.enums)?;
        let version = env!("CARGO_PKG_VERSION");
        writeln!(
            out,
            "\"metadata\": {{\"format\": \"{FORMAT}\", \
             \"producer\": {{\"name\": \"livecore\", \"version\": \"{version}\"}}}},"
        )?;
        write!(out, "\"symbols\": {{")?;
        for (i, (name, (address, ty))) in self.symbols.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(out, "{comma}\n{}: {{\"address\": {address}", quoted(name))?;
            if let Some(text) = self.version.as_ref().filter(|_| name == "version") {
                write!(out, ", \"constant_data\": \"{text}\"")?;
            }
            if let Some(ty) = ty {
                write!(out, ", \"type\": {ty}")?;
            }
            write!(out, "}}")?;
        }
        writeln!(out, "\n}},")?;
        write!(out, "\"user_types\": {{")?;
        for (i, (key, value)) in self.user_types.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(out, "{comma}\n{}: {value}", quoted(key))?;
        }
        writeln!(out, "\n}}\n}}")
    }

    /// Counts `len` bytes of text.
    fn take(&mut self, len: usize) -> Result<(), Error> {
        // A key, a value and their place in a map.
        let needed = len as u64 + 64;
        self.left = self.left.checked_sub(needed).ok_or_else(|| {
            Error::Options("the types and symbols of the kernel exceed the memory limit".into())
        })?;
        Ok(())
    }

    fn base(&self, size: u64, kind: &str, signed: bool) -> String {
        let endian = self.order.name();
        format!(
            "{{\"endian\": \"{endian}\", \"kind\": \"{kind}\", \"signed\": {signed}, \"size\": {size}}}"
        )
    }

    /// The descriptor of the type `id`. Adds base types, and structures and enumerations without names.
    fn descriptor(
        &mut self,
        types: &dyn Types,
        id: Option<Id>,
        depth: u32,
    ) -> Result<String, Error> {
        const VOID: &str = "{\"kind\": \"base\", \"name\": \"void\"}";
        let (mut before, mut after) = (String::new(), String::new());
        let mut id = id;
        for _ in 0..HOPS {
            let Some(node) = id.and_then(|id| types.node(id)) else {
                break;
            };
            let own = id.unwrap_or(0);
            let end = match node {
                Node::Alias(of) => {
                    id = of;
                    continue;
                }
                Node::Pointer(of) => {
                    before += "{\"kind\": \"pointer\", \"subtype\": ";
                    after.insert(0, '}');
                    id = of;
                    continue;
                }
                Node::Array(of, dimensions) => {
                    for count in dimensions {
                        let _ = write!(
                            before,
                            "{{\"count\": {count}, \"kind\": \"array\", \"subtype\": "
                        );
                        after.insert(0, '}');
                    }
                    id = of;
                    continue;
                }
                Node::Base {
                    name,
                    size,
                    kind,
                    signed,
                } => {
                    if !self.base_types.contains_key(&name) {
                        let text = self.base(size, kind, signed);
                        self.take(name.len() + text.len())?;
                        self.base_types.insert(name.clone(), text);
                    }
                    format!("{{\"kind\": \"base\", \"name\": {}}}", quoted(&name))
                }
                Node::Composite { kind, name, size } => {
                    let name = match name {
                        Some(name) => self.composite(types, own, kind, Some(name), None, depth)?,
                        None if depth < DEPTH => {
                            self.composite(types, own, kind, None, size, depth + 1)?
                        }
                        None => break,
                    };
                    format!("{{\"kind\": \"{kind}\", \"name\": {}}}", quoted(&name))
                }
                Node::Enum { name, size } => {
                    let name = self.enumeration(types, own, name, size)?;
                    format!("{{\"kind\": \"enum\", \"name\": {}}}", quoted(&name))
                }
                Node::Function => "{\"kind\": \"function\"}".into(),
                Node::Void => break,
            };
            return Ok(before + &end + &after);
        }
        Ok(before + VOID + &after)
    }

    /// Adds a structure or union, and returns its name.
    fn composite(
        &mut self,
        types: &dyn Types,
        id: Id,
        kind: &'static str,
        name: Option<String>,
        size: Option<u64>,
        depth: u32,
    ) -> Result<String, Error> {
        if let Some(name) = &name {
            if self.user_types.contains_key(name) {
                return Ok(name.clone());
            }
            if size.is_none() {
                if !self.declared.contains_key(name) {
                    self.take(name.len() + 64)?;
                    self.declared.insert(name.clone(), kind);
                }
                return Ok(name.clone());
            }
        }
        if let Some(known) = self.unnamed.get(&id).filter(|_| name.is_none()) {
            return Ok(known.clone());
        }
        if name.is_none() && !self.open.insert(id) {
            // It contains itself, which C does not have.
            return Ok("void".into());
        }
        let mut fields = BTreeMap::new();
        for (number, member) in types.members(id).into_iter().take(MEMBERS).enumerate() {
            let mut descriptor = self.descriptor(types, member.ty, depth)?;
            let mut at = member.at / 8;
            if let Some(bits) = member.bits {
                // A bit-field is in a unit of its type's size.
                let unit = member
                    .ty
                    .and_then(|ty| types.size(ty))
                    .filter(|size| *size > 0);
                let unit = unit.unwrap_or(4).min(16);
                at = at / unit * unit;
                let bit = member.at - at * 8;
                descriptor = format!(
                    "{{\"bit_length\": {bits}, \"bit_position\": {bit}, \"kind\": \"bitfield\", \
                     \"type\": {descriptor}}}"
                );
            }
            let (key, anonymous) = match member.name {
                Some(name) => (name, ""),
                None => (format!("unnamed_field_{number}"), "\"anonymous\": true, "),
            };
            let text = format!("{{{anonymous}\"offset\": {at}, \"type\": {descriptor}}}");
            self.take(key.len() + text.len())?;
            fields.entry(key).or_insert(text);
        }
        let mut text = String::from("{\"fields\": {");
        for (i, (key, field)) in fields.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}{}: {field}", quoted(key));
        }
        let _ = write!(
            text,
            "}}, \"kind\": \"{kind}\", \"size\": {}}}",
            size.unwrap_or(0)
        );
        self.open.remove(&id);
        let name = self.name_of(id, name, &text)?;
        self.user_types.entry(name.clone()).or_insert(text);
        Ok(name)
    }

    /// Adds an enumeration, and returns its name.
    fn enumeration(
        &mut self,
        types: &dyn Types,
        id: Id,
        name: Option<String>,
        size: u64,
    ) -> Result<String, Error> {
        if let Some(name) = name.as_ref().filter(|name| self.enums.contains_key(*name)) {
            return Ok(name.clone());
        }
        if let Some(known) = self.unnamed.get(&id).filter(|_| name.is_none()) {
            return Ok(known.clone());
        }
        let mut constants = BTreeMap::new();
        let mut signed = false;
        for (name, value) in types.constants(id).into_iter().take(MEMBERS) {
            signed |= value < 0;
            self.take(name.len() + 24)?;
            constants.entry(name).or_insert(value);
        }
        let base = format!(
            "{}int{}_t",
            if signed { "" } else { "u" },
            size.saturating_mul(8)
        );
        let of_base = self.base(size, "int", signed);
        self.base_types.entry(base.clone()).or_insert(of_base);
        let mut text = format!("{{\"base\": \"{base}\", \"constants\": {{");
        for (i, (name, value)) in constants.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}{}: {value}", quoted(name));
        }
        let _ = write!(text, "}}, \"size\": {size}}}");
        let name = self.name_of(id, name, &text)?;
        self.enums.entry(name.clone()).or_insert(text);
        Ok(name)
    }

    /// The name of the type `id`, whose text is `text`.
    fn name_of(&mut self, id: Id, name: Option<String>, text: &str) -> Result<String, Error> {
        let name = name.unwrap_or_else(|| {
            let name = format!("unnamed_{:016x}", hash(text));
            self.unnamed.insert(id, name.clone());
            name
        });
        self.take(name.len() + text.len())?;
        Ok(name)
    }

    /// Adds the type `id` if it is a structure, union or enumeration with a name.
    fn define(&mut self, types: &dyn Types, id: Id) -> Result<(), Error> {
        match types.node(id) {
            Some(Node::Composite {
                kind,
                name: Some(name),
                size,
            }) => self
                .composite(types, id, kind, Some(name), size, 0)
                .map(drop),
            Some(Node::Enum {
                name: Some(name),
                size,
            }) => self.enumeration(types, id, Some(name), size).map(drop),
            _ => Ok(()),
        }
    }

    /// Sets the type of the variable `name`, if it is a symbol at `address`.
    fn variable(
        &mut self,
        types: &dyn Types,
        name: &str,
        address: u64,
        ty: Option<Id>,
    ) -> Result<(), Error> {
        let is_open = |(at, ty): &(u64, Option<String>)| *at == address && ty.is_none();
        if !self.symbols.get(name).is_some_and(is_open) {
            return Ok(());
        }
        let descriptor = self.descriptor(types, ty, 0)?;
        self.take(descriptor.len())?;
        if let Some(symbol) = self.symbols.get_mut(name) {
            symbol.1 = Some(descriptor);
        }
        Ok(())
    }
}

/// The text of `version` in base64, with its NUL. Volatility compares it with memory.
fn version(elf: &KernelElf) -> Option<String> {
    let symbol = elf.symbol("version")?;
    let len = usize::try_from(symbol.size).ok()?.min(4096);
    let contents = elf.bytes_at(VirtAddr(symbol.value), len)?;
    contents.in_file.then(|| base64(&contents.bytes))
}

/// FNV-1a, 64 bits.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    })
}
