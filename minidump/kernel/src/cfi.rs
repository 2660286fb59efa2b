//! Call frame information of a kernel file: `.debug_frame` and `.eh_frame`.
//!
//! DWARF 5, 6.4. The tables are searched by address; the instructions of an entry run when an address
//! in it is looked up.

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, DebugFrame, EhFrame, Encoding, EndianSlice, EvaluationResult,
    Expression, Location, RegisterRule, RunTimeEndian, UnwindContext, UnwindOffset, UnwindSection,
    Value, Vendor,
};

use livecore_minidump::{ElfMachine, Error, KernelElf};

use crate::dwarf_file::{Slice, Work, endian, limit};
use crate::section;

/// The maximum number of operations of an expression.
const OPERATIONS: u32 = 1000;
/// The maximum number of registers with a rule.
const RULES: usize = 256;
/// How many times the size of the sections building the index may read, since entries can share a CIE.
const PASSES: u64 = 8;
/// The bytes of instructions that lookups may run in total.
const LOOKUPS: u64 = 1 << 30;

/// The registers and memory of a frame.
pub(crate) trait Machine {
    /// Returns the value of the register with this DWARF number, if it is known.
    fn register(&self, number: u16) -> Option<u64>;

    /// Reads an unsigned integer of `len` bytes (1, 2, 4 or 8) at `at`.
    fn memory(&self, at: u64, len: usize) -> Option<u64>;
}

/// The return address of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Return {
    /// It is this address.
    To(u64),
    /// It is undefined: the frame is the outermost one.
    Outermost,
    /// It cannot be found.
    Unknown,
}

/// The caller of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The canonical frame address: the stack pointer of the caller, before the call.
    pub(crate) cfa: u64,
    /// The caller's registers that differ from the frame's, by DWARF number.
    pub(crate) registers: Vec<(u16, Option<u64>)>,
    /// The return address.
    pub(crate) back: Return,
    /// Whether the frame is that of a trap: the caller was interrupted and made no call.
    pub(crate) is_trap: bool,
}

/// The code of one entry.
struct Range {
    start: u64,
    end: u64,
    offset: usize,
    /// Whether the entry is in `.eh_frame`.
    eh: bool,
}

/// The call frame information of a kernel file.
pub(crate) struct Cfi {
    debug_frame: Vec<u8>,
    eh_frame: Vec<u8>,
    bases: BaseAddresses,
    endian: RunTimeEndian,
    word: u8,
    vendor: Vendor,
    /// Sorted by start.
    ranges: Vec<Range>,
    work: Work,
}

impl Cfi {
    /// Reads the tables of `elf`. Returns `None` if it has none.
    pub(crate) fn read(elf: &KernelElf) -> Result<Option<Self>, Error> {
        let limit = limit(elf);
        let debug_frame = section::read(elf, ".debug_frame", limit)?.unwrap_or_default();
        let left = limit - debug_frame.len() as u64;
        let eh_frame = section::read(elf, ".eh_frame", left)?.unwrap_or_default();
        let left = left - eh_frame.len() as u64;
        if limit == left {
            return Ok(None);
        }
        let mut bases = BaseAddresses::default();
        for section in elf.sections() {
            match section.name.as_str() {
                ".eh_frame" => bases = bases.set_eh_frame(section.address),
                ".text" => bases = bases.set_text(section.address),
                ".got" => bases = bases.set_got(section.address),
                _ => {}
            }
        }
        let mut cfi = Self {
            debug_frame,
            eh_frame,
            bases,
            endian: endian(elf),
            word: elf.pointer_size() as u8,
            vendor: match elf.machine() {
                ElfMachine::EM_AARCH64 => Vendor::AArch64,
                _ => Vendor::Default,
            },
            ranges: Vec::new(),
            work: Work::new(
                (limit - left)
                    .saturating_mul(PASSES)
                    .saturating_add(LOOKUPS),
            ),
        };
        let most = usize::try_from(left / size_of::<Range>() as u64).unwrap_or(usize::MAX);
        let work = Work::new((limit - left).saturating_mul(PASSES));
        let mut ranges = Vec::new();
        index(
            &cfi.debug_frame(),
            &cfi.bases,
            false,
            most,
            &work,
            &mut ranges,
        );
        index(&cfi.eh_frame(), &cfi.bases, true, most, &work, &mut ranges);
        ranges.sort_by_key(|range| range.start);
        cfi.ranges = ranges;
        Ok(Some(cfi))
    }

    fn debug_frame(&self) -> DebugFrame<Slice<'_>> {
        let mut section = DebugFrame::from(EndianSlice::new(&self.debug_frame, self.endian));
        section.set_address_size(self.word);
        section.set_vendor(self.vendor);
        section
    }

    fn eh_frame(&self) -> EhFrame<Slice<'_>> {
        let mut section = EhFrame::from(EndianSlice::new(&self.eh_frame, self.endian));
        section.set_address_size(self.word);
        section.set_vendor(self.vendor);
        section
    }

    /// Returns the caller of the frame whose instruction at `pc` is executed. Returns `None` if the
    /// tables do not have it or its frame cannot be found.
    pub(crate) fn caller(&self, pc: u64, machine: &dyn Machine) -> Option<Caller> {
        let after = self.ranges.partition_point(|range| range.start <= pc);
        let range = self.ranges.get(after.checked_sub(1)?)?;
        if pc >= range.end {
            return None;
        }
        if range.eh {
            return self.unwind(&self.eh_frame(), range.offset.into(), pc, machine);
        }
        self.unwind(&self.debug_frame(), range.offset.into(), pc, machine)
    }

    fn unwind<'a, S: UnwindSection<Slice<'a>>>(
        &self,
        section: &S,
        offset: S::Offset,
        pc: u64,
        machine: &dyn Machine,
    ) -> Option<Caller> {
        let entry = section.fde_from_offset(&self.bases, offset, S::cie_from_offset);
        let entry = entry.ok()?;
        let cie = entry.cie();
        if !self.work.take(entry.entry_len()) || !self.work.take(cie.entry_len()) {
            return None;
        }
        let mut context = UnwindContext::new();
        let row = entry.unwind_info_for_address(section, &self.bases, &mut context, pc);
        let row = row.ok()?;
        let encoding = Encoding {
            address_size: self.word,
            ..cie.encoding()
        };
        let value = |expression: &gimli::UnwindExpression<usize>, initial| {
            evaluate(expression.get(section).ok()?, encoding, initial, machine)
        };
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                let base = machine.register(register.0)?;
                self.address(base.wrapping_add(*offset as u64))
            }
            CfaRule::Expression(expression) => value(expression, None)?,
        };
        let word = usize::from(self.word);
        let mut registers = Vec::new();
        for (register, rule) in row.registers().take(RULES) {
            let saved = |at: i64| machine.memory(self.address(cfa.wrapping_add(at as u64)), word);
            let found = match rule {
                RegisterRule::Undefined => None,
                RegisterRule::SameValue => continue,
                RegisterRule::Offset(at) => saved(*at),
                RegisterRule::ValOffset(at) => Some(self.address(cfa.wrapping_add(*at as u64))),
                RegisterRule::Register(other) => machine.register(other.0),
                RegisterRule::Expression(at) => {
                    value(at, Some(cfa)).and_then(|at| machine.memory(at, word))
                }
                RegisterRule::ValExpression(is) => value(is, Some(cfa)),
                RegisterRule::Constant(is) => Some(*is),
                _ => None,
            };
            registers.push((register.0, found));
        }
        let column = cie.return_address_register();
        let of_column = registers.iter().find(|(number, _)| *number == column.0);
        let back = match (row.register(column), of_column) {
            (Some(RegisterRule::Undefined), _) => Return::Outermost,
            (_, Some((_, Some(to)))) => Return::To(*to),
            (_, Some((_, None))) => Return::Unknown,
            // The return address is still in its register.
            (_, None) => machine
                .register(column.0)
                .map_or(Return::Unknown, Return::To),
        };
        Some(Caller {
            cfa,
            registers,
            back,
            is_trap: cie.is_signal_trampoline(),
        })
    }

    /// An address of the kernel's word size.
    fn address(&self, value: u64) -> u64 {
        match self.word {
            4 => value & 0xffff_ffff,
            _ => value,
        }
    }
}

/// Adds the entries of a section to `ranges`, up to `most` in total. Stops at malformed data.
fn index<'a, S: UnwindSection<Slice<'a>>>(
    section: &S,
    bases: &BaseAddresses,
    eh: bool,
    most: usize,
    work: &Work,
    ranges: &mut Vec<Range>,
) {
    let mut entries = section.entries(bases);
    // The previous CIE, which most entries share with their predecessor.
    let mut last = None;
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else {
            continue;
        };
        let at = UnwindOffset::into(partial.cie_offset());
        if last.as_ref().is_none_or(|(of, _)| *of != at) {
            let Ok(cie) = section.cie_from_offset(bases, partial.cie_offset()) else {
                continue;
            };
            if !work.take(cie.entry_len()) {
                break;
            }
            last = Some((at, cie));
        }
        let parsed = partial.parse(|_, _, _| match &last {
            Some((_, cie)) => Ok(cie.clone()),
            None => Err(gimli::Error::NoEntryAtGivenOffset(at as u64)),
        });
        if ranges.len() >= most {
            break;
        }
        if let Ok(entry) = parsed
            && entry.end_address() > entry.initial_address()
        {
            ranges.push(Range {
                start: entry.initial_address(),
                end: entry.end_address(),
                offset: entry.offset(),
                eh,
            });
        }
    }
}

/// Returns the value of an expression. Returns `None` if it needs more than registers and memory.
fn evaluate(
    expression: Expression<Slice<'_>>,
    encoding: Encoding,
    initial: Option<u64>,
    machine: &dyn Machine,
) -> Option<u64> {
    let mut evaluation = expression.evaluation(encoding);
    evaluation.set_max_iterations(OPERATIONS);
    if let Some(value) = initial {
        evaluation.set_initial_value(value);
    }
    let mut state = evaluation.evaluate().ok()?;
    for _ in 0..OPERATIONS {
        state = match state {
            EvaluationResult::Complete => {
                return match evaluation.as_result() {
                    [piece] => match piece.location {
                        Location::Address { address } => Some(address),
                        Location::Value {
                            value: Value::Generic(value),
                        } => Some(value),
                        Location::Register { register } => machine.register(register.0),
                        _ => None,
                    },
                    _ => None,
                };
            }
            EvaluationResult::RequiresMemory {
                address,
                size,
                space: None,
                ..
            } => {
                let read = machine.memory(address, usize::from(size))?;
                evaluation.resume_with_memory(Value::Generic(read)).ok()?
            }
            EvaluationResult::RequiresRegister { register, .. } => {
                let value = machine.register(register.0)?;
                evaluation
                    .resume_with_register(Value::Generic(value))
                    .ok()?
            }
            _ => return None,
        };
    }
    None
}
