//! Tests of `livecore netdump`, with clients over UDP on the loopback address.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use livecore_tests::exposition;
use livecore_tests::mkdump;
use livecore_tests::netdump::{Client, Dump, HERALD, Order, VMCORE, message};
use livecore_tests::random::Random;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{MESSAGES, Run, livecore_with_signals, names, run, testdata};
use crate::schema;

/// Time limit for what has to happen.
const SOON: Duration = Duration::from_secs(30);

/// An encrypted, compressed dump.
const ENCRYPTED: &str = "minidump amd64 3
    kernbase 0xffffffff80000000
    kernend 0xffffffffc0000000
    avail 0x1000 0x40000
    msgbuf text \"---<<BOOT>>---\\n\"
    pages 0x2000 50 seed 1
    key chacha20 256
    compress zstd
";

/// A server with a directory of its own.
struct Server {
    child: Child,
    events: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Server {
    fn start(dir: &Path, args: &[&str]) -> Self {
        // This host's /etc/hosts has a name for the address.
        let hosts = match args.contains(&"--hosts") {
            true => &[][..],
            false => &["--hosts", "/dev/null"],
        };
        let mut child = livecore_with_signals()
            .args(MESSAGES)
            .args(["netdump", "--listen", "127.0.0.1:0", "--json", "--out"])
            .arg(dir)
            .args(hosts)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut server = Self {
            events: BufReader::new(child.stdout.take().unwrap()),
            child,
            address: ([127, 0, 0, 1], 0).into(),
        };
        let listening = server.event();
        assert_eq!(listening["event"], "listening");
        server.address = listening["address"].as_str().unwrap().parse().unwrap();
        server
    }

    /// The next event.
    fn event(&mut self) -> Value {
        let mut line = String::new();
        self.events.read_line(&mut line).unwrap();
        let event = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        schema::check("netdump", &event);
        event
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end of the server.
    fn wait(mut self) -> Run {
        let mut rest = String::new();
        self.events.read_to_string(&mut rest).unwrap();
        let mut run = Run::of(self.child.wait_with_output().unwrap());
        run.out = rest.into_bytes();
        run
    }
}

/// A network between a client and the server.
struct Network {
    socket: UdpSocket,
    server: SocketAddr,
    random: Random,
    /// One of so many packets is lost, repeated, or sent before its turn; 0 for none.
    faults: u64,
}

impl Network {
    fn new(server: SocketAddr, seed: u64, faults: u64) -> Self {
        let _ = writeln!(std::io::stderr(), "seed {seed}");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let timeout = Duration::from_millis(20);
        socket.set_read_timeout(Some(timeout)).unwrap();
        Self {
            socket,
            server,
            random: Random::new(seed),
            faults,
        }
    }

    fn fails(&mut self) -> bool {
        self.faults > 0 && self.random.one_in(self.faults)
    }

    fn send(&self, packet: &[u8]) {
        self.socket.send_to(packet, self.server).unwrap();
    }

    /// Sends until every message is acknowledged.
    fn deliver(&mut self, mut client: Client) {
        let mut answer = [0; 16];
        let mut tries = 0;
        while !client.is_done() {
            tries += 1;
            assert!(tries < 10_000, "the server answers");
            let mut packets = client.outgoing();
            for at in 1..packets.len() {
                if self.fails() {
                    packets.swap(at, at - 1);
                }
            }
            for packet in packets {
                let copies = usize::from(!self.fails()) + usize::from(self.fails());
                (0..copies).for_each(|_| self.send(&packet));
            }
            // Answers of this batch, until all have arrived or no more do.
            let batch = client.batch();
            while let Ok((len, from)) = self.socket.recv_from(&mut answer) {
                assert_eq!(from, self.server);
                if !self.fails() {
                    client.answer(&answer[..len]);
                }
                if client.batch() != batch {
                    break;
                }
            }
        }
    }
}

/// The recipe `name` as a kernel sends it: on a device with blocks of 4096 bytes.
fn dump(name: &str) -> Dump {
    let text = fs::read_to_string(testdata().join(format!("dumps/{name}.dump"))).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("sector "));
    let text: Vec<_> = lines.collect();
    let device = mkdump::build(&(text.join("\n") + "\nsector 4096\n")).unwrap();
    Dump::of_device(&device)
}

fn newest(dir: &Path, host: &str) -> String {
    let link = dir.join(format!("vmcore.{host}.last"));
    fs::read_link(link).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn dump_of_each_kind_and_order_is_sealed_verified_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), &[]);
    let cases = [
        ("device", 1448, Order::KeyFirst),
        ("device-zstd", 4096, Order::KeyLast),
        ("device-gzip", 8948, Order::KeyFirst),
        ("device-riscv64", 65_000, Order::KeyFirst),
    ];
    for ((name, packet, order), n) in cases.into_iter().zip(0..) {
        let dump = dump(name);
        let mut network = Network::new(server.address, n, 15);
        network.deliver(Client::new(&dump, b"", packet, order));
        let event = server.event();
        assert_eq!(event["outcome"], "complete", "{name}: {event:#}");
        assert_eq!(event["exit_code"], 0);
        assert_eq!(event["host"], "127.0.0.1");
        assert_eq!(event["received_size"], dump.data.len());
        let file = dir.path().join(format!("vmcore.127.0.0.1.{n}.zst"));
        assert_eq!(event["dump"], file.to_str().unwrap());
        assert_eq!(
            newest(dir.path(), "127.0.0.1"),
            format!("vmcore.127.0.0.1.{n}.zst")
        );
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // The payload is the builder's.
        let recipe = fs::read_to_string(testdata().join(format!("dumps/{name}.dump"))).unwrap();
        let payload = mkdump::build_all(&recipe).unwrap().payload;
        let back = dir.path().join("back");
        let back_path = back.to_str().unwrap();
        let args = ["-q", "convert", "--none", "-f", "-O", "saved"];
        run(args
            .iter()
            .copied()
            .chain([file.to_str().unwrap(), back_path]))
        .expect(0);
        assert!(fs::read(&back).unwrap() == payload, "{name}");
        fs::remove_file(back).unwrap();
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code, 128 + 15);
    let bounds = fs::read_to_string(dir.path().join("bounds.127.0.0.1")).unwrap();
    assert_eq!(bounds, "4\n");
    // The info files match their dumps.
    run(["verify".as_ref(), dir.path().as_os_str()]).expect(0);
    let info = fs::read_to_string(dir.path().join("info.127.0.0.1.0")).unwrap();
    assert!(
        info.starts_with("Dump from 127.0.0.1 [127.0.0.1]\n  Architecture: amd64\n"),
        "{info}"
    );
    assert!(
        info.ends_with("  Header parity check: Pass\nDump complete\n"),
        "{info}"
    );
}

#[test]
fn encrypted_dump_is_kept_with_its_key_and_opens_with_the_private_key() {
    for order in [Order::KeyFirst, Order::KeyLast] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path(), &["--once"]);
        let text = format!("{ENCRYPTED}container device\nsector 4096\n");
        let sent = Dump::of_device(&mkdump::build(&text).unwrap());
        Network::new(server.address, 7, 15).deliver(Client::new(&sent, b"", 1448, order));
        let run_of_server = server.wait();
        assert_eq!(run_of_server.code, 0, "{}", run_of_server.err);
        let event: Value = serde_json::from_slice(&run_of_server.out).unwrap();
        assert_eq!(event["outcome"], "encrypted");
        let file = dir.path().join("vmcore_encrypted.127.0.0.1.0");
        assert!(fs::read(&file).unwrap() == sent.data[..sent.len]);
        assert_eq!(
            fs::read(dir.path().join("key.127.0.0.1.0")).unwrap(),
            sent.key
        );
        let key = testdata().join("keys/rsa2048.pem");
        let args = [
            "verify".as_ref(),
            "--key".as_ref(),
            key.as_os_str(),
            file.as_os_str(),
        ];
        // The dump lacks pages of a kernel, which is a warning.
        run(args).expect(3);
    }
}

/// Two clients at once, with hostile packets between theirs. On this host, they differ by their ports.
#[test]
fn clients_at_once_and_hostile_packets_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), &["--clients", "6"]);
    let address = server.address;
    let dumps = [dump("device"), dump("device-zstd")];
    std::thread::scope(|scope| {
        for (dump, seed) in dumps.iter().zip(1..) {
            scope.spawn(move || {
                let client = Client::new(dump, b"/../..\0", 1448, Order::KeyFirst);
                Network::new(address, seed, 10).deliver(client);
            });
        }
        scope.spawn(move || {
            let mut network = Network::new(address, 3, 0);
            for _ in 0..2000 {
                let random = &mut network.random;
                let len = random.index(3000);
                let mut packet =
                    message(random.below(7) as u32, 1, random.next(), &vec![0xee; len]);
                packet.truncate(random.index(2 * len + 48));
                network.send(&packet);
            }
        });
    });
    let mut complete = 0;
    while complete < 2 {
        complete += usize::from(server.event()["outcome"] == "complete");
    }
    server.signal(Signal::INT);
    let run_of_server = server.wait();
    assert_eq!(run_of_server.code, 128 + 2, "{}", run_of_server.err);
    for name in names(dir.path()) {
        assert!(name.contains("127.0.0.1"), "{name}");
    }
    let parent = names(dir.path().parent().unwrap());
    assert!(!parent.iter().any(|name| name.contains("127.0.0.1")));
}

/// Sends all but the last `rest` batches, and waits until they have arrived.
fn send_part(server: &Server, dump: &Dump, rest: usize) {
    let client = Client::new(dump, b"", 1448, Order::KeyFirst);
    let batches = client.batches() - rest;
    Network::new(server.address, 1, 0).deliver(client.truncated(batches));
}

#[test]
fn signal_keeps_the_data_as_it_arrived() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &[]);
    // All but the kerneldumpheader and the last message.
    send_part(&server, &dump("device"), 2);
    server.signal(Signal::TERM);
    let run_of_server = server.wait();
    assert_eq!(run_of_server.code, 128 + 15, "{}", run_of_server.err);
    let event: Value = serde_json::from_slice(&run_of_server.out).unwrap();
    assert_eq!(
        (&event["ended"], &event["outcome"]),
        (&"stopped".into(), &"raw".into())
    );
    let file = dir.path().join("vmcore.127.0.0.1.0");
    assert!(fs::read(file).unwrap() == dump("device").data);
    let info = fs::read_to_string(dir.path().join("info.127.0.0.1.0")).unwrap();
    assert!(info.contains("\nDump incomplete: "), "{info}");
}

#[test]
fn silent_client_ends_with_a_dump_of_the_pages_that_arrived() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--once", "--timeout", "1"]);
    send_part(&server, &dump("device"), 2);
    let run_of_server = server.wait();
    assert_eq!(run_of_server.code, 3, "{}", run_of_server.err);
    let event: Value = serde_json::from_slice(&run_of_server.out).unwrap();
    assert_eq!(
        (&event["ended"], &event["outcome"]),
        (&"silent".into(), &"salvaged".into())
    );
    assert_eq!(event["pages_lost"], 0);
    let file = dir.path().join("vmcore.127.0.0.1.0.zst");
    run(["verify".as_ref(), file.as_os_str()]).expect(3);
}

/// The server cannot request what is missing: this client takes every message for acknowledged.
#[test]
fn gap_in_a_finished_dump_is_reported_and_its_page_is_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--once"]);
    let dump = dump("device");
    let network = Network::new(server.address, 1, 0);
    let mut client = Client::new(&dump, b"", 1448, Order::KeyFirst);
    let lost = dump.data.len() - 1500;
    while !client.is_done() {
        for packet in client.outgoing() {
            let offset = u64::from_be_bytes(packet[8..16].try_into().unwrap()) as usize;
            let is_lost = packet[3] == VMCORE as u8 && (offset..offset + 1448).contains(&lost);
            if !is_lost {
                network.send(&packet);
            }
            client.answer(&packet[4..8]);
        }
    }
    let run_of_server = server.wait();
    assert_eq!(run_of_server.code, 3, "{}", run_of_server.err);
    let event: Value = serde_json::from_slice(&run_of_server.out).unwrap();
    assert_eq!(
        (&event["ended"], &event["outcome"]),
        (&"finished".into(), &"salvaged".into())
    );
    assert_eq!(event["missing"].as_array().unwrap().len(), 1);
    assert!(event["missing_size"].as_u64().unwrap() <= 1448);
    assert!(event["pages_lost"].as_u64().unwrap() >= 1);
    assert!(
        run_of_server.err.contains("did not arrive"),
        "{}",
        run_of_server.err
    );
}

#[test]
fn data_that_is_no_dump_is_kept_as_it_arrived() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), &["--once"]);
    let mut noise = dump("device");
    noise.data = vec![0x5a; noise.data.len()];
    Network::new(server.address, 1, 0).deliver(Client::new(&noise, b"", 1448, Order::KeyFirst));
    let run_of_server = server.wait();
    assert_eq!(run_of_server.code, 2, "{}", run_of_server.err);
    let file = fs::read(dir.path().join("vmcore.127.0.0.1.0")).unwrap();
    assert!(file == noise.data[..noise.len]);
}

#[test]
fn requested_directory_is_used_only_below_the_directory_of_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("crash");
    fs::create_dir_all(base.join("lab")).unwrap();
    fs::create_dir(dir.path().join("other")).unwrap();
    for (path, is_in_lab) in [
        (&b"lab\0"[..], true),
        (b"../other\0", false),
        (b"new\0", false),
    ] {
        let server = Server::start(&base, &["--once"]);
        let client = Client::new(&dump("device"), path, 1448, Order::KeyFirst);
        Network::new(server.address, 1, 0).deliver(client);
        let run_of_server = server.wait();
        let not_granted = usize::from(!is_in_lab);
        assert_eq!(run_of_server.count("path-not-granted"), not_granted);
        let event: Value = serde_json::from_slice(&run_of_server.out).unwrap();
        let in_lab = event["dump"].as_str().unwrap().contains("/lab/");
        assert_eq!(in_lab, is_in_lab, "{event:#}");
    }
    assert!(names(&dir.path().join("other")).is_empty());
    assert!(!base.join("new").exists());
}

#[test]
fn existing_files_are_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    for file in [
        "vmcore.127.0.0.1.0",
        "info.127.0.0.1.1",
        "key.127.0.0.1.2",
        "vmcore.127.0.0.1.3.gz",
    ] {
        fs::write(dir.path().join(file), "old").unwrap();
    }
    let server = Server::start(dir.path(), &["--once"]);
    let client = Client::new(&dump("device"), b"", 1448, Order::KeyFirst);
    Network::new(server.address, 1, 0).deliver(client);
    let event: Value = serde_json::from_slice(&server.wait().out).unwrap();
    assert_eq!(event["number"], 4);
    let old = fs::read(dir.path().join("vmcore.127.0.0.1.0")).unwrap();
    assert_eq!(old, b"old");
}

#[test]
fn quota_of_a_host_counts_its_old_dumps() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("vmcore.127.0.0.1.0"), vec![1; 5000]).unwrap();
    let server = Server::start(dir.path(), &["--quota", "5000"]);
    let network = Network::new(server.address, 1, 0);
    network.send(&message(HERALD, 1, 0, b""));
    let mut answer = [0; 4];
    network.socket.set_read_timeout(Some(SOON)).unwrap();
    network.socket.recv_from(&mut answer).unwrap();
    network.send(&message(VMCORE, 2, 0, b"data"));
    network.send(&message(HERALD, 3, 0, b""));
    // The herald is answered, the data before it is not.
    network.socket.recv_from(&mut answer).unwrap();
    assert_eq!(answer, [0, 0, 0, 3]);
    server.signal(Signal::TERM);
    let run_of_server = server.wait();
    assert_eq!(run_of_server.code, 128 + 15);
    assert_eq!(run_of_server.count("dump-refused"), 1);
    assert_eq!(names(dir.path()), ["vmcore.127.0.0.1.0"]);
}

#[test]
fn hook_gets_the_outcome_as_json_and_counters_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let (out, counters) = (dir.path().join("crash"), dir.path().join("livecore.prom"));
    fs::create_dir(&out).unwrap();
    let seen = dir.path().join("seen");
    let hook = format!("cat > {}; exit 3", seen.display());
    let args = [
        "--once",
        "--hook",
        &hook,
        "--metrics",
        counters.to_str().unwrap(),
    ];
    let server = Server::start(&out, &args);
    let client = Client::new(&dump("device"), b"", 1448, Order::KeyFirst);
    Network::new(server.address, 1, 0).deliver(client);
    let run_of_server = server.wait();
    assert_eq!(run_of_server.code, 0, "{}", run_of_server.err);
    let printed: Value = serde_json::from_slice(&run_of_server.out).unwrap();
    let given: Value = serde_json::from_slice(&fs::read(seen).unwrap()).unwrap();
    assert_eq!(given, printed);
    assert!(
        run_of_server.err.contains("exit status: 3"),
        "{}",
        run_of_server.err
    );
    let text = fs::read_to_string(counters).unwrap();
    assert!(
        text.contains("\nlivecore_netdump_dumps_complete_total 1\n"),
        "{text}"
    );
    assert!(text.contains("\nlivecore_netdump_clients 0\n"), "{text}");
}

/// Names come from a file, not from the network.
#[test]
fn host_name_comes_from_the_file_of_names() {
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 lab7.example.org localhost\n").unwrap();
    let out = dir.path().join("crash");
    fs::create_dir(&out).unwrap();
    let server = Server::start(&out, &["--once", "--hosts", hosts.to_str().unwrap()]);
    let client = Client::new(&dump("device"), b"", 1448, Order::KeyFirst);
    Network::new(server.address, 1, 0).deliver(client);
    assert_eq!(server.wait().code, 0);
    let expected = [
        "bounds.lab7",
        "info.lab7.0",
        "info.lab7.last",
        "vmcore.lab7.0.zst",
        "vmcore.lab7.last",
    ];
    assert_eq!(names(&out), expected);
}

/// promtool also checks the text if it is installed.
#[test]
fn counters_are_valid_for_prometheus() {
    let text = livecore_livedump::netdump::Counters::default().text(0);
    assert!(exposition::parse(&text).values().all(|value| *value == 0.0));
    if !exposition::promtool(&text) {
        let _ = writeln!(std::io::stderr(), "skipped: promtool is not installed");
    }
}
