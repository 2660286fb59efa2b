//! Guests that are dumped through a gdb stub: QEMU's, the same without its own packets (as bhyve's), and a false one.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, mpsc};

use serde_json::Value;

use crate::guests::differing;
use crate::harness::{MESSAGES, Run, livecore, livecore_with_signals, names, run};
use crate::qemu::{Memory, Qemu, is_installed, kernel};
use crate::served::tiny;
use crate::stub::{CR3, EIP, ESP, Stub};

/// The number of EFER in QEMU's `i386-64bit.xml`.
const EFER: u32 = 32;
/// `LME`, `LMA` and `NXE`.
const LONG_MODE: u64 = 1 << 8 | 1 << 10 | 1 << 11;
/// The address of the first byte of the kernel.
const KERNSTART: u64 = 0xffff_ffff_8020_0000;
const KERNPHYS: usize = 0x20_0000;
const STACK: u64 = 0xffff_fe00_00be_efd8;

/// Runs `livecore take --gdb` to the file `dump` in `dir`.
fn take(dir: &Path, address: &str, kernel: &Path, more: &[&str]) -> Run {
    let mut command = livecore();
    command
        .args(MESSAGES)
        .args(["take", "--gdb", address, "--kernel"])
        .arg(kernel)
        .arg("-o")
        .arg(dir.join("dump"))
        .args(["--none", "--container", "saved", "-f"])
        .args(more);
    Run::of(command.output().unwrap())
}

/// A guest whose CPU 0 runs a loop at the start of the kernel, with the kernel's page tables, when it is resumed.
fn guest() -> Qemu {
    let mut qemu = Qemu::start(Memory::Shared);
    let ram = qemu.path("machine/ram");
    let mut memory = fs::read(&ram).unwrap();
    memory[KERNPHYS..KERNPHYS + 2].copy_from_slice(&[0xeb, 0xfe]);
    let file = fs::File::options().write(true).open(&ram).unwrap();
    std::os::unix::fs::FileExt::write_all_at(
        &file,
        &memory[KERNPHYS..KERNPHYS + 2],
        KERNPHYS as u64,
    )
    .unwrap();
    fs::write(qemu.path("expected"), qemu.expected()).unwrap();
    let read = run([
        "read".as_ref(),
        "--raw".as_ref(),
        "--kernel".as_ref(),
        kernel(qemu.dir.path()).as_os_str(),
        qemu.path("expected").as_os_str(),
        "KPML4phys".as_ref(),
        "8".as_ref(),
    ])
    .expect(0);
    let root = u64::from_le_bytes(read.out.try_into().unwrap());
    let mut stub = Stub::connect(&qemu.path("gdb"), 0);
    stub.long_mode(&ram);
    stub.set(&[
        (EFER, LONG_MODE),
        (CR3, root),
        (ESP, STACK),
        (EIP, KERNSTART),
    ]);
    drop(stub);
    assert_eq!(qemu.status(), "prelaunch");
    qemu
}

#[test]
fn paused_guest_is_read_and_runs_afterwards() {
    if !is_installed() {
        return;
    }
    let mut qemu = guest();
    let address = format!("unix:{}", qemu.path("gdb").display());
    let kernel = kernel(qemu.dir.path());
    let taken = take(qemu.dir.path(), &address, &kernel, &["--no-cpu-state"]).expect(0);
    assert_eq!(taken.count("guest-paused"), 1, "{}", taken.err);
    assert!(fs::read(qemu.path("dump")).unwrap() == qemu.expected());
    assert_eq!(qemu.status(), "running");
    // The registers are those of the thread that dumped.
    let taken = take(qemu.dir.path(), &address, &kernel, &["--cpu", "0"]).expect(0);
    let pages = differing(&fs::read(qemu.path("dump")).unwrap(), &qemu.expected());
    assert!(
        (1..=4).contains(&pages),
        "{pages} pages differ: {}",
        taken.err
    );
    let printed = run([
        "threads".as_ref(),
        qemu.path("dump").as_os_str(),
        "--kernel".as_ref(),
        kernel.as_os_str(),
        "--crashed".as_ref(),
        "--json".as_ref(),
    ]);
    let printed: Value = serde_json::from_slice(&printed.out).unwrap();
    let thread = &printed["threads"][0];
    assert_eq!(thread["cpu"], 0, "{thread}");
    assert_eq!(thread["registers"]["rip"], format!("{KERNSTART:#x}"));
    assert_eq!(thread["registers"]["rsp"], format!("{STACK:#x}"));
    assert_eq!(qemu.status(), "running");
}

#[test]
fn stub_without_physical_addresses_is_read_through_the_direct_map() {
    if !is_installed() {
        return;
    }
    let mut qemu = guest();
    let socket = qemu.path("proxy");
    let listener = UnixListener::bind(&socket).unwrap();
    let gdb = qemu.path("gdb");
    let proxy = std::thread::spawn(move || proxy(&listener, &gdb));
    let kernel = kernel(qemu.dir.path());
    let options = ["--no-cpu-state"];
    take(qemu.dir.path(), socket.to_str().unwrap(), &kernel, &options).expect(0);
    assert!(fs::read(qemu.path("dump")).unwrap() == qemu.expected());
    assert_eq!(qemu.status(), "running");
    let packets = proxy.join().unwrap();
    assert!(
        packets.iter().any(|packet| packet.starts_with("mfffff8")),
        "no direct map"
    );
    assert_eq!(packets.last().map(String::as_str), Some("D"));
}

/// Forwards packets to the stub at `gdb`, except QEMU's own packets. Returns the packets.
fn proxy(listener: &UnixListener, gdb: &Path) -> Vec<String> {
    let (client, _) = listener.accept().unwrap();
    let mut stub = UnixStream::connect(gdb).unwrap();
    let (mut from, mut to) = (stub.try_clone().unwrap(), client.try_clone().unwrap());
    let answers = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let mut packets = Vec::new();
    let mut client = Packets(client);
    while let Some(packet) = client.next() {
        if packet.contains("qemu.PhyMemMode") {
            client.0.write_all(b"+$#00").unwrap();
        } else {
            let sum = packet.bytes().fold(0_u8, u8::wrapping_add);
            write!(stub, "+${packet}#{sum:02x}").unwrap();
        }
        packets.push(packet);
    }
    let _ = stub.shutdown(Shutdown::Both);
    answers.join().unwrap();
    packets
}

/// The packets of a client.
struct Packets(UnixStream);

impl Iterator for Packets {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        let mut packet = Vec::new();
        loop {
            let mut byte = [0];
            if self.0.read(&mut byte).ok()? == 0 {
                return None;
            }
            match (packet.last(), byte[0]) {
                (None, b'+' | b'-') => {}
                _ => packet.push(byte[0]),
            }
            if let [b'$', data @ .., b'#', _, _] = &packet[..] {
                return Some(String::from_utf8(data.to_vec()).unwrap());
            }
        }
    }
}

/// What a false stub sends in place of an answer.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Silence,
    End,
    Bytes(&'static [u8]),
    Endless(&'static [u8]),
}

const FAULTS: [Fault; 12] = [
    Fault::Silence,
    Fault::End,
    // A wrong sum, no digits, no packet, a run without a byte.
    Fault::Bytes(b"$OK#00"),
    Fault::Bytes(b"$OK#zz"),
    Fault::Bytes(b"HTTP/1.1 400 Bad Request\r\n"),
    Fault::Bytes(b"$* #4a"),
    Fault::Endless(b"+"),
    Fault::Endless(b"-"),
    Fault::Endless(b"$T05thread:01;#07"),
    Fault::Endless(b"$OK#00"),
    Fault::Endless(b"$00000000"),
    // No packet has this answer.
    Fault::Bytes(b"$Z#5a"),
];

const STEPS: [&str; 7] = [
    "?",
    "qSupported",
    "qfThreadInfo",
    "qsThreadInfo",
    "Hg1",
    "m",
    "D",
];

/// The answer of a stub with two CPUs whose memory is zeros.
fn answer(packet: &str) -> String {
    match packet {
        "?" => "T05thread:01;".into(),
        "qSupported" => "PacketSize=1000".into(),
        "qfThreadInfo" => "m1,2".into(),
        "qsThreadInfo" => "l".into(),
        "D" => "OK".into(),
        other if other.starts_with('H') => "OK".into(),
        other if other.starts_with('m') => {
            let len = other.rsplit(',').next().unwrap();
            "00".repeat(usize::from_str_radix(len, 16).unwrap())
        }
        _ => String::new(),
    }
}

/// Answers as a stub whose memory is zeros, with `fault` in place of the answer to `step`. Returns the packets.
fn false_stub(listener: &UnixListener, step: &str, fault: Option<Fault>) -> Vec<String> {
    let (client, _) = listener.accept().unwrap();
    let mut client = Packets(client);
    let mut packets = Vec::new();
    while let Some(packet) = client.next() {
        packets.push(packet.clone());
        let is_step = packet == step || step == "m" && packet.starts_with('m');
        let answer = answer(&packet);
        let sum = answer.bytes().fold(0_u8, u8::wrapping_add);
        let sent = match fault.filter(|_| is_step) {
            None => write!(client.0, "+${answer}#{sum:02x}"),
            Some(Fault::Silence) => Ok(()),
            Some(Fault::End) => return packets,
            Some(Fault::Bytes(bytes)) => client.0.write_all(bytes),
            Some(Fault::Endless(bytes)) => {
                // Until the client ends the connection.
                let many = bytes.repeat(1000);
                while client.0.write_all(&many).is_ok() {}
                return packets;
            }
        };
        if sent.is_err() {
            return packets;
        }
    }
    packets
}

#[test]
fn false_stub_gives_one_error_and_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = &tiny().kernel;
    let cases = STEPS
        .iter()
        .flat_map(|step| FAULTS.iter().map(move |fault| (*step, Some(*fault))));
    let cases: Vec<_> = [("", None)].into_iter().chain(cases).collect();
    let next = Mutex::new(cases.iter());
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (next, dir) = (&next, dir.path().join(worker.to_string()));
            fs::create_dir(&dir).unwrap();
            scope.spawn(move || {
                loop {
                    let Some((step, fault)) = next.lock().unwrap().next() else {
                        return;
                    };
                    let socket = dir.join("stub");
                    let listener = UnixListener::bind(&socket).unwrap();
                    let (step, fault) = (*step, *fault);
                    let stub = std::thread::spawn(move || false_stub(&listener, step, fault));
                    let options = ["--gdb-timeout", "1"];
                    let failed = take(&dir, socket.to_str().unwrap(), kernel, &options);
                    let case = format!("{step} {fault:?}: {}", failed.err);
                    // A stub that does not answer does not violate the protocol.
                    let codes = match fault {
                        Some(Fault::Silence | Fault::End) if step != "D" => 1..=1,
                        _ => 1..=2,
                    };
                    assert!(codes.contains(&failed.code), "{case}");
                    assert_eq!(failed.err.lines().count(), 1, "{case}");
                    fs::remove_file(&socket).unwrap();
                    assert!(names(&dir).is_empty(), "{case}");
                    let packets = stub.join().unwrap();
                    // Livecore resumes the guest whenever the stub still answers.
                    if fault.is_none() || step == "D" {
                        assert_eq!(packets.last().map(String::as_str), Some("D"), "{case}");
                        assert!(failed.err.contains("none of 2 CPUs maps it"), "{case}");
                    }
                }
            });
        }
    });
}

#[test]
fn stub_that_is_not_there_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = &tiny().kernel;
    let absent = format!("unix:{}/absent", dir.path().display());
    let failed = take(dir.path(), &absent, kernel, &[]).expect(1);
    assert!(
        failed.err.contains("absent") && failed.err.contains("-G PORT"),
        "{}",
        failed.err
    );
    let lacking = run(["take", "--gdb", "localhost:1"]).expect(64);
    assert!(
        lacking.err.contains("--gdb needs --kernel"),
        "{}",
        lacking.err
    );
}

#[test]
fn interrupted_take_resumes_the_guest() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("stub");
    let listener = UnixListener::bind(&socket).unwrap();
    let (reading, is_reading) = mpsc::channel();
    let (interrupted, is_interrupted) = mpsc::channel();
    let stub = std::thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let mut client = Packets(client);
        let mut packets = Vec::new();
        while let Some(packet) = client.next() {
            if packet.starts_with('m') {
                reading.send(()).unwrap();
                is_interrupted.recv().unwrap();
            }
            let answer = answer(&packet);
            let sum = answer.bytes().fold(0_u8, u8::wrapping_add);
            packets.push(packet);
            write!(client.0, "+${answer}#{sum:02x}").unwrap();
        }
        packets
    });
    let mut child = livecore_with_signals()
        .args(["take", "--gdb"])
        .arg(&socket)
        .arg("--kernel")
        .arg(&tiny().kernel)
        .args(["--gdb-timeout", "600", "-o"])
        .arg(dir.path().join("dump"))
        .spawn()
        .unwrap();
    is_reading.recv().unwrap();
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
    interrupted.send(()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(stub.join().unwrap().last().map(String::as_str), Some("D"));
    assert!(!dir.path().join("dump").exists());
}
