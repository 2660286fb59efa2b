//! QEMU's gdb stub, to set registers of a guest whose CPUs do not run.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// Time limit, longer than any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Register numbers in QEMU's `i386-64bit.xml`, which it uses for all guests.
pub(crate) const ESP: u32 = 7;
pub(crate) const EIP: u32 = 16;
const CS: u32 = 18;
pub(crate) const CR0: u32 = 27;
pub(crate) const CR3: u32 = 29;
pub(crate) const CR4: u32 = 30;
const EFER: u32 = 32;

/// A connection to the stub for one CPU.
pub(crate) struct Stub(UnixStream);

impl Stub {
    pub(crate) fn connect(socket: &Path, cpu: u32) -> Self {
        let begun = Instant::now();
        let stream = loop {
            match UnixStream::connect(socket) {
                Ok(stream) => break stream,
                Err(e) => assert!(begun.elapsed() < PATIENCE, "{}: {e}", socket.display()),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut stub = Self(stream);
        // The stub accepts register writes only after the description was read.
        stub.packet("qXfer:features:read:target.xml:0,ffb");
        let answer = stub.packet(&format!("Hg{:x}", cpu + 1));
        assert!(answer.contains("$OK#"), "processor {cpu}: {answer}");
        stub
    }

    fn packet(&mut self, text: &str) -> String {
        let sum = text.bytes().fold(0_u8, u8::wrapping_add);
        write!(self.0, "${text}#{sum:02x}").unwrap();
        let mut answer = Vec::new();
        // An answer ends with '#' and two digits; '+' and stop replies may precede it.
        while answer.len() < 4 || answer[answer.len() - 3] != b'#' {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        self.0.write_all(b"+").unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// Sets registers of the CPU, one by one.
    pub(crate) fn set(&mut self, registers: &[(u32, u64)]) {
        for (number, value) in registers {
            let bytes = value.to_le_bytes().map(|b| format!("{b:02x}")).concat();
            let answer = self.packet(&format!("P{number:x}={bytes}"));
            assert!(answer.contains("$OK#"), "register {number}: {answer}");
        }
    }

    /// Switches the CPU to 64-bit mode, with tables and a descriptor that are temporarily in the
    /// guest's memory, the file `ram`.
    pub(crate) fn long_mode(&mut self, ram: &Path) {
        let ram = File::options().read(true).write(true).open(ram).unwrap();
        let mut before = vec![0; 0xb000];
        ram.read_exact_at(&mut before, 0).unwrap();
        let put = |at, word: u64| ram.write_all_at(&word.to_le_bytes(), at).unwrap();
        // A 64-bit code segment, and an identity map of the first 2 MiB.
        put(8, 0x00af_9b00_0000_ffff);
        put(0x8000, 0x9003);
        put(0x9000, 0xa003);
        put(0xa000, 0x83);
        self.set(&[
            (CR4, 1 << 5),
            (EFER, 1 << 8),
            (CR3, 0x8000),
            (CR0, 1 << 31 | 0x33),
            (CS, 8),
        ]);
        ram.write_all_at(&before, 0).unwrap();
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        // Not `D`, which resumes the guest.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
