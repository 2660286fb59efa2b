//! Kernels and debug files from servers in `DEBUGINFOD_URLS`.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tempfile::TempDir;

use crate::debuggers::have;
use crate::harness::{MESSAGES, Run, livecore, names, tool};
use crate::pack::split;
use crate::served::{debug, tiny};

/// The dump of a machine with a compiled kernel in one directory; the kernel, without debug information,
/// and its debug file in another.
struct Made {
    here: TempDir,
    served: TempDir,
    id: String,
}

impl Made {
    fn new() -> Self {
        let made = Self {
            here: tempfile::tempdir().unwrap(),
            served: tempfile::tempdir().unwrap(),
            id: String::new(),
        };
        fs::copy(&debug().dump, made.dump()).unwrap();
        split(&debug().kernel, made.served.path());
        let notes = tool("readelf", &["-n"], &made.served.path().join("kernel"));
        let notes = String::from_utf8(notes).unwrap();
        let (_, id) = notes.split_once("Build ID: ").expect("a build-id");
        Self {
            id: id.lines().next().unwrap().into(),
            ..made
        }
    }

    fn dump(&self) -> PathBuf {
        self.here.path().join("vmcore.0.zst")
    }

    fn served(&self, name: &str) -> Vec<u8> {
        fs::read(self.served.path().join(name)).unwrap()
    }

    /// Runs `threads --json`.
    fn threads(&self, urls: &str, more: &[&str]) -> Run {
        Run::of(self.command(urls).args(more).output().unwrap())
    }

    fn command(&self, urls: &str) -> Command {
        let mut command = self.environment(urls);
        command.args(["threads", "--json"]).arg(self.dump());
        command
    }

    /// Livecore with a cache in the directory of the dump.
    fn environment(&self, urls: &str) -> Command {
        let mut command = livecore();
        command.env("DEBUGINFOD_URLS", urls);
        command.env("XDG_CACHE_HOME", self.here.path().join("cache"));
        command.env("NO_PROXY", "127.0.0.1");
        command.env("DEBUGINFOD_TIMEOUT", "2");
        command.env("DEBUGINFOD_MAXSIZE", (64 << 20).to_string());
        command.args(MESSAGES);
        command
    }

    fn cache(&self) -> PathBuf {
        self.here.path().join("cache/livecore/debuginfod")
    }
}

/// What a server answers to a path.
type Answer = dyn Fn(&str) -> Vec<u8> + Send + Sync;

/// What a server does after its answer.
#[derive(Clone, Copy)]
enum Then {
    Close,
    /// Sends zeros without end.
    Continue,
    /// Sends nothing until the client closes the connection.
    Wait,
}

/// An HTTP server on loopback, and the paths that were requested.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::with(Then::Close, answer)
    }

    fn with(then: Then, answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (list, answer): (_, Box<Answer>) = (Arc::clone(&asked), Box::new(answer));
        // The thread ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                serve(client, &list, &*answer, then);
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn serve(mut client: TcpStream, list: &Mutex<Vec<String>>, answer: &Answer, then: Then) {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && client.read(&mut byte).is_ok_and(|got| got == 1) {
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    let bytes = answer(&path);
    list.lock().unwrap().push(path);
    let _ = client.write_all(&bytes);
    match then {
        Then::Close => {}
        Then::Continue => while client.write_all(&[0; 1 << 16]).is_ok() {},
        Then::Wait => while client.read(&mut byte).is_ok_and(|got| got == 1) {},
    }
}

fn ok(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// A complete head, and one byte of the body.
fn head(field: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\nx").into_bytes()
}

fn redirect(to: &str) -> Vec<u8> {
    status(&format!("302 Found\r\nLocation: {to}"))
}

fn status(line: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

/// Whether frames have source lines, which are in the debug file.
fn has_lines(run: &Run) -> bool {
    let value: Value = serde_json::from_slice(&run.out).unwrap();
    value.to_string().contains("functions.h")
}

/// A server that has both files.
fn complete(made: &Made) -> Server {
    let (kernel, debug) = (made.served("kernel"), made.served("kernel.debug"));
    let id = made.id.clone();
    Server::new(
        move |path| match path.strip_prefix(&format!("/buildid/{id}/")) {
            Some("executable") => ok(&kernel),
            Some("debuginfo") => ok(&debug),
            _ => status("404 Not Found"),
        },
    )
}

#[test]
fn kernel_and_debug_file_are_downloaded_once() {
    let made = Made::new();
    let server = complete(&made);
    // Without the variable, there are no requests.
    made.threads("", &[]).expect(1).error("kernel-not-found");
    assert_eq!(server.asked(), Vec::<String>::new());
    let first = made.threads(&server.url, &[]).expect(0);
    assert!(has_lines(&first), "{}", first.err);
    let paths = ["executable", "debuginfo"].map(|name| format!("/buildid/{}/{name}", made.id));
    assert_eq!(server.asked(), paths);
    let kept = ["debuginfo", "executable"].map(|name| format!("{}-{name}", made.id));
    assert_eq!(names(&made.cache()), kept);
    for name in kept {
        let mode = fs::metadata(made.cache().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600);
    }
    let again = made.threads(&server.url, &[]).expect(0);
    assert!(again.out == first.out);
    assert_eq!(server.asked(), Vec::<String>::new());
    // A file in the cache that is damaged is downloaded again.
    let kernel = made.cache().join(format!("{}-executable", made.id));
    fs::write(&kernel, "x").unwrap();
    made.threads(&server.url, &[]).expect(0);
    assert_eq!(server.asked(), paths[..1]);
    // The debug file of a named kernel.
    fs::remove_dir_all(made.cache()).unwrap();
    let named = made.here.path().join("mine");
    fs::create_dir(&named).unwrap();
    fs::write(named.join("kernel"), made.served("kernel")).unwrap();
    let named = named.join("kernel");
    let run = made
        .threads(&server.url, &["--kernel", named.to_str().unwrap()])
        .expect(0);
    assert!(has_lines(&run), "{}", run.err);
    assert_eq!(server.asked(), paths[1..]);
    let mut command = livecore();
    command.env("XDG_CACHE_HOME", made.here.path().join("cache"));
    let cleared = Run::of(command.args(["cache", "clear"]).output().unwrap()).expect(0);
    assert!(
        cleared.text().contains("removed 1 file"),
        "{}",
        cleared.text()
    );
    assert!(!made.cache().exists());
}

#[test]
fn wrong_answers_are_refused_in_one_line() {
    let made = Made::new();
    let other = fs::read(&tiny().kernel).unwrap();
    let refuse = |server: &Server, expected: &str| {
        let run = made.threads(&server.url, &[]).expect(1);
        run.error("kernel-not-found");
        let said = run.messages();
        let said = said
            .iter()
            .find(|m| m["id"] == "not-downloaded")
            .expect(&run.err);
        let text = said["message"].as_str().unwrap();
        assert!(text.contains(expected) && !text.contains('\n'), "{text}");
        let left = fs::read_dir(made.cache()).into_iter().flatten().count();
        assert_eq!(left, 0, "{expected}");
        server.asked().len()
    };
    let wrong = Server::new(move |_| ok(&other));
    assert_eq!(refuse(&wrong, "refused: found no build-id, expected "), 1);
    let junk = Server::new(|_| ok(b"<html>not an ELF file</html>"));
    assert_eq!(refuse(&junk, "refused: "), 1);
    let absent = Server::new(|_| status("404 Not Found"));
    assert_eq!(refuse(&absent, "the server does not have it"), 1);
    let broken = Server::new(|_| status("503 Service Unavailable"));
    assert_eq!(refuse(&broken, "HTTP status 503 (3 attempts)"), 3);
    let huge = Server::new(|_| head("Content-Length: 99999999999999"));
    assert_eq!(refuse(&huge, "expected at most 67108864"), 1);
    let endless = Server::with(Then::Continue, |_| head("Connection: close"));
    assert_eq!(refuse(&endless, "expected at most 67108864"), 1);
    let chunked = Server::with(Then::Continue, |_| head("Transfer-Encoding: chunked"));
    assert_eq!(refuse(&chunked, "not downloaded"), 1);
    let short = Server::new(|_| head("Content-Length: 1000"));
    assert_eq!(refuse(&short, "(3 attempts)"), 3);
    // Without a length, only the end of the file shows that it is truncated.
    let kernel = made.served("kernel");
    let truncated = Server::new(move |_| {
        [
            head("Connection: close"),
            kernel[..kernel.len() / 2].to_vec(),
        ]
        .concat()
    });
    assert_eq!(refuse(&truncated, "refused: "), 1);
    let silent = Server::with(Then::Wait, |_| Vec::new());
    assert_eq!(refuse(&silent, "no answer for 2 s"), 1);
    let stops = Server::with(Then::Wait, |_| head("Content-Length: 1000"));
    assert_eq!(refuse(&stops, "no answer for 2 s"), 1);
    let round = Server::new(redirect);
    assert_eq!(refuse(&round, "too many redirects"), 4);
    let there = wrong.url.replace("http:", "https:");
    let secure = Server::new(move |_| redirect(&there));
    assert_eq!(refuse(&secure, "https, which is not supported"), 1);
    let escape = Server::new(|_| b"HTTP/1.1 200 \x1b[31m\nOK\r\n\r\n".to_vec());
    refuse(&escape, "");
    // No server listens.
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let secure = absent.url.replace("http:", "https:");
    let urls = format!("ima:ignore http://{closed} {secure} {}", absent.url);
    let run = made.threads(&urls, &[]).expect(1);
    assert_eq!(run.count("not-downloaded"), 1, "{}", run.err);
    assert!(run.err.contains(&closed.to_string()), "{}", run.err);
    assert!(!run.err.contains("https:"), "{}", run.err);
    assert!(!run.err.contains("ima:"), "{}", run.err);
    assert_eq!(absent.asked().len(), 1);
    // Linux distributions set such a URL for all users.
    let run = made.threads(&secure, &[]).expect(1);
    assert_eq!(run.count("not-downloaded"), 0, "{}", run.err);
}

#[test]
fn a_redirect_to_the_file_is_followed() {
    let made = Made::new();
    let server = complete(&made);
    let there = server.url.clone();
    let first = Server::new(move |path| redirect(&format!("{there}{path}")));
    let run = made.threads(&first.url, &[]).expect(0);
    assert!(has_lines(&run), "{}", run.err);
    assert_eq!((first.asked().len(), server.asked().len()), (2, 2));
}

#[test]
fn wrong_settings_are_reported() {
    let made = Made::new();
    let server = complete(&made);
    for (name, value) in [
        ("DEBUGINFOD_TIMEOUT", "soon"),
        ("DEBUGINFOD_MAXTIME", "0"),
        ("DEBUGINFOD_MAXSIZE", "-1"),
    ] {
        let mut command = made.command(&server.url);
        let run = Run::of(command.env(name, value).output().unwrap()).expect(1);
        assert_eq!(run.count("not-downloaded"), 1, "{}", run.err);
        assert!(run.err.contains(name), "{}", run.err);
    }
    assert_eq!(server.asked(), Vec::<String>::new());
}

/// Verbs that do not need the kernel ignore failed downloads. `compare` sends no request, because it uses a
/// kernel only for names.
#[test]
fn verbs_that_need_no_kernel_do_not_fail() {
    let made = Made::new();
    let absent = Server::new(|_| status("404 Not Found"));
    let run = |args: &[&str]| {
        let mut command = made.environment(&absent.url);
        Run::of(command.args(args).output().unwrap()).expect(0);
    };
    let dump = made.dump();
    let dump = dump.to_str().unwrap();
    run(&["read", dump, "--phys", "0x200000", "16"]);
    run(&["dmesg", dump]);
    run(&["convert", dump, "-"]);
    absent.asked();
    run(&["compare", dump, dump]);
    run(&["verify", dump]);
    run(&["info", dump]);
    assert_eq!(absent.asked(), Vec::<String>::new());
}

/// A running debuginfod(8) with a temporary directory.
struct Debuginfod(Child);

impl Debuginfod {
    /// Serves the files of `made`. Returns the port.
    fn start(made: &Made) -> (Self, u16) {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let log = fs::File::create(made.here.path().join("log")).unwrap();
        let child = Command::new("debuginfod")
            .args(["-v", "-d", ":memory:", "-p", &port.to_string(), "-F"])
            .arg(made.served.path())
            .env_remove("DEBUGINFOD_URLS")
            .env("HOME", made.here.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        (Self(child.unwrap()), port)
    }
}

impl Drop for Debuginfod {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn debuginfod_serves_the_kernel() {
    if !have("debuginfod") {
        return;
    }
    let made = Made::new();
    let wanted = format!("/buildid/{}/executable", made.id);
    // Another program may use the port before debuginfod does.
    for _ in 0..5 {
        let (mut server, port) = Debuginfod::start(&made);
        // debuginfod has the files after it has read the directory.
        while server.0.try_wait().unwrap().is_none() {
            if is_served(port, &wanted) {
                let url = format!("http://127.0.0.1:{port}/");
                let run = made.threads(&url, &[]).expect(0);
                assert!(has_lines(&run), "{}\n{}", run.err, logged(made.here.path()));
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
    }
    panic!("{}", logged(made.here.path()));
}

fn logged(dir: &Path) -> String {
    fs::read_to_string(dir.join("log")).unwrap_or_default()
}

fn is_served(port: u16, path: &str) -> bool {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let mut answer = [0; 12];
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    server.write_all(request.as_bytes()).is_ok()
        && server.read_exact(&mut answer).is_ok()
        && answer.ends_with(b" 200")
}
