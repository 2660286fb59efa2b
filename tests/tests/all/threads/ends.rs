//! Why backtraces end.

use livecore_kernel::{End, Frame, Kernel, State};
use livecore_minidump::VirtAddr;

use super::builder::{AMD64, KernelBuilder, NewThread, STACKS};

/// An amd64 builder with one thread that was switched out.
struct Scene {
    builder: KernelBuilder,
    pcb: u64,
    code: u64,
}

/// Address of kernel code that is not in the dump.
const LOST: u64 = 0xffff_ffff_8070_0000;

impl Scene {
    fn new() -> Self {
        let mut builder =
            KernelBuilder::new(AMD64, &["cpu_switch", "loop", "fork_trampoline_kthread"]);
        let head = builder.address("allproc");
        let pcb = builder.allocate(AMD64.pcb_size);
        let thread = NewThread {
            tid: 100_001,
            name: "",
            cpu: None,
            pcb,
        };
        builder.list(head, &[(1, "a", &[thread])]);
        let code = builder.function("loop") + 5;
        builder.word(pcb + 56, code);
        Self { builder, pcb, code }
    }

    /// Writes a frame at `at`, with its caller's frame and its return address.
    fn frame(&mut self, at: u64, caller: u64, to: u64) {
        self.builder.word(at, caller);
        self.builder.word(at + 8, to);
    }

    /// The backtrace from the frame at `fp`.
    fn read(&mut self, fp: u64) -> Vec<Frame> {
        self.builder.word(self.pcb + 32, fp);
        let (dump, elf) = self.builder.build();
        let kernel = Kernel::of_dump(&dump, &elf);
        let thread = kernel.threads().unwrap().remove(0);
        kernel.backtrace(&thread).unwrap()
    }

    /// Why the backtrace from `fp` ends.
    fn end(&mut self, fp: u64) -> Option<End> {
        self.read(fp).pop().unwrap().ends
    }
}

#[test]
fn backtrace_continues_through_missing_code_only_if_the_kernel_has_no_functions() {
    let mut scene = Scene::new();
    let top = scene.builder.stack(0);
    scene.frame(top - 0x80, top - 0x60, LOST);
    scene.frame(top - 0x60, top - 0x40, LOST + 0x1234);
    scene.frame(top - 0x40, 0, LOST + 0x5678);
    let pcs = |frames: Vec<Frame>| frames.iter().map(|f| f.pc.0).collect::<Vec<_>>();
    // A kernel with function symbols has no function there.
    assert_eq!(pcs(scene.read(top - 0x80)), [scene.code]);
    assert_eq!(scene.end(top - 0x80), Some(End::NotCode(VirtAddr(LOST))));
    scene.builder.strip_functions();
    let found = scene.read(top - 0x80);
    assert_eq!(found[3].ends, Some(End::NoFrame));
    let expected = [scene.code, LOST, LOST + 0x1234, LOST + 0x5678];
    assert_eq!(pcs(found), expected);
    // Data is not code.
    let data = scene.builder.address("allproc");
    scene.frame(top - 0x60, top - 0x40, data);
    assert_eq!(scene.end(top - 0x80), Some(End::NotCode(VirtAddr(data))));
}

#[test]
fn backtrace_crosses_to_another_stack_only_through_code_without_symbols() {
    let mut scene = Scene::new();
    let (own, nmi) = (scene.builder.stack(0), scene.builder.stack(2));
    scene.frame(nmi - 0x80, nmi - 0x40, scene.code);
    scene.frame(nmi - 0x40, own - 0x80, scene.code);
    scene.frame(own - 0x80, own - 0x40, scene.code);
    scene.frame(own - 0x40, 0, scene.code);
    // A function with a symbol is not entry code.
    let found = scene.read(nmi - 0x80);
    assert_eq!(found.len(), 3);
    assert_eq!(found[2].ends, Some(End::NotAbove(VirtAddr(own - 0x80))));
    scene.builder.strip_functions();
    assert_eq!(scene.read(nmi - 0x80).len(), 5);
    // Stacks that point at each other are followed once.
    scene.frame(own - 0x40, nmi - 0x80, scene.code);
    let found = scene.read(nmi - 0x80);
    assert_eq!(found.len(), 5);
    assert_eq!(found[4].ends, Some(End::Again(VirtAddr(nmi - 0x80))));
}

#[test]
fn backtraces_state_why_they_end() {
    let mut scene = Scene::new();
    let top = scene.builder.stack(0);
    let code = scene.code;
    assert_eq!(scene.end(0), Some(End::NoFrame));
    assert_eq!(scene.end(top - 0x3c), Some(End::Unaligned));
    assert_eq!(
        scene.end(0x7fff_0000),
        Some(End::UserFrame(VirtAddr(0x7fff_0000)))
    );
    let hole = AMD64.base + 0x10_0000;
    match scene.end(hole) {
        Some(End::Unreadable(why)) => assert!(why.contains("0xffffffff80300000"), "{why}"),
        other => panic!("{other:?}"),
    }
    scene.frame(top - 0x40, 0, 0);
    assert_eq!(scene.end(top - 0x40), Some(End::ReturnsToZero));
    scene.frame(top - 0x40, 0, 0x1234);
    assert_eq!(scene.end(top - 0x40), Some(End::NotCode(VirtAddr(0x1234))));
    scene.frame(top - 0x40, top - 0x40, code);
    assert_eq!(
        scene.end(top - 0x40),
        Some(End::Again(VirtAddr(top - 0x40)))
    );
}

#[test]
fn backtrace_of_more_than_256_frames_has_the_first_and_last_100() {
    for (count, given) in [(255, 256), (256, 200), (400, 200)] {
        let mut scene = Scene::new();
        let at = |i: u64| AMD64.base + STACKS + 0x100 + 16 * i;
        for i in 0..count {
            let caller = if i + 1 == count { 0 } else { at(i + 1) };
            scene.frame(at(i), caller, scene.code + i % 7);
        }
        let found = scene.read(at(0));
        assert_eq!(found.len(), given, "{count}");
        let omitted: Vec<usize> = found.iter().map(|frame| frame.omitted).collect();
        let all = given + omitted.iter().sum::<usize>();
        assert_eq!(all as u64, count + 1);
        if given < 256 {
            assert_eq!(omitted[Frame::ENDS], all - given);
            // The last frames are the outermost ones.
            assert_eq!(found[given - 2].fp, VirtAddr(at(count - 1)));
        }
    }
}

#[test]
fn kernel_threads_of_15_start_in_fork_trampoline_kthread() {
    let mut scene = Scene::new();
    let top = scene.builder.stack(0);
    let begins = scene.builder.function("fork_trampoline_kthread");
    scene.frame(top - 0x40, top - 0x20, begins + 0xe);
    let found = scene.read(top - 0x40);
    assert_eq!(found.len(), 2);
    assert_eq!(found[1].ends, None);
    // A thread that has never run is at its start.
    scene.builder.word(scene.pcb + 56, begins);
    let (dump, elf) = scene.builder.build();
    let kernel = Kernel::of_dump(&dump, &elf);
    let thread = kernel.threads().unwrap().remove(0);
    assert_eq!(kernel.state(&thread), State::New);
}
