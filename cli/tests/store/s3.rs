//! A real S3 server: moto.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use crate::made::{done, fails, livecore, made, text, with_kernel};

/// A running server; it is killed at the end of the test.
struct Moto {
    child: Child,
    address: String,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the server with a bucket `crash`; says what is missing otherwise.
fn moto() -> Option<Moto> {
    let program = std::env::var_os("LIVECORE_MOTO").unwrap_or_else(|| "moto_server".into());
    let mut command = Command::new(&program);
    command.args(["-H", "127.0.0.1", "-p", "0"]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "skipped: {}: {error}", program.display());
            return None;
        }
    };
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines.find_map(|line| {
        let line = line.ok()?;
        let (_, address) = line.split_once("Running on http://")?;
        Some(address.trim().to_owned())
    });
    // The server must not wait for a reader of its log.
    std::thread::spawn(move || lines.for_each(drop));
    let moto = Moto {
        child,
        address: address.expect("the server prints its address"),
    };
    let answer = request(&moto.address, "PUT /crash");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    Some(moto)
}

/// The answer to a request without a body.
fn request(address: &str, line: &str) -> String {
    send(address, line, &[])
}

/// The answer to a request with a body.
fn send(address: &str, line: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = "HTTP/1.1\r\nHost: localhost\r\n\
        Authorization: AWS4-HMAC-SHA256 Credential=key/20261130/us-east-1/s3/aws4_request, \
        SignedHeaders=host, Signature=0\r\nConnection: close\r\n";
    let len = body.len();
    stream
        .write_all(format!("{line} {head}Content-Length: {len}\r\n\r\n").as_bytes())
        .unwrap();
    stream.write_all(body).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

impl Moto {
    fn livecore(&self, args: &[&str]) -> Command {
        let mut command = livecore(args);
        self.of(&mut command);
        command
    }

    /// Writes the object `key` of the bucket.
    fn put(&self, key: &str, bytes: &[u8]) {
        let answer = send(&self.address, &format!("PUT /crash/{key}"), bytes);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    /// Makes a command use this server.
    fn of(&self, command: &mut Command) {
        command
            .env("AWS_ENDPOINT_URL", format!("http://{}", self.address))
            .env("LIVECORE_STORE_TIMEOUT", "30");
    }
}

#[test]
fn dumps_are_written_read_and_verified_in_a_bucket() {
    let Some(moto) = moto() else { return };
    let made = made();
    let [dump, plain] = [&made.dump, &made.plain].map(|path| path.to_str().unwrap());
    let url = "s3://crash/web/vmcore.0.zst";
    done(&mut moto.livecore(&["convert", dump, url]));
    let report = text(&mut moto.livecore(&["convert", "--json", plain, "s3://crash/web/vmcore.1"]));
    assert!(
        report.contains(r#""path": "s3://crash/web/vmcore.1""#),
        "{report}"
    );
    done(&mut moto.livecore(&["compare", plain, "s3://crash/web/vmcore.1"]));
    let verified = text(&mut moto.livecore(&["verify", "s3://crash/web/"]));
    assert!(verified.contains("2 dumps: 2 sound"), "{verified}");
    let recursive = text(&mut moto.livecore(&["verify", "-r", "s3://crash"]));
    assert!(recursive.contains("2 dumps: 2 sound"), "{recursive}");
    for verb in ["dmesg", "threads"] {
        let mut command = with_kernel(verb, url);
        moto.of(&mut command);
        assert_eq!(
            text(&mut command),
            text(&mut with_kernel(verb, dump)),
            "{verb}"
        );
    }
    let mut group = moto.livecore(&["group", "-r", "s3://crash/", "--kernel-path"]);
    let grouped = text(group.arg(&made.kernel));
    assert!(
        grouped
            .lines()
            .any(|line| line.trim_start().starts_with("2 ")),
        "{grouped}"
    );
}

#[test]
fn objects_are_replaced_only_with_force() {
    let Some(moto) = moto() else { return };
    let plain = made().plain.to_str().unwrap();
    let url = "s3://crash/vmcore.0";
    let convert = ["convert", plain, url];
    done(&mut moto.livecore(&convert));
    let err = fails(&mut moto.livecore(&convert), 1);
    assert!(
        err.contains("object exists") && err.contains("--force"),
        "{err}"
    );
    done(&mut moto.livecore(&["convert", "--force", plain, url]));
    done(&mut moto.livecore(&["compare", plain, url]));
}

#[test]
fn take_writes_an_object() {
    let Some(moto) = moto() else { return };
    let machine = made().kernel.parent().unwrap().to_str().unwrap();
    let url = "s3://crash/vmcore.7.zst";
    done(&mut moto.livecore(&["take", "--image", machine, "-Z", "-o", url]));
    done(&mut moto.livecore(&["compare", url, made().dump.to_str().unwrap()]));
    let err = fails(
        &mut moto.livecore(&["take", "--image", machine, "-o", "s3://crash/a/"]),
        64,
    );
    assert!(err.contains("found a prefix"), "{err}");
}

#[test]
fn missing_objects_and_buckets_are_named() {
    let Some(moto) = moto() else { return };
    for url in ["s3://crash/none", "s3://none/none"] {
        let err = fails(&mut moto.livecore(&["info", url]), 1);
        assert!(err.contains(url) && err.contains("no such object"), "{err}");
    }
    let err = fails(&mut moto.livecore(&["verify", "s3://none/"]), 1);
    assert!(err.contains("s3://none/"), "{err}");
    let none = moto.livecore(&["verify", "s3://crash/"]).output().unwrap();
    assert_eq!(none.status.code(), Some(0));
}

#[test]
fn save_writes_numbered_objects_verifies_them_and_clears_the_device() {
    let Some(moto) = moto() else { return };
    let built = livecore_tests::mkdump::build_all(livecore_tests::corpus::MINIDUMP).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let device = dir.path().join("device");
    std::fs::write(&device, &built.bytes).unwrap();
    let path = device.to_str().unwrap();
    let save = |options: &[&str]| {
        let args = [&["save", "--json", "s3://crash/web/", path], options].concat();
        text(&mut moto.livecore(&args))
    };
    let kept = save(&["-k"]);
    assert!(
        kept.contains(r#""path": "s3://crash/web/vmcore.0.zst""#),
        "{kept}"
    );
    assert!(
        kept.contains(r#""check": "sound""#) && kept.contains(r#""cleared": false"#),
        "{kept}"
    );
    let cleared = save(&["--none"]);
    assert!(
        cleared.contains(r#""path": "s3://crash/web/vmcore.1""#),
        "{cleared}"
    );
    assert!(cleared.contains(r#""cleared": true"#), "{cleared}");
    assert!(std::fs::read(&device).unwrap() != built.bytes);
    done(&mut moto.livecore(&[
        "compare",
        "s3://crash/web/vmcore.0.zst",
        "s3://crash/web/vmcore.1",
    ]));
    let info = request(&moto.address, "GET /crash/web/info.1");
    assert!(info.contains("Dump Status: good"), "{info}");
    let err = fails(
        &mut moto.livecore(&["save", "-m", "3", "s3://crash/web/", path]),
        64,
    );
    assert!(err.contains("--max"), "{err}");
    let err = fails(&mut moto.livecore(&["save", "s3://crash/web", path]), 64);
    assert!(err.contains("expected a prefix"), "{err}");
}

/// A file of savecore(8) as an object next to its dump.
#[test]
fn info_and_key_objects_belong_to_the_dump_with_their_number() {
    let Some(moto) = moto() else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let key = path("private.pem");
    let openssl = ["genpkey", "-quiet", "-algorithm", "RSA", "-out"];
    let made = Command::new("openssl").args(openssl).arg(&key).status();
    if !made.is_ok_and(|status| status.success()) {
        let _ = writeln!(std::io::stderr(), "skipped: openssl cannot make a key");
        return;
    }
    let public = path("public.pem");
    let openssl = ["pkey", "-pubout", "-in", &key, "-out", &public];
    assert!(
        Command::new("openssl")
            .args(openssl)
            .status()
            .unwrap()
            .success()
    );
    let plain = crate::made::made().plain.to_str().unwrap();
    let sealed = path("sealed");
    done(&mut livecore(&[
        "convert",
        "--encrypt",
        &public,
        plain,
        &sealed,
    ]));
    let files = path("files");
    std::fs::create_dir(&files).unwrap();
    done(&mut livecore(&[
        "export",
        "--encrypted",
        &sealed,
        &files,
        "--key",
        &key,
    ]));
    for name in ["vmcore_encrypted.0", "key.0", "info.0"] {
        let bytes = std::fs::read(format!("{files}/{name}")).unwrap();
        moto.put(&format!("web/{name}"), &bytes);
        if name != "key.0" {
            moto.put(&format!("lost/{name}"), &bytes);
        }
    }
    let url = "s3://crash/web/vmcore_encrypted.0";
    let with_key = |verb: &str, url: &str| moto.livecore(&[verb, "--key", &key, url]);
    done(&mut with_key("verify", url));
    let decrypted = path("decrypted");
    done(&mut moto.livecore(&["decrypt", "--key", &key, url, &decrypted]));
    done(&mut livecore(&["compare", &decrypted, plain]));
    // Without a seal, only the info file has the name of the host.
    done(&mut livecore(&["export", plain, &files]));
    for name in ["vmcore.1", "info.1"] {
        let bytes = std::fs::read(format!("{files}/{name}")).unwrap();
        moto.put(&format!("raw/{name}"), &bytes);
    }
    let info = text(&mut moto.livecore(&["info", "s3://crash/raw/vmcore.1"]));
    assert!(
        info.contains("s3://crash/raw/info.1") && info.contains("synth.example.org"),
        "{info}"
    );
    let err = fails(&mut moto.livecore(&["dmesg", url]), 1);
    assert!(err.contains("encrypted") && err.contains("--key"), "{err}");
    let err = fails(
        &mut with_key("dmesg", "s3://crash/lost/vmcore_encrypted.0"),
        63,
    );
    assert!(err.contains("without its key file key.0"), "{err}");
}

#[test]
fn packs_are_opened_in_a_bucket() {
    let Some(moto) = moto() else { return };
    let made = made();
    let [dump, kernel] = [&made.dump, &made.kernel].map(|path| path.to_str().unwrap());
    let url = "s3://crash/crash.tar.zst";
    done(&mut moto.livecore(&["pack", "--kernel", kernel, dump, url]));
    for verb in ["info", "verify", "threads", "dmesg"] {
        done(&mut moto.livecore(&[verb, url]));
    }
    // The kernel is that of the pack.
    assert_eq!(
        text(&mut moto.livecore(&["threads", url])),
        text(&mut with_kernel("threads", dump))
    );
    done(&mut moto.livecore(&["compare", url, dump]));
    // A damaged member is found.
    let local = made.dump.with_file_name("crash.tar.zst");
    done(livecore(&["pack", "--force", "--kernel", kernel, dump]).arg(&local));
    let mut bytes = std::fs::read(&local).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    moto.put("damaged.tar.zst", &bytes);
    std::fs::write(&local, &bytes).unwrap();
    let verify = |mut command: Command| command.output().unwrap();
    let of_file = verify(livecore(&["verify", local.to_str().unwrap()]));
    let of_object = verify(moto.livecore(&["verify", "s3://crash/damaged.tar.zst"]));
    assert_eq!(
        of_object.status.code(),
        of_file.status.code(),
        "{of_object:?}"
    );
    assert_eq!(of_object.status.code(), Some(2), "{of_object:?}");
}
