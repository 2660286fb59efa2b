//! What LLDB's reader of FreeBSD dumps is known to do wrong, done right: one test for each fault
//! (LLDB 19 `Plugins/Process/FreeBSDKernel`, and its successor as first written).

use livecore_kernel::{Context, Kernel};

use super::scene::{Scene, Variant};
use super::world::{AMD64, ARM64, I386, Port, RISCV64};

/// A scene read back: what `with` makes of the kernel and of what was laid out.
fn read<T>(port: Port, variant: Variant, with: impl Fn(Kernel<'_>, &Scene) -> T) -> T {
    let scene = Scene::new(port, variant);
    let (dump, elf) = scene.world.made();
    with(Kernel::of_dump(&dump, &elf), &scene)
}

/// `stoppcbs` is taken for an array, which it is no more since 1400089.
#[test]
fn the_stopped_cpus_of_14_are_found_behind_a_pointer() {
    for (variant, pointer) in [(Variant::New, true), (Variant::StoppcbsArray, false)] {
        read(AMD64, variant, |kernel, scene| {
            let size = kernel.elf().symbol("stoppcbs").unwrap().size;
            assert_eq!(size == 8, pointer);
            let threads = kernel.threads().unwrap();
            assert_eq!(threads[1].context, Context::Stopped(1));
            let found = kernel.registers(&threads[1]).unwrap();
            assert_eq!(found.pc(), Some(scene.threads[1].registers["rip"]));
        });
    }
}

/// A CPU's context is used though the CPU was not stopped.
#[test]
fn a_cpu_that_ran_on_has_no_context() {
    read(AMD64, Variant::New, |kernel, _| {
        let threads = kernel.threads().unwrap();
        assert_eq!(threads[3].context, Context::OnCpu(2));
        assert!(kernel.registers(&threads[3]).unwrap().is_unknown());
    });
}

/// arm64's pcb is read as it was before 1400084.
#[test]
fn the_pcb_of_arm64_since_14_has_the_callee_saved_registers_alone() {
    read(ARM64, Variant::New, |kernel, _| {
        let thread = &kernel.threads().unwrap()[2];
        let registers = kernel.registers(thread).unwrap();
        // The scene writes 0x100 and its offset into each register that has no other meaning.
        assert_eq!(registers.get("x19"), Some(0x100));
        assert_eq!(registers.get("x28"), Some(0x148));
        assert_eq!(registers.get("x0"), None);
    });
}

/// The link register is shown as the program counter of whatever arm64 interrupted.
#[test]
fn what_arm64_interrupted_is_at_its_program_counter_and_not_at_its_link_register() {
    read(ARM64, Variant::New, |kernel, _| {
        let thread = &kernel.threads().unwrap()[1];
        let stack = kernel.stack(&kernel.registers(thread).unwrap());
        let trap = stack[1].trap.as_ref().unwrap();
        assert_ne!(trap.registers.pc(), trap.registers.get("x30"));
        assert_eq!(Some(stack[2].pc), trap.registers.pc());
        assert_eq!(stack[2].function, Some(("cpu_idle".into(), 0x1c)));
    });
}

/// `ebx` of i386 is never returned.
#[test]
fn ebx_of_i386_is_a_register() {
    read(I386, Variant::New, |kernel, scene| {
        for (thread, told) in kernel.threads().unwrap().iter().zip(&scene.threads) {
            let registers = kernel.registers(thread).unwrap();
            assert_eq!(registers.get("ebx"), told.registers.get("ebx").copied());
        }
        assert_eq!(scene.threads[0].registers.get("ebx"), Some(&0x110));
    });
}

/// riscv's s2 to s11 are looked for two places too low.
#[test]
fn callee_saved_registers_of_riscv_have_their_own_places() {
    read(RISCV64, Variant::New, |kernel, _| {
        let thread = &kernel.threads().unwrap()[2];
        let registers = kernel.registers(thread).unwrap();
        let names = [
            "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11",
        ];
        for (i, name) in names.into_iter().enumerate() {
            // s0, the frame pointer, is at 32.
            assert_eq!(
                registers.get(name),
                Some(0x100 + 40 + 8 * i as u64),
                "{name}"
            );
        }
    });
}
