//! A server for tests: it serves one object by ranges, takes uploads in parts as S3 does, and does what it should
//! not if a test wants that.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// The most time that a step may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Its number, from 0.
    pub(crate) number: usize,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The bytes of the header `Range`.
    pub(crate) fn range(&self) -> Option<(u64, u64)> {
        let range = self.headers.get("range")?.strip_prefix("bytes=")?;
        let (start, last) = range.split_once('-')?;
        Some((start.parse().ok()?, last.parse::<u64>().ok()? + 1))
    }
}

/// What the server does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// The right answer.
    Right,
    /// An error of this status.
    Status(u16),
    /// The complete object, instead of a range.
    Whole,
    /// The bytes of another range.
    OtherRange,
    /// The right range with a size beyond 64 bits.
    Overflow,
    /// Half of the bytes, and the end of the connection.
    Half,
    /// Half of the bytes in chunks, and a correct end.
    HalfInChunks,
    /// More bytes than requested, in chunks.
    Endless,
    /// An error whose text does not end.
    EndlessError,
    /// Another entity tag.
    OtherTag,
    /// No entity tag.
    NoTag,
    /// Another size of the object.
    OtherSize,
    /// No answer.
    Silence,
    /// Half of the bytes, and then nothing.
    HalfAndSilence,
    /// The end of the connection.
    Closed,
    /// Bytes that are not HTTP.
    Noise,
}

type Script = dyn Fn(&Request) -> Act + Send + Sync;

struct Shared {
    object: Vec<u8>,
    script: Box<Script>,
    requests: Mutex<Vec<Request>>,
    changed: Condvar,
}

/// A server on the loopback interface.
pub(crate) struct Server {
    pub(crate) address: String,
    shared: Arc<Shared>,
}

impl Server {
    /// Serves `object`; `script` selects what happens to each request.
    pub(crate) fn start(
        object: &[u8],
        script: impl Fn(&Request) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            object: object.to_vec(),
            script: Box::new(script),
            requests: Mutex::default(),
            changed: Condvar::new(),
        });
        let of_thread = Arc::clone(&shared);
        // It ends with the process.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&of_thread);
                thread::spawn(move || {
                    // The client may close the connection at any time.
                    let _ = serve(stream, &shared);
                });
            }
        });
        Self { address, shared }
    }

    /// The URL of the object.
    pub(crate) fn url(&self) -> String {
        format!("{}/crash/vmcore.0.zst", self.address)
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// Waits until a request has arrived.
    pub(crate) fn wait_for(&self, what: &str, found: impl Fn(&Request) -> bool) {
        let began = Instant::now();
        let mut requests = self.shared.requests.lock().unwrap();
        while !requests.iter().any(&found) {
            assert!(began.elapsed() < LIMIT, "no {what}: {requests:?}");
            let step = Duration::from_millis(100);
            requests = self.shared.changed.wait_timeout(requests, step).unwrap().0;
        }
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            match line.trim_end().split_once(": ") {
                Some((name, value)) => headers.insert(name.to_ascii_lowercase(), value.to_owned()),
                None => break,
            };
        }
        let len = headers
            .get("content-length")
            .map_or(0, |len| len.parse().unwrap());
        let mut body = vec![0; len];
        reader.read_exact(&mut body)?;
        let mut requests = shared.requests.lock().unwrap();
        let request = Request {
            number: requests.len(),
            method,
            target,
            headers,
            body,
        };
        requests.push(request.clone());
        drop(requests);
        shared.changed.notify_all();
        let act = (shared.script)(&request);
        if !answer(&request, act, shared, &mut out)? {
            return Ok(());
        }
    }
}

/// Answers a request. Returns whether the connection goes on.
fn answer(
    request: &Request,
    act: Act,
    shared: &Shared,
    out: &mut TcpStream,
) -> std::io::Result<bool> {
    match act {
        Act::Status(status) => {
            let text = "<Error><Code>Made</Code>\n<Message>for\x1b[31m the test</Message></Error>";
            write!(
                out,
                "HTTP/1.1 {status} Made\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            )?;
            return Ok(true);
        }
        Act::EndlessError => {
            out.write_all(b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            loop {
                out.write_all(b"10000\r\n")?;
                out.write_all(&[b'x'; 0x10000])?;
                out.write_all(b"\r\n")?;
            }
        }
        Act::Silence => {
            // Until the client closes the connection.
            let _ = out.read(&mut [0]);
            return Ok(false);
        }
        Act::Closed => return Ok(false),
        Act::Noise => {
            out.write_all(b"\0\x01\x02 not HTTP\r\n\r\n")?;
            return Ok(false);
        }
        _ if request.range().is_none() => return upload(request, shared, out).map(|()| true),
        _ => {}
    }
    let object = &shared.object;
    let (start, end) = request.range().unwrap();
    let end = end.min(object.len() as u64);
    let (mut shown, mut size) = ((start, end - 1), object.len() as u64);
    let body = &object[start as usize..end as usize];
    let mut tag = "ETag: \"one\"\r\n";
    let half = &body[..body.len() / 2];
    match act {
        Act::Whole => {
            write!(
                out,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{tag}\r\n",
                object.len()
            )?;
            out.write_all(object)?;
            return Ok(true);
        }
        Act::OtherRange => shown = (start + 1, end),
        Act::Overflow => shown.1 = u64::MAX,
        Act::OtherTag => tag = "ETag: \"two\"\r\n",
        Act::NoTag => tag = "",
        Act::OtherSize => size += 1,
        _ => {}
    }
    write!(
        out,
        "HTTP/1.1 206 Partial Content\r\n{tag}Last-Modified: Mon, 30 Nov 2026 04:00:00 GMT\r\n\
         Content-Range: bytes {}-{}/{size}\r\n",
        shown.0, shown.1
    )?;
    match act {
        Act::HalfInChunks => {
            write!(
                out,
                "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n",
                half.len()
            )?;
            out.write_all(half)?;
            out.write_all(b"\r\n0\r\n\r\n")?;
        }
        Act::Endless => {
            write!(out, "Transfer-Encoding: chunked\r\n\r\n")?;
            loop {
                write!(out, "{:x}\r\n", body.len())?;
                out.write_all(body)?;
                out.write_all(b"\r\n")?;
            }
        }
        Act::Half | Act::HalfAndSilence => {
            write!(out, "Content-Length: {}\r\n\r\n", body.len())?;
            out.write_all(half)?;
            if act == Act::HalfAndSilence {
                let _ = out.read(&mut [0]);
            }
            return Ok(false);
        }
        _ => {
            write!(out, "Content-Length: {}\r\n\r\n", body.len())?;
            out.write_all(body)?;
        }
    }
    Ok(true)
}

/// Answers the requests of an upload, of which S3 knows these: begin, part, complete, abort; and those that look for
/// the object, which exists when it is complete.
fn upload(request: &Request, shared: &Shared, out: &mut TcpStream) -> std::io::Result<()> {
    let requests = shared.requests.lock().unwrap();
    // A repeated part replaces the first.
    let parts: HashMap<_, _> = requests
        .iter()
        .filter(|r| r.method == "PUT")
        .map(|part| (part.part(), part.body.len()))
        .collect();
    let size: usize = parts.values().sum();
    let is_complete = requests[..request.number]
        .iter()
        .any(|r| r.is_complete() || r.method == "PUT" && !r.target.contains('?'));
    drop(requests);
    let (status, headers, body) = match &request.method[..] {
        "HEAD" if is_complete => {
            let headers = format!(
                "Content-Length: {size}\r\nETag: \"up\"\r\nLast-Modified: Mon, 30 Nov 2026 04:00:00 GMT\r\n"
            );
            write!(out, "HTTP/1.1 200 OK\r\n{headers}\r\n")?;
            return Ok(());
        }
        "HEAD" => {
            write!(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
            return Ok(());
        }
        "POST" if request.is_complete() => (
            "200 OK",
            String::new(),
            "<CompleteMultipartUploadResult><ETag>\"up\"</ETag></CompleteMultipartUploadResult>",
        ),
        "POST" => (
            "200 OK",
            String::new(),
            "<InitiateMultipartUploadResult><UploadId>up</UploadId></InitiateMultipartUploadResult>",
        ),
        "PUT" => ("200 OK", format!("ETag: \"{}\"\r\n", request.number), ""),
        "DELETE" => ("204 No Content", String::new(), ""),
        _ => ("405 Method Not Allowed", String::new(), ""),
    };
    write!(
        out,
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

impl Request {
    /// Whether it completes an upload.
    pub(crate) fn is_complete(&self) -> bool {
        self.method == "POST" && self.target.contains("uploadId=")
    }

    /// Whether it aborts an upload.
    pub(crate) fn is_abort(&self) -> bool {
        self.method == "DELETE" && self.target.contains("uploadId=")
    }

    /// The number of the part that it sends.
    pub(crate) fn part(&self) -> Option<u32> {
        let (_, number) = self.target.split_once("partNumber=")?;
        let digits = number.split('&').next()?;
        digits.parse().ok()
    }
}
