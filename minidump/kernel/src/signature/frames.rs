//! Normalizes the functions of a backtrace.
//!
//! The lists belong to version 1 of the signature: a change of them is a new version.

/// The maximum number of frames of a signature.
pub(super) const FRAMES: usize = 6;

/// Functions that start a panic: they and all functions that they call are removed.
///
/// FreeBSD `sys/kern/kern_shutdown.c`.
const PANIC: [&str; 2] = ["panic", "vpanic"];

/// Functions at the top of a backtrace that lead to a panic, to the debugger or to the dump. A name
/// that ends with `*` is a prefix.
///
/// FreeBSD `sys/kern/{kern_shutdown,kern_dump,subr_kdb,stack_protector}.c`, `sys/ddb`,
/// `sys/cddl/compat/opensolaris`, `sys/contrib/openzfs/module/os/freebsd/spl`.
const TOP: [&str; 25] = [
    "__stack_chk_fail",
    "cmn_err",
    "cpu_minidumpsys",
    "db_*",
    "dblfault_handler",
    "doadump",
    "dump_savectx",
    "dumpsys",
    "dumpsys_generic",
    "dumpsys_mb",
    "kassert_panic",
    "kdb_enter",
    "kdb_panic",
    "kdb_reenter",
    "kdb_trap",
    "kern_reboot",
    "minidumpsys",
    "savectx",
    "spl_panic",
    "trap_fatal",
    "vcmn_err",
    "vkassert_panic",
    "vm_fault_panic",
    "vzfs_panic_recover",
    "zfs_panic_recover",
];

/// Handlers and entry code of traps and system calls, of all architectures: they are removed
/// everywhere. A name that ends with `*` is a prefix.
///
/// FreeBSD `sys/*/*/{exception,locore,apic_vector,trap_subr}*.S` and `sys/*/*/trap.c`.
const TRAPS: [&str; 48] = [
    "Mips*",
    "abort_align",
    "abort_fatal",
    "abort_handler",
    "align_abort",
    "alltraps*",
    "amd64_syscall",
    "asttrapexit",
    "calltrap",
    "cpu_exception_handler*",
    "data_abort",
    "dbtrap",
    "do_el0_sync",
    "do_el1h_sync",
    "do_serror",
    "do_trap_supervisor",
    "do_trap_user",
    "ecall_handler",
    "exception_exit",
    "external_abort",
    "fast_syscall_common",
    "fork_trampoline*",
    "fred_events_handlers",
    "generictrap",
    "handle_el*",
    "handle_empty_exception",
    "handle_serror",
    "ia32_syscall",
    "int0x80_syscall_common",
    "mchk_calltrap",
    "nmi_calltrap",
    "page_fault_handler",
    "powerpc_interrupt",
    "svc_handler",
    "swi_exit",
    "swi_handler",
    "syscall",
    "syscallenter",
    "trap",
    "trap_check",
    "trap_fatal",
    "trap_fred_k",
    "trap_fred_u",
    "trap_pfault",
    "trapexit",
    "undefinedinstruction",
    "user_fred_non_syscall",
    "user_fred_syscall",
];

/// Suffixes of variants of a function, among which the kernel selects by CPU.
///
/// FreeBSD `sys/amd64/amd64/{support.S,copyout.c}`.
const VARIANTS: [&str; 4] = ["_erms", "_std", "_nosmap", "_smap"];

/// The functions of a backtrace, innermost first, in the form of a signature.
pub(super) fn normalised<'a>(functions: impl IntoIterator<Item = Option<&'a str>>) -> Vec<String> {
    let mut names: Vec<Option<String>> = functions
        .into_iter()
        .map(|name| name.map(function).filter(|name| !name.is_empty()))
        .collect();
    let is_panic = |name: &Option<String>| PANIC.iter().any(|p| name.as_deref() == Some(p));
    if let Some(outermost) = names.iter().rposition(is_panic) {
        names.drain(..=outermost);
    }
    let is_one = |list: &[&str], name: &str| {
        list.iter().any(|entry| match entry.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == *entry,
        })
    };
    let is_trap = |name: &str| is_one(&TRAPS, name) || is_x86_entry(name);
    let mut at_top = true;
    let mut frames: Vec<String> = Vec::new();
    for name in names {
        let name = name.as_deref().unwrap_or("?");
        at_top &= is_one(&TOP, name) || is_trap(name);
        let is_outlined = name.starts_with("OUTLINED_FUNCTION_");
        if at_top || is_trap(name) || is_outlined || frames.last().is_some_and(|f| f == name) {
            continue;
        }
        if frames.len() == FRAMES {
            break;
        }
        frames.push(name.into());
    }
    if frames.iter().all(|frame| frame == "?") {
        frames.clear();
    }
    frames
}

/// Whether the name is that of entry code on amd64 and i386: `Xpage`, `Xtimerint`.
fn is_x86_entry(name: &str) -> bool {
    matches!(name.as_bytes(), [b'X', b'a'..=b'z', ..])
}

/// The name of a function without what a compiler or a CPU adds.
fn function(name: &str) -> String {
    // ELFv1 of powerpc64 has a dot before the name of the code.
    let name = name.strip_prefix('.').unwrap_or(name);
    // C has no dots in names: `.isra.0`, `.constprop.0`, `.part.0`, `.cold`, `.llvm.1234`,
    // `.__uniq.1234`. Only the name of a module has one.
    let name = match name.split_once('.') {
        Some((function, _)) if !name.ends_with(".ko") => function,
        _ => name,
    };
    let mut name = name;
    for variant in VARIANTS {
        name = name.strip_suffix(variant).unwrap_or(name);
    }
    let shown = |byte: u8| match byte {
        b'!'..=b'~' => char::from(byte),
        _ => '?',
    };
    name.bytes().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &str) -> String {
        let names = names.split_whitespace();
        normalised(names.map(|name| Some(name).filter(|name| *name != "-"))).join(" ")
    }

    #[test]
    fn panic_machinery_and_trap_handlers_are_removed() {
        for (stack, expected) in [
            (
                "doadump kern_reboot vpanic panic trap_fatal trap_pfault trap calltrap em_intr",
                "em_intr",
            ),
            (
                "kdb_enter vpanic panic data_abort do_el1h_sync handle_el1h_sync em_intr",
                "em_intr",
            ),
            // The debugger has dumped.
            (
                "doadump db_dump db_command db_trap kdb_trap trap calltrap kdb_enter vpanic panic f g",
                "f g",
            ),
            // A panic in the shutdown after a panic: the first one counts.
            ("vpanic panic f kern_reboot vpanic panic g", "g"),
            // The handler of a page fault panics.
            (
                "vpanic panic vm_fault vm_fault_trap trap_pfault trap calltrap copyin sys_read \
                 amd64_syscall fast_syscall_common",
                "vm_fault vm_fault_trap copyin sys_read",
            ),
            // The same with FRED.
            (
                "vpanic panic vm_fault vm_fault_trap trap_pfault trap trap_fred_k fred_events_handlers \
                 copyin sys_read amd64_syscall user_fred_syscall",
                "vm_fault vm_fault_trap copyin sys_read",
            ),
            (
                "doadump kern_reboot sys_reboot syscallenter svc_handler",
                "sys_reboot",
            ),
            (
                "vpanic kassert_panic __mtx_assert em_init Xtimerint",
                "__mtx_assert em_init",
            ),
        ] {
            assert_eq!(of(stack), expected, "{stack}");
        }
    }

    #[test]
    fn what_a_compiler_or_a_cpu_adds_is_removed() {
        for (stack, expected) in [
            (
                "f.isra.0 g.constprop.0.cold h.llvm.123 .i j.__uniq.12.llvm.3",
                "f g h i j",
            ),
            (
                "copyin_nosmap_erms copyin_smap_std memcpy_erms OUTLINED_FUNCTION_7 k",
                "copyin memcpy k",
            ),
            ("f f.cold f.part.0 g f", "f g f"),
            ("zfs.ko - g", "zfs.ko ? g"),
        ] {
            assert_eq!(of(stack), expected, "{stack}");
        }
    }

    #[test]
    fn page_of_signatures_has_all_names() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/signatures.md");
        let page = std::fs::read_to_string(page).unwrap();
        let names = TOP.iter().chain(&TRAPS).chain(&VARIANTS).chain(&PANIC);
        let missing: Vec<_> = names
            .filter(|name| !page.contains(&format!("`{name}`")))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn only_the_top_frames_count() {
        assert_eq!(of("a b c d e f g h"), "a b c d e f");
        assert_eq!(of("panic - - -"), "");
        assert_eq!(of("panic - - a"), "? a");
        assert_eq!(normalised([Some(".")]), [""; 0]);
    }
}
