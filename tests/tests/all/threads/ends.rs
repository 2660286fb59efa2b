//! Where backtraces end, and why.

use livecore_kernel::frame::{ENDS, End, Frame};
use livecore_kernel::{Kernel, State};

use super::world::{AMD64, STACKS, Wanted, World};

/// An amd64 world with one thread that was switched out.
struct Scene {
    world: World,
    pcb: u64,
    code: u64,
}

/// Code of the kernel that the dump has no page of.
const LOST: u64 = 0xffff_ffff_8070_0000;

impl Scene {
    fn new() -> Self {
        let mut world = World::new(AMD64, &["cpu_switch", "loop", "fork_trampoline_kthread"]);
        let head = world.address("allproc");
        let pcb = world.allocate(AMD64.pcb_size);
        let thread = Wanted {
            tid: 100_001,
            name: "",
            cpu: None,
            pcb,
        };
        world.list(head, &[(1, "a", &[thread])]);
        let code = world.function("loop") + 5;
        world.word(pcb + 56, code);
        Self { world, pcb, code }
    }

    /// A frame at `at`: its caller's, and where it returns to.
    fn frame(&mut self, at: u64, caller: u64, to: u64) {
        self.world.word(at, caller);
        self.world.word(at + 8, to);
    }

    /// The backtrace from the frame at `fp` on.
    fn read(&mut self, fp: u64) -> Vec<Frame> {
        self.world.word(self.pcb + 32, fp);
        let (dump, elf) = self.world.made();
        let kernel = Kernel::of_dump(&dump, &elf);
        let thread = kernel.threads().unwrap().remove(0);
        kernel.backtrace(&thread).unwrap()
    }

    /// Why it ends.
    fn end(&mut self, fp: u64) -> Option<End> {
        self.read(fp).pop().unwrap().ends
    }
}

#[test]
fn a_backtrace_goes_on_over_code_that_is_not_in_the_dump_if_the_kernel_names_no_function() {
    let mut scene = Scene::new();
    let top = scene.world.stack(0);
    scene.frame(top - 0x80, top - 0x60, LOST);
    scene.frame(top - 0x60, top - 0x40, LOST + 0x1234);
    scene.frame(top - 0x40, 0, LOST + 0x5678);
    let pcs = |frames: Vec<Frame>| frames.iter().map(|f| f.pc).collect::<Vec<_>>();
    // A kernel that names its functions has none there.
    assert_eq!(pcs(scene.read(top - 0x80)), [scene.code]);
    assert_eq!(scene.end(top - 0x80), Some(End::NotCode(LOST)));
    scene.world.strip_functions();
    let found = scene.read(top - 0x80);
    assert_eq!(found[3].ends, Some(End::NoFrame));
    let expected = [scene.code, LOST, LOST + 0x1234, LOST + 0x5678];
    assert_eq!(pcs(found), expected);
    // Data is not code.
    let data = scene.world.address("allproc");
    scene.frame(top - 0x60, top - 0x40, data);
    assert_eq!(scene.end(top - 0x80), Some(End::NotCode(data)));
}

#[test]
fn a_backtrace_leads_from_another_stack_to_the_threads_own_where_entry_code_has_no_name() {
    let mut scene = Scene::new();
    let (own, nmi) = (scene.world.stack(0), scene.world.stack(2));
    scene.frame(nmi - 0x80, nmi - 0x40, scene.code);
    scene.frame(nmi - 0x40, own - 0x80, scene.code);
    scene.frame(own - 0x80, own - 0x40, scene.code);
    scene.frame(own - 0x40, 0, scene.code);
    // A function with a name is not entry code.
    let found = scene.read(nmi - 0x80);
    assert_eq!(found.len(), 3);
    assert_eq!(found[2].ends, Some(End::NotAbove(own - 0x80)));
    scene.world.strip_functions();
    assert_eq!(scene.read(nmi - 0x80).len(), 5);
    // Stacks that lead to each other are followed once.
    scene.frame(own - 0x40, nmi - 0x80, scene.code);
    let found = scene.read(nmi - 0x80);
    assert_eq!(found.len(), 5);
    assert_eq!(found[4].ends, Some(End::Again(nmi - 0x80)));
}

#[test]
fn every_backtrace_that_ends_says_why() {
    let mut scene = Scene::new();
    let top = scene.world.stack(0);
    let code = scene.code;
    assert_eq!(scene.end(0), Some(End::NoFrame));
    assert_eq!(scene.end(top - 0x3c), Some(End::Unaligned));
    assert_eq!(scene.end(0x7fff_0000), Some(End::UserFrame(0x7fff_0000)));
    let hole = AMD64.base + 0x10_0000;
    match scene.end(hole) {
        Some(End::Unreadable(why)) => assert!(why.contains("0xffffffff80300000"), "{why}"),
        other => panic!("{other:?}"),
    }
    scene.frame(top - 0x40, 0, 0);
    assert_eq!(scene.end(top - 0x40), Some(End::ReturnsToZero));
    scene.frame(top - 0x40, 0, 0x1234);
    assert_eq!(scene.end(top - 0x40), Some(End::NotCode(0x1234)));
    scene.frame(top - 0x40, top - 0x40, code);
    assert_eq!(scene.end(top - 0x40), Some(End::Again(top - 0x40)));
}

#[test]
fn of_more_than_256_frames_the_first_and_the_last_hundred_are_given() {
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
            assert_eq!(omitted[ENDS], all - given);
            // The frames of the end are those of the end.
            assert_eq!(found[given - 2].fp, at(count - 1));
        }
    }
}

#[test]
fn kernel_threads_begin_in_a_trampoline_of_their_own_since_15() {
    let mut scene = Scene::new();
    let top = scene.world.stack(0);
    let begins = scene.world.function("fork_trampoline_kthread");
    scene.frame(top - 0x40, top - 0x20, begins + 0xe);
    let found = scene.read(top - 0x40);
    assert_eq!(found.len(), 2);
    assert_eq!(found[1].ends, None);
    // One that has never run is there still.
    scene.world.word(scene.pcb + 56, begins);
    let (dump, elf) = scene.world.made();
    let kernel = Kernel::of_dump(&dump, &elf);
    let thread = kernel.threads().unwrap().remove(0);
    assert_eq!(kernel.state(&thread), State::New);
}
