//! Backtraces by call frame information, with inlined functions and tail calls, of a program that a C
//! compiler builds without frame pointers. The program saves its registers and its stack.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use livecore_kernel::{FoundBy, Kernel, Registers};
use livecore_minidump::{ElfMachine, KernelElf, KernelMemory, PhysAddr, ReadError, VirtAddr};
use livecore_tests::elf_edit::Elf;
use livecore_tests::random::Random;

const SOURCE: &str = r#"
extern void capture(void);
int volatile sink;
#define ALONE __attribute__((noinline, noclone))
#define INLINE static inline __attribute__((always_inline))

INLINE void inner(void) { capture(); sink++; }
INLINE void outer(void) { inner(); sink++; }

/* Two inlined functions and a large frame. */
ALONE void leaf(int n) { volatile char b[200]; b[n] = 1; outer(); sink += b[n]; }
/* A chain of tail calls with one way. */
ALONE void second(int n) { sink++; leaf(n + sink); }
ALONE void first(int n) { sink += 2; second(n + sink); }
ALONE int calls(int n) { first(n); return sink + 1; }

/* A cycle of tail calls with several ways. */
ALONE void odd(int n);
ALONE void even(int n) { sink++; if (sink & 1) odd(n + sink); else leaf(n + sink); }
ALONE void odd(int n) { sink++; if (sink & 2) even(n + sink); else leaf(n + sink); }
ALONE int cycles(int n) { even(n); return sink + 1; }

/* A tail call of an unknown function. */
ALONE void pointer(int n, void (*f)(int)) { sink++; f(n + sink); }
ALONE int points(int n) { pointer(n, leaf); return sink + 1; }

ALONE void everything(void) {
	sink += calls(1);
	sink = 0;
	sink += cycles(1);
	sink = 0;
	sink += points(1);
}
/* Writes rbx, rbp, rsp, r12 to r15, rip and the stack. */
__asm__(
"	.text\n"
"	.globl capture\n	.type capture, @function\n"
"capture:\n"
"	mov (%rsp), %rax\n	push %rax\n	push %r15\n	push %r14\n	push %r13\n	push %r12\n"
"	lea 48(%rsp), %rax\n	push %rax\n	push %rbp\n	push %rbx\n"
"	mov $1, %eax\n	mov $1, %edi\n	mov %rsp, %rsi\n	mov $1024, %edx\n	syscall\n"
"	pop %rbx\n	add $56, %rsp\n	ret\n"
"	.size capture, .-capture\n"
"	.globl _start\n	.type _start, @function\n"
"_start:\n	sub $4096, %rsp\n	call everything\n	mov $60, %eax\n	xor %edi, %edi\n	syscall\n"
"	.size _start, .-_start\n");
"#;

/// The registers and the stack at one call of `capture`.
struct Stop {
    registers: Registers,
    memory: Stack,
}

/// Part of a stack.
#[derive(Clone)]
struct Stack {
    start: u64,
    bytes: Vec<u8>,
}

impl KernelMemory for Stack {
    fn page_size(&self) -> u64 {
        4096
    }

    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let from = at.0.checked_sub(self.start).map(|skip| skip as usize);
        let bytes = from.and_then(|from| self.bytes.get(from..from.checked_add(buf.len())?));
        buf.copy_from_slice(bytes.ok_or(ReadError::Hole { at })?);
        Ok(())
    }

    fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError> {
        Ok(PhysAddr(at.0))
    }
}

/// Compiles the program, runs it, and returns its file and what it saved. `None` without the
/// compiler.
fn run(dir: &Path, compiler: &str, dwarf: &str) -> Option<(Vec<u8>, Vec<Stop>)> {
    std::fs::write(dir.join("unwind.c"), SOURCE).unwrap();
    let compiled = Command::new(compiler)
        .current_dir(dir)
        .args(["-O2", "-g", dwarf, "-fomit-frame-pointer", "-ffreestanding"])
        .args([
            "-fno-pic",
            "-fno-pie",
            "-no-pie",
            "-static",
            "-nostdlib",
            "-w",
        ])
        .args(["-fno-asynchronous-unwind-tables", "-fno-stack-protector"])
        .args(["-fcf-protection=none", "-o", "program", "unwind.c"])
        .status();
    if compiler != "cc" && compiled.is_err() {
        return None;
    }
    assert!(compiled.unwrap().success(), "{compiler} {dwarf}");
    let output = Command::new(dir.join("program")).output().unwrap();
    assert!(output.status.success());
    let names = ["rbx", "rbp", "rsp", "r12", "r13", "r14", "r15", "rip"];
    let set = Registers::set_of(ElfMachine::EM_X86_64, 8).unwrap();
    let stops = output.stdout.chunks_exact(1024).map(|saved| {
        let words = saved.chunks_exact(8);
        let words: Vec<_> = words
            .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
            .collect();
        let mut registers = Registers::unknown(set);
        for (name, value) in names.into_iter().zip(&words) {
            registers.put(name, *value);
        }
        let above = words[2];
        // The return address of `capture` is below the stack pointer.
        let start = above - 8 - 64;
        let (bytes, memory) = (saved.to_vec(), start);
        Stop {
            registers,
            memory: Stack {
                start: memory,
                bytes,
            },
        }
    });
    let stops: Vec<_> = stops.collect();
    Some((std::fs::read(dir.join("program")).unwrap(), stops))
}

/// The frames as `name`, `name [inlined]` or `name [tail call]`.
fn names(file: &[u8], stop: &Stop) -> Vec<String> {
    let elf = KernelElf::from_bytes(file.to_vec()).unwrap();
    names_of(&Kernel::new(stop.memory.clone(), &elf), stop)
}

fn names_of(kernel: &Kernel<'_>, stop: &Stop) -> Vec<String> {
    let frames = kernel.stack(&stop.registers).into_iter();
    let frames = frames.map(|frame| {
        let name = frame.function.map_or("?".into(), |(name, _)| name);
        match frame.by {
            FoundBy::Inlined => name + " [inlined]",
            FoundBy::TailCall => name + " [tail call]",
            FoundBy::Registers => name,
            FoundBy::Cfi => name + " [cfi]",
            other => format!("{name} [{}]", other.name()),
        }
    });
    frames.collect()
}

/// The program saves what an amd64 processor has.
#[cfg(target_arch = "x86_64")]
#[test]
fn frames_without_frame_pointers_inlined_functions_and_tail_calls_are_found() {
    let leaf = ["inner [inlined]", "outer [inlined]", "leaf"];
    let end = ["everything [cfi]", "_start [cfi]"];
    for (compiler, dwarf) in [
        ("cc", "-gdwarf-4"),
        ("cc", "-gdwarf-5"),
        ("clang-19", "-gdwarf-4"),
        ("clang-19", "-gdwarf-5"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let Some((file, stops)) = run(dir.path(), compiler, dwarf) else {
            continue;
        };
        assert_eq!(stops.len(), 3);
        let ways: [&[&str]; 3] = [
            &["second [tail call]", "first [tail call]", "calls [cfi]"],
            &["cycles [cfi]"],
            &["points [cfi]"],
        ];
        for (stop, way) in stops.iter().zip(ways) {
            let expected = [&leaf[..], way, &end].concat();
            assert_eq!(names(&file, stop), expected, "{compiler} {dwarf}");
        }
        let elf = KernelElf::from_bytes(file.clone()).unwrap();
        let kernel = Kernel::new(stops[0].memory.clone(), &elf);
        let lines = kernel.stack(&stops[0].registers).into_iter().take(6);
        let lines = lines.map(|frame| {
            let line = frame.line.expect("line");
            assert!(line.file.ends_with("/unwind.c"), "{line}");
            SOURCE
                .lines()
                .nth(line.line as usize - 1)
                .unwrap()
                .to_owned()
        });
        let calls = [
            "capture()",
            "inner()",
            "outer()",
            "leaf(n",
            "second(n",
            "first(n)",
        ];
        for (line, call) in lines.zip(calls) {
            assert!(
                line.contains(call),
                "{compiler} {dwarf}: {line}, not {call}"
            );
        }
        // Without the tables, only frame pointers remain, which the program does not have.
        let bare =
            Elf::new(file.clone()).remove(|name| name.contains("frame") || name.contains("debug"));
        let bare = bare.bytes();
        let expected = ["leaf"];
        assert_eq!(names(&bare, &stops[0])[..1], expected, "{compiler}");
        assert!(!names(&bare, &stops[0]).contains(&"calls [cfi]".to_owned()));
        // With a debug file, the stripped program has the same frames.
        let elf = KernelElf::from_bytes(bare).unwrap();
        let kernel = Kernel::new(stops[0].memory.clone(), &elf);
        let kernel = kernel.with_debug_file(Arc::new(file.clone()));
        assert_eq!(names_of(&kernel, &stops[0]), names(&file, &stops[0]));
    }
}

/// Changes bytes of the debug sections. No change makes a backtrace fail or take long.
#[cfg(target_arch = "x86_64")]
#[test]
fn damaged_debug_information_ends_in_a_backtrace() {
    let dir = tempfile::tempdir().unwrap();
    for dwarf in ["-gdwarf-4", "-gdwarf-5"] {
        let (file, stops) = run(dir.path(), "cc", dwarf).unwrap();
        let elf = KernelElf::from_bytes(file.clone()).unwrap();
        let debug = elf
            .sections()
            .iter()
            .filter(|s| s.name.starts_with(".debug_"));
        let debug: Vec<_> = debug
            .map(|s| (s.offset as usize, s.size as usize))
            .collect();
        let mut rng = Random::new(7);
        for round in 0..400 {
            let mut damaged = file.clone();
            for _ in 0..1 + round % 8 {
                let (offset, size) = debug[rng.index(debug.len())];
                let at = offset + rng.index(size);
                damaged[at] = [0, 0xff, 0x7f, rng.next() as u8][rng.index(4)];
            }
            for stop in &stops {
                assert!(names(&damaged, stop).len() <= 4096 * 64);
            }
        }
    }
}
