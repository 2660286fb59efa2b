//! Tests of `livecore serve`: hostile clients, several debuggers, its end, and the search for the
//! kernel.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{MESSAGES, Run, golden, livecore, livecore_with_signals, run, run_json, tool};
use crate::schema;
use crate::served::{Client, Dumped, Server, arm64, debug, riscv64, tiny};

#[test]
fn invalid_packets_do_not_disturb_the_server() {
    let server = Server::of(tiny());
    let mut client = Client::to(&server);
    client.send(b"+GET / HTTP/1.1\r\nHost: x\r\n\r\n\x00\xff\xfe");
    assert!(client.ask("?").starts_with("T05thread:"));
    client.send(b"$g#0");
    client.send(b"0");
    // The sum is wrong: the server requests a retransmission.
    let mut sign = [0];
    client.0.read_exact(&mut sign).unwrap();
    assert_eq!(sign, *b"-");
    client.send(b"$m0,");
    client.send(b"$qAttached#8f");
    assert_eq!(client.answer(), "1");
    let huge = "a".repeat(3 << 20);
    assert_eq!(client.ask(&huge), "E.the packet is longer than PacketSize");
    assert_eq!(client.ask("nonsense"), "");
    assert_eq!(client.ask(""), "");
    assert_eq!(client.ask("qAttached"), "1");
}

/// A browser or another client with a different protocol.
#[test]
fn first_byte_of_another_protocol_ends_the_connection() {
    let server = Server::of(tiny());
    for first in [
        &b"POST / HTTP/1.1\r\n\r\n$m0,8#ff"[..],
        b"\x16\x03",
        b"\n$?#3f",
    ] {
        let mut client = Client::to(&server);
        client.send(first);
        assert!(client.is_closed(), "{}", first.escape_ascii());
    }
    assert!(Client::to(&server).ask("?").starts_with("T05thread:"));
}

#[test]
fn default_is_a_socket_in_a_private_directory() {
    let tiny = tiny();
    let mut child = livecore_with_signals()
        .args(["serve", "-q", "--once", "--kernel"])
        .args([&tiny.kernel, &tiny.dump])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let path = line.trim_end().strip_prefix("listening unix:").unwrap();
    assert!(path.len() <= 100, "{path}");
    let folder = Path::new(path).parent().unwrap();
    let mode = folder.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(b"$qAttached#8f").unwrap();
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"+$1#31");
    drop(stream);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!folder.exists());
}

/// lldb treats unreadable memory as the end of a backtrace.
#[test]
fn missing_memory_is_not_reported_as_unreadable() {
    let tiny = tiny();
    let server = Server::of(tiny);
    let mut client = Client::to(&server);
    client.ask("qHostInfo");
    let mapped = client.ask("qMemoryRegionInfo:ffffffff80200000");
    assert!(mapped.contains(";permissions:r"), "{mapped}");
    // Between kernel mappings; in the direct map beyond the dump; in a process.
    for at in ["ffffffffffff0000", "fffff80030000000", "1000"] {
        assert_eq!(
            client.ask(&format!("qMemoryRegionInfo:{at}")),
            "E01",
            "{at}"
        );
    }
}

#[test]
fn monitor_accepts_gdbs_thread_number_and_the_id() {
    let tiny = tiny();
    let server = Server::of(tiny);
    let mut client = Client::to(&server);
    let second = tiny.threads()[1].tid;
    let by_number = client.monitor("bt 2");
    assert!(
        by_number.contains(&format!("(tid {second})")),
        "{by_number}"
    );
    assert_eq!(client.monitor(&format!("bt {second}")), by_number);
    assert_eq!(client.monitor("thread 2"), "");
    assert_eq!(client.monitor("bt"), by_number);
    let wrong = ["bt 9999", "thread 9999", "bt x", "nosuch"];
    let answers = wrong.map(|command| format!("{command}: {}", client.monitor(command)));
    golden("messages/monitor.txt", &answers.concat());
}

#[test]
fn disconnecting_client_does_not_disturb_others() {
    let server = Server::of(tiny());
    for bytes in [&b""[..], b"$", b"$g#", b"$mffffffff80200000,8000#"] {
        let mut client = Client::to(&server);
        client.send(bytes);
        drop(client);
    }
    assert!(Client::to(&server).ask("?").starts_with("T05thread:"));
}

/// Several debuggers share the dump, each with its own selected thread.
#[test]
fn eight_clients_are_served_and_the_ninth_is_refused() {
    let server = Server::of(tiny());
    let mut clients: Vec<_> = (0..8).map(|_| Client::to(&server)).collect();
    let first = clients[0].ask("qC");
    let threads = clients[0].ask("qfThreadInfo");
    let last = threads.rsplit(',').next().unwrap().to_owned();
    assert_eq!(clients[0].ask(&format!("Hg{last}")), "OK");
    assert_eq!(clients[0].ask("qC"), format!("QC{last}"));
    for client in &mut clients[1..] {
        assert_eq!(client.ask("qC"), first);
    }
    let mut ninth = Client::to(&server);
    let refused = ninth.ask("qSupported");
    assert!(refused.starts_with("E.8 "), "{refused}");
    assert!(ninth.is_closed());
    // A slot is free after a debugger disconnects.
    assert_eq!(clients[3].ask("D"), "OK");
    assert!(clients[3].is_closed());
    let mut tries = 0;
    while Client::to(&server).ask("qC") != first {
        tries += 1;
        assert!(tries < 1000, "no free slot after a debugger disconnected");
    }
}

/// Clients may use up all descriptors; the server continues after they disconnect.
#[test]
fn running_out_of_descriptors_does_not_end_the_server() {
    let server = Server::within(20, tiny());
    let flood: Vec<_> = (0..60)
        .map(|_| TcpStream::connect(server.address()).unwrap())
        .collect();
    std::thread::sleep(Duration::from_millis(300));
    drop(flood);
    let served = || {
        let mut line = TcpStream::connect(server.address())?;
        line.set_read_timeout(Some(Duration::from_secs(2)))?;
        line.write_all(b"$qAttached#8f")?;
        let mut answer = [0; 5];
        line.read_exact(&mut answer)?;
        std::io::Result::Ok(answer == *b"+$1#3")
    };
    let until = Instant::now() + Duration::from_secs(20);
    while !served().unwrap_or(false) {
        assert!(Instant::now() < until, "the server does not serve any more");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A dump of a machine whose process name contains terminal control sequences.
#[test]
fn names_in_a_dump_are_escaped() {
    let tiny = tiny();
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("vmcore");
    let [from, to] = [&tiny.dump, &plain].map(|p| p.to_str().unwrap());
    run(["convert", "-q", "--none", "--container", "saved", from, to]).expect(0);
    let mut bytes = fs::read(&plain).unwrap();
    let thread = tiny.threads()[0];
    let name = thread.comm.as_bytes();
    assert!(name.len() >= 4);
    let mut at = 0;
    while let Some(skip) = bytes[at..].windows(name.len()).position(|w| w == name) {
        bytes[at + skip..][..4].copy_from_slice(b"\x1b[2J");
        at += skip + 4;
    }
    fs::write(&plain, bytes).unwrap();
    let server = Server::start([
        plain.as_os_str(),
        "--kernel".as_ref(),
        tiny.kernel.as_os_str(),
    ]);
    let mut client = Client::to(&server);
    let printed = client.ask(&format!("qThreadExtraInfo,{:x}", thread.tid));
    let shown: String = "\\u{1b}[2J".bytes().map(|b| format!("{b:02x}")).collect();
    assert!(printed.contains(&shown), "{printed}");
    let threads = client.ask("qXfer:threads:read::0,10000");
    // A packet escapes a brace.
    assert!(threads.contains("\\u{1b"), "{threads}");
    assert!(!threads.contains('\x1b'), "{threads}");
    for command in ["info", "ps", "bt", "kld", "dmesg -a"] {
        let printed = client.monitor(command);
        assert!(!printed.contains('\x1b'), "{command}: {printed:?}");
    }
}

/// A stream as FreeBSD writes it: one frame without an index.
#[test]
fn stream_without_an_index_needs_no_temporary_file() {
    let tiny = tiny();
    let dir = tempfile::tempdir().unwrap();
    let [plain, stream] = ["vmcore.0", "vmcore.0.zst"].map(|name| dir.path().join(name));
    let [from, to] = [&tiny.dump, &plain].map(|p| p.to_str().unwrap());
    run(["convert", "-q", "--none", "--container", "saved", from, to]).expect(0);
    fs::write(&stream, tool("zstd", &["-q", "-c"], &plain)).unwrap();
    let serve = |dump: &std::path::Path, place: &std::path::Path| {
        let mut command = livecore();
        command
            .args(MESSAGES)
            .args(["serve", "--stdio", "--kernel"]);
        command.arg(&tiny.kernel).arg(dump).env("TMPDIR", place);
        Run::of(command.output().unwrap())
    };
    for dump in [&stream, &tiny.dump] {
        serve(dump, &dir.path().join("nowhere")).expect(0);
    }
}

#[test]
fn no_retransmission_without_acknowledgments() {
    let server = Server::of(tiny());
    let mut client = Client::to(&server);
    assert_eq!(client.ask("QStartNoAckMode"), "OK");
    client.send(b"--------------------");
    assert_eq!(client.ask("qAttached"), "1");
}

#[test]
fn requests_to_run_or_write_and_holes_are_errors() {
    let server = Server::of(tiny());
    let mut client = Client::to(&server);
    assert_eq!(client.ask("vCont?"), "");
    for running in ["c", "s", "vCont;c", "C05", "vRun;", "vAttach;1"] {
        let printed = client.ask(running);
        assert!(printed.starts_with("E."), "{running}: {printed}");
    }
    for writing in ["M0,1:00", "X0,1:x", "P0=00", "G00"] {
        let printed = client.ask(writing);
        assert!(printed.starts_with("E."), "{writing}: {printed}");
    }
    assert!(client.ask("Z0,ffffffff80200000,1").starts_with("E."));
    assert_eq!(client.ask("m1234,8"), "E0e");
    assert_eq!(client.ask("mffffffffffffffff,10"), "E0e");
    // Physical memory with QEMU's packet: the kernel is at 2 MiB.
    let linked = client.ask("mffffffff80200000,20");
    assert_eq!(client.ask("Qqemu.PhyMemMode:1"), "OK");
    assert_eq!(client.ask("qqemu.PhyMemMode"), "1");
    assert_eq!(client.ask("m200000,20"), linked);
    assert_eq!(client.ask("Qqemu.PhyMemMode:0"), "OK");
    assert_eq!(client.ask("mffffffff80200000,20"), linked);
}

#[test]
fn only_the_kernels_files_are_readable() {
    let tiny = tiny();
    let server = Server::of(tiny);
    let mut client = Client::to(&server);
    let open = |client: &mut Client<_>, path: &str, flags: u32| {
        let hex: String = path.bytes().map(|b| format!("{b:02x}")).collect();
        client.ask(&format!("vFile:open:{hex},{flags:x},0"))
    };
    assert_eq!(open(&mut client, "/etc/passwd", 0), "F-1,2");
    assert_eq!(open(&mut client, tiny.dump.to_str().unwrap(), 0), "F-1,2");
    let kernel = tiny.kernel.canonicalize().unwrap();
    assert_eq!(open(&mut client, kernel.to_str().unwrap(), 1), "F-1,1e");
    assert_eq!(open(&mut client, kernel.to_str().unwrap(), 0), "F0");
    let head = client.ask("vFile:pread:0,10,0");
    // The magic, 64 bits, little endian, version 1, and no ABI although the file names FreeBSD's.
    assert_eq!(
        head.as_bytes(),
        b"F10;\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"
    );
    assert_eq!(fs::read(&kernel).unwrap()[7], 9);
    assert_eq!(client.ask("vFile:close:0"), "F0");
    assert_eq!(client.ask("vFile:pread:0,10,0"), "F-1,9");
}

#[test]
fn unix_socket_is_private_and_removed_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    let tiny = tiny();
    let args = [
        tiny.dump.as_os_str(),
        "--kernel".as_ref(),
        tiny.kernel.as_os_str(),
        "--unix".as_ref(),
        path.as_os_str(),
    ];
    for signal in [("TERM", 143), ("INT", 130)] {
        let server = Server::start(args);
        assert_eq!(server.address(), path.to_str().unwrap());
        let socket = path.metadata().unwrap();
        assert!(socket.file_type().is_socket());
        assert_eq!(socket.permissions().mode() & 0o777, 0o600);
        let mut client = Client(UnixStream::connect(&path).unwrap());
        assert_eq!(client.ask("qAttached"), "1");
        assert_eq!(server.end(signal.0), Some(signal.1));
        assert!(!path.exists());
    }
    // A socket without a listener is replaced; another file is an error.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert_eq!(Server::start(args).end("TERM"), Some(143));
    fs::write(&path, "mine").unwrap();
    let refused = run_json(["serve".as_ref()].into_iter().chain(args)).expect(1);
    refused.error("exists");
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn once_ends_after_the_first_debugger() {
    let tiny = tiny();
    let kernel = [
        tiny.dump.as_os_str(),
        "--kernel".as_ref(),
        tiny.kernel.as_os_str(),
    ];
    let server = Server::start(kernel.into_iter().chain(["--once".as_ref()]));
    let mut client = Client::to(&server);
    assert_eq!(client.ask("qAttached"), "1");
    drop(client);
    assert_eq!(server.wait(), Some(0));
    // With --stdio only packets are written.
    let mut child = livecore()
        .args(["serve", "--stdio"])
        .args(kernel)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"$qAttached#8f+")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, b"+$1#31");
}

#[test]
fn json_output_has_the_address_and_the_kernel() {
    let tiny = tiny();
    let mut child = livecore()
        .args([
            "serve",
            "--json",
            "--once",
            "--listen=127.0.0.1:0",
            "--kernel",
        ])
        .args([&tiny.kernel, &tiny.dump])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\n}") {
        out.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    let answer: Value = serde_json::from_slice(&text).unwrap();
    schema::check("serve", &answer);
    assert_eq!(answer["threads"], tiny.threads().len());
    assert_eq!(answer["modules"], 2);
    drop(TcpStream::connect(answer["listening"].as_str().unwrap()).unwrap());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A directory with the dump of `dumped` and these kernels.
fn directory(dumped: &Dumped, kernels: &[(&Dumped, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(&dumped.dump, dir.path().join("livecore.0.zst")).unwrap();
    for (other, name) in kernels {
        fs::copy(&other.kernel, dir.path().join(name)).unwrap();
    }
    dir
}

fn read_hz(dir: &tempfile::TempDir, more: &[&str]) -> Run {
    let dump = dir.path().join("livecore.0.zst");
    run(["read", dump.to_str().unwrap(), "hz", "4", "--raw"]
        .iter()
        .chain(more))
}

#[test]
fn matching_kernel_is_found_and_never_another() {
    let (tiny, debug) = (tiny(), debug());
    let found = directory(tiny, &[(debug, "kernel.debug"), (tiny, "kernel")]);
    let hz = read_hz(&found, &[]).expect(0);
    assert_eq!(hz.out, 1000_u32.to_le_bytes());
    let line = format!(
        "kernel: {}",
        found
            .path()
            .canonicalize()
            .unwrap()
            .join("kernel")
            .display()
    );
    assert!(hz.err.contains(&line), "{}", hz.err);
    // The only kernel in the directory is another one.
    let wrong = directory(tiny, &[(debug, "kernel")]);
    let refused = read_hz(&wrong, &[]).expect(1);
    let printed = refused.err.replace(wrong.path().to_str().unwrap(), "DIR");
    golden("messages/kernel-of-another-dump.txt", &printed);
    assert!(refused.out.is_empty());
    // A directory to search, or the file itself.
    for place in [tiny.kernel.parent().unwrap(), &tiny.kernel] {
        let hz = read_hz(&wrong, &["--kernel-path", place.to_str().unwrap()]).expect(0);
        assert_eq!(hz.out, 1000_u32.to_le_bytes());
    }
}

/// A script in place of a debugger: prints its arguments, then sends `signal` to its parent.
fn script(dir: &std::path::Path, signal: &str) -> std::path::PathBuf {
    let path = dir.join("gdb");
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *'target remote'*) kill -s {signal} $PPID; sleep 1; echo \"$*\";; esac\n"
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// Ctrl-C reaches all programs in the foreground; a debugger uses it to stop the target.
#[test]
fn sigint_is_ignored_and_other_signals_remove_the_socket() {
    let tiny = tiny();
    let dir = tempfile::tempdir().unwrap();
    for (signal, code) in [("INT", 0), ("TERM", 143)] {
        let temporary = dir.path().join(signal);
        fs::create_dir(&temporary).unwrap();
        let output = livecore_with_signals()
            .env("TMPDIR", &temporary)
            .args(["gdb", "-q", "--debugger"])
            .arg(script(dir.path(), signal))
            .arg("--kernel")
            .args([&tiny.kernel, &tiny.dump])
            .args(["--", "-ex", "bt"])
            .output()
            .unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{signal}: {out}{err}");
        if code == 0 {
            // A gdb without FreeBSD's ABI gets `set osabi none` before the file.
            let (before, after) = out.split_once("-iex set osabi none").unwrap();
            assert!(
                !before.contains("kernel") && after.contains("kernel"),
                "{out}"
            );
            assert!(after.contains("-iex set backtrace limit "), "{out}");
            assert!(after.contains("-iex set remotetimeout 60"), "{out}");
            assert!(out.trim_end().ends_with("-ex bt"), "{out}");
        }
        assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "{signal}");
    }
}

impl Client<TcpStream> {
    /// The output of a `monitor` command.
    fn monitor(&mut self, command: &str) -> String {
        let hex: String = command.bytes().map(|b| format!("{b:02x}")).collect();
        let mut printed = Vec::new();
        let mut packet = self.ask(&format!("qRcmd,{hex}"));
        while let Some(piece) = packet.strip_prefix('O').filter(|rest| *rest != "K") {
            let pairs = piece.as_bytes().chunks(2);
            printed
                .extend(pairs.map(|p| u8::from_str_radix(str::from_utf8(p).unwrap(), 16).unwrap()));
            packet = self.answer();
        }
        assert_eq!(packet, "OK", "{command}");
        String::from_utf8(printed).unwrap()
    }
}

#[test]
fn monitor_commands_match_the_verbs_and_list_all_modules() {
    for dumped in [debug(), arm64(), riscv64()] {
        let server = Server::of(dumped);
        let mut client = Client::to(&server);
        let verb = |verb: &str| {
            let kernel = ["--kernel".as_ref(), dumped.kernel.as_os_str()];
            let args = [verb.as_ref(), "-q".as_ref(), dumped.dump.as_os_str()];
            run(args.into_iter().chain(kernel))
                .expect(0)
                .text()
                .to_owned()
        };
        for name in ["ps", "dmesg"] {
            assert_eq!(client.monitor(name), verb(name), "{name}");
        }
        let printed = client.monitor("kld");
        let modules = &dumped.machine.truth().modules;
        assert_eq!(modules.len(), 3);
        for module in modules {
            let line = printed
                .lines()
                .find(|l| l.contains(&format!(" {} ", module.name)));
            let line = line.unwrap_or_else(|| panic!("no {}: {printed}", module.name));
            assert!(line.contains(&format!("{:#x}", module.address)), "{line}");
            assert!(line.contains(&format!(" {:#x} ", module.size)), "{line}");
            assert!(line.contains(&module.path), "{line}");
        }
        assert!(
            client.monitor("verify quick").contains("sound"),
            "{printed}"
        );
        assert!(client.monitor("help").contains("bt [N|TID|all]"));
        assert!(client.monitor("frobnicate").contains("frobnicate"));
    }
}

#[test]
fn monitor_info_shows_a_date_and_the_greeting_has_the_panic_and_the_kernel() {
    let server = Server::of(tiny());
    let mut client = Client::to(&server);
    let shown = client.console("info");
    assert!(
        shown.contains("time     2023-11-14 22:13:20 UTC\n"),
        "{shown}"
    );
    let mut serve = livecore_with_signals();
    serve
        .args(MESSAGES)
        .args(["serve", "--kernel"])
        .args([&tiny().kernel, &tiny().dump]);
    let mut serve = serve
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(serve.stderr.take().unwrap()).lines();
    let messages: Vec<Value> = lines
        .take(5)
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    serve.kill().unwrap();
    serve.wait().unwrap();
    let ids: Vec<_> = messages.iter().map(|m| m["id"].as_str().unwrap()).collect();
    let expected = [
        "panic",
        "kernel-version",
        "unread-messages",
        "greeting",
        "greeting",
    ];
    assert_eq!(ids, expected);
    let text = |message: &Value| message["message"].as_str().unwrap().to_owned();
    assert!(text(&messages[0]).ends_with("page fault"), "{messages:?}");
    let version = text(&messages[1]);
    assert!(version.contains("FreeBSD 14.0-RELEASE"), "{version}");
}
