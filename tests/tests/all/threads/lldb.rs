//! Regression tests for the known faults in LLDB's reader of FreeBSD dumps (LLDB 19
//! `Plugins/Process/FreeBSDKernel`, and the first version of its successor). Each test names the fault
//! and asserts the correct result.

use livecore_kernel::{Context, Kernel};
use livecore_minidump::VirtAddr;

use super::builder::{AMD64, ARM64, I386, Port, RISCV64};
use super::scene::{Scene, Variant};

/// Calls `with` with the reader of a scene and the scene.
fn read<T>(port: Port, variant: Variant, with: impl Fn(Kernel<'_>, &Scene) -> T) -> T {
    let scene = Scene::new(port, variant);
    let (dump, elf) = scene.builder.build();
    with(Kernel::of_dump(&dump, &elf), &scene)
}

/// LLDB: `stoppcbs` is read as an array, but is a pointer since 1400089.
#[test]
fn stoppcbs_is_read_as_a_pointer_or_an_array() {
    for (variant, pointer) in [(Variant::New, true), (Variant::StoppcbsArray, false)] {
        read(AMD64, variant, |kernel, scene| {
            let size = kernel.elf().symbol("stoppcbs").unwrap().size;
            assert_eq!(size == 8, pointer);
            let threads = kernel.threads().unwrap();
            assert_eq!(threads[1].context, Context::Stopped(1));
            let found = kernel.registers(&threads[1]).unwrap();
            assert_eq!(
                found.pc(),
                Some(VirtAddr(scene.threads[1].registers["rip"]))
            );
        });
    }
}

/// LLDB: the entry in `stoppcbs` is used even if the CPU was not stopped.
#[test]
fn running_cpu_has_no_registers() {
    read(AMD64, Variant::New, |kernel, _| {
        let threads = kernel.threads().unwrap();
        assert_eq!(threads[3].context, Context::OnCpu(2));
        assert!(kernel.registers(&threads[3]).unwrap().is_unknown());
    });
}

/// LLDB: the pcb of arm64 is read with the layout before 1400084.
#[test]
fn arm64_pcb_since_14_has_only_callee_saved_registers() {
    read(ARM64, Variant::New, |kernel, _| {
        let thread = &kernel.threads().unwrap()[2];
        let registers = kernel.registers(thread).unwrap();
        // The scene sets each other register to 0x100 plus its offset.
        assert_eq!(registers.get("x19"), Some(0x100));
        assert_eq!(registers.get("x28"), Some(0x148));
        assert_eq!(registers.get("x0"), None);
    });
}

/// LLDB: the frame after a trap of arm64 has the link register as its program counter.
#[test]
fn arm64_frame_after_a_trap_has_the_program_counter_of_the_trap_frame() {
    read(ARM64, Variant::New, |kernel, _| {
        let thread = &kernel.threads().unwrap()[1];
        let stack = kernel.stack(&kernel.registers(thread).unwrap());
        let trap = stack[1].trap.as_ref().unwrap();
        let link = trap.registers.get("x30").map(VirtAddr);
        assert_ne!(trap.registers.pc(), link);
        assert_eq!(Some(stack[2].pc), trap.registers.pc());
        assert_eq!(stack[2].function, Some(("cpu_idle".into(), 0x1c)));
    });
}

/// LLDB: `ebx` of i386 is never returned.
#[test]
fn ebx_of_i386_is_returned() {
    read(I386, Variant::New, |kernel, scene| {
        for (thread, expected) in kernel.threads().unwrap().iter().zip(&scene.threads) {
            let ebx = kernel.registers(thread).unwrap().get("ebx");
            assert_eq!(ebx, expected.registers.get("ebx").copied());
        }
        assert_eq!(scene.threads[0].registers.get("ebx"), Some(&0x110));
    });
}

/// LLDB: s2 to s11 of riscv are read two registers too low.
#[test]
fn callee_saved_registers_of_riscv_are_read_at_their_offsets() {
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
