//! The handles that programs have.
//!
//! A `kvm_t *` is a number and not an address: the index of a slot and the slot's generation, which
//! changes when the handle is closed. `find` therefore refuses a handle that is closed, and a value that
//! never was a handle.

use std::ffi::c_char;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::abi::{_POSIX2_LINE_MAX, kinfo_proc};
use crate::failure::Failure;
use crate::opened::Opened;
use crate::symbols::{Symbols, lock};

/// The bits of a handle that are always zero, as in an aligned address.
const ALIGNMENT: u32 = 4;
/// The bits of the slot's index: 4095 handles on 32-bit hosts, 2^20 - 1 on others.
const INDEX: u32 = if usize::BITS == 32 { 12 } else { 20 };
/// The last generation. A slot that reaches it is not used again.
const LAST: usize = usize::MAX >> (ALIGNMENT + INDEX);

/// An open dump and what programs change in it. Each part has its own lock, which the library releases
/// before it calls a function of the program.
pub(crate) struct Handle {
    pub(crate) opened: Opened,
    /// The `errstr` of `kvm_open`.
    program: Option<Vec<u8>>,
    error: Mutex<Vec<u8>>,
    /// The result of `kvm_getprocs`, until the next call.
    processes: Mutex<Vec<kinfo_proc>>,
    pub(crate) symbols: Symbols,
}

impl Handle {
    pub(crate) fn new(opened: Opened, program: Option<Vec<u8>>) -> Self {
        Self {
            opened,
            program,
            error: Mutex::default(),
            processes: Mutex::default(),
            symbols: Symbols::default(),
        }
    }

    /// Prints the error, or keeps it for `kvm_geterr`.
    pub(crate) fn report(&self, failure: &Failure) {
        match &self.program {
            Some(program) if !failure.soft => print(program, failure),
            _ => *lock(&self.error) = line(failure),
        }
    }

    /// The last error that was kept, without its zero byte.
    pub(crate) fn error(&self) -> Vec<u8> {
        lock(&self.error).clone()
    }

    /// Keeps `processes` until the next call, and returns the address of the first.
    pub(crate) fn keep(&self, processes: Vec<kinfo_proc>) -> *mut kinfo_proc {
        let mut kept = lock(&self.processes);
        *kept = processes;
        match kept.is_empty() {
            true => std::ptr::null_mut(),
            false => kept.as_mut_ptr(),
        }
    }
}

/// Prints an error of a program that asked for it with `errstr`.
pub(crate) fn print(program: &[u8], failure: &Failure) {
    let text = [program, b": ", &line(failure), b"\n"].concat();
    // There is no other place for it.
    let _ = io::stderr().write_all(&text);
}

/// The text of an error as a buffer of `_POSIX2_LINE_MAX` bytes can contain it, without its zero byte.
pub(crate) fn line(failure: &Failure) -> Vec<u8> {
    let mut text = failure.text.clone().into_bytes();
    text.retain(|byte| *byte != 0);
    text.truncate(_POSIX2_LINE_MAX - 1);
    text
}

/// The bytes of C characters.
pub(crate) fn characters(bytes: &[u8]) -> impl Iterator<Item = c_char> + '_ {
    bytes.iter().map(|byte| *byte as c_char)
}

struct Slot {
    generation: usize,
    handle: Option<Arc<Handle>>,
}

static SLOTS: RwLock<Vec<Slot>> = RwLock::new(Vec::new());

/// Adds a handle to the table and returns its number, which is not 0.
pub(crate) fn enter(handle: Handle) -> Result<usize, Failure> {
    let mut slots = SLOTS.write().unwrap_or_else(PoisonError::into_inner);
    let free = slots
        .iter()
        .position(|slot| slot.handle.is_none() && slot.generation < LAST);
    let index = match free {
        Some(index) => index,
        // Number 0 is not used.
        None if slots.len() + 1 < 1 << INDEX => {
            slots.push(Slot {
                generation: 0,
                handle: None,
            });
            slots.len() - 1
        }
        None => return Err(Failure::hard("too many open handles")),
    };
    let slot = &mut slots[index];
    slot.handle = Some(Arc::new(handle));
    Ok((slot.generation << INDEX | (index + 1)) << ALIGNMENT)
}

/// The index of the slot of `number`, and its generation.
fn split(number: usize) -> Option<(usize, usize)> {
    let aligned = number.trailing_zeros() >= ALIGNMENT;
    let number = number >> ALIGNMENT;
    let index = (number & ((1 << INDEX) - 1)).checked_sub(1)?;
    aligned.then_some((index, number >> INDEX))
}

/// The handle with this number, if it is open. It remains valid if another thread closes it.
pub(crate) fn find(number: usize) -> Option<Arc<Handle>> {
    let (index, generation) = split(number)?;
    let slots = SLOTS.read().unwrap_or_else(PoisonError::into_inner);
    let slot = slots
        .get(index)
        .filter(|slot| slot.generation == generation)?;
    slot.handle.clone()
}

/// Closes the handle with this number. Returns whether it was open.
pub(crate) fn close(number: usize) -> bool {
    let Some((index, generation)) = split(number) else {
        return false;
    };
    let taken = {
        let mut slots = SLOTS.write().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.get_mut(index);
        let Some(slot) = slot.filter(|slot| slot.generation == generation) else {
            return false;
        };
        let taken = slot.handle.take();
        if taken.is_some() {
            slot.generation += 1;
        }
        taken
    };
    // Freeing a large dump takes time, and the table is not locked.
    taken.is_some()
}

/// Runs `work`. A panic becomes an error.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // A dump is not modified after it was opened, and every other value is stored when it is complete.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let text = text.unwrap_or_else(|| "panic without a message".into());
        Err(Failure::hard(format_args!("internal error: {text}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_are_errors() {
        let failed = caught(|| -> Result<(), Failure> { panic!("page {}", 7) });
        assert_eq!(failed, Err(Failure::hard("internal error: page 7")));
        let failed = caught(|| -> Result<(), Failure> { std::panic::panic_any(7) });
        assert_eq!(
            failed,
            Err(Failure::hard("internal error: panic without a message"))
        );
    }

    #[test]
    fn errors_are_cut_to_the_length_of_a_line() {
        let long = Failure::hard("x".repeat(5000));
        assert_eq!(line(&long).len(), _POSIX2_LINE_MAX - 1);
        assert_eq!(line(&Failure::hard("a\0b")), b"ab");
    }

    #[test]
    fn numbers_that_are_no_handles_are_refused() {
        for number in [0, 1, 16, 0x1_0010, usize::MAX, usize::MAX & !15] {
            assert!(find(number).is_none(), "{number:#x}");
            assert!(!close(number), "{number:#x}");
        }
    }
}
