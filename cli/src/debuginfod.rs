//! Downloads kernels and debug files from the servers in `DEBUGINFOD_URLS`, as debuginfod(8) serves them.
//!
//! A server answers `GET /buildid/ID/executable` and `GET /buildid/ID/debuginfo`, where ID is the build-id
//! in hexadecimal. A file is used only if it has this build-id. It is kept in the user's cache.

use std::fs;
use std::io::{self, Read, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use livecore_compress::ReadAt;
use livecore_defs::text::hex;
use livecore_livedump::publish::{Destination, Options};
use livecore_minidump::elf::sections::Sections;

use crate::env::{Env, make_private};
use crate::failure::{Failure, without_errno};
use crate::text::Bytes;
use crate::variable::number;

/// Requests for each server. Later ones follow only errors that can be temporary.
const ATTEMPTS: u32 = 3;
/// The delay before the second request. It doubles for the third.
const DELAY: Duration = Duration::from_millis(200);
/// Maximum number of servers.
const SERVERS: usize = 8;
/// Maximum number of redirects of a request.
const REDIRECTS: u32 = 3;
/// The directory in the cache.
const DIRECTORY: &str = "debuginfod";

/// What to download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The file with code.
    Executable,
    /// The debug file.
    Debuginfo,
}

impl Wanted {
    fn name(self) -> &'static str {
        match self {
            Self::Executable => "executable",
            Self::Debuginfo => "debuginfo",
        }
    }
}

/// What a download may take, from the environment variables of debuginfod-find(1).
struct Limits {
    /// The time that a server may be silent.
    silence: Duration,
    /// The time for a file, from all servers.
    total: Duration,
    /// The size of a file, in bytes.
    size: u64,
}

impl Limits {
    fn of_process() -> Result<Self, Failure> {
        let seconds = |name, default| {
            let valid: RangeInclusive<u64> = 1..=86400;
            number(name, default, valid).map(Duration::from_secs)
        };
        Ok(Self {
            silence: seconds("DEBUGINFOD_TIMEOUT", 20)?,
            total: seconds("DEBUGINFOD_MAXTIME", 600)?,
            size: number("DEBUGINFOD_MAXSIZE", 1 << 30, 1..=1 << 40)?,
        })
    }
}

/// The directory of downloaded files. `None` if no servers are set or there is no cache.
pub(crate) fn directory(env: &Env) -> Option<PathBuf> {
    match &env.debuginfod[..] {
        [] => None,
        _ => Some(env.cache_dir.as_ref()?.join(DIRECTORY)),
    }
}

/// Removes all downloaded files from the cache `dir`. Returns their number and size.
///
/// # Errors
///
/// A file cannot be removed.
pub(crate) fn clear(dir: &Path) -> io::Result<(u64, u64)> {
    let top = dir.join(DIRECTORY);
    let (mut files, mut bytes) = (0, 0);
    let entries = match fs::read_dir(&top) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((0, 0)),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        bytes += entry.metadata()?.len();
        fs::remove_file(entry.path())?;
        files += 1;
    }
    fs::remove_dir(top)?;
    Ok((files, bytes))
}

/// Returns the path of the file with build-id `id`: in the cache, or else downloaded. `None` if no servers
/// are set.
///
/// # Errors
///
/// Why no server provides the file, in one line.
pub(crate) fn file(id: &[u8], wanted: Wanted, env: &Env) -> Result<Option<PathBuf>, String> {
    if env.debuginfod.is_empty() {
        return Ok(None);
    }
    let directory =
        directory(env).ok_or("no cache directory: set HOME, and do not use --no-cache")?;
    let path = directory.join(format!("{}-{}", hex(id), wanted.name()));
    if fs::File::open(&path).is_ok_and(|file| require(&file, id).is_ok()) {
        return Ok(Some(path));
    }
    let limits = Limits::of_process().map_err(|e| e.what().to_owned())?;
    let download = Download {
        id,
        path: &path,
        end: Instant::now() + limits.total,
        limits,
        env,
    };
    let mut failed = Vec::new();
    for server in env.debuginfod.iter().take(SERVERS) {
        let server = server.trim_end_matches('/');
        let url = format!("{server}/buildid/{}/{}", hex(id), wanted.name());
        match download.run(&url) {
            Ok(()) => return Ok(Some(path)),
            Err(why) => failed.push(format!("{}: {why}", without_password(server))),
        }
    }
    Err(failed.join("; "))
}

/// Checks that `file` has the build-id `id`.
fn require(file: &dyn ReadAt, id: &[u8]) -> Result<(), String> {
    let sections = Sections::read(file).map_err(|e| e.to_string())?;
    match sections.build_id(file) {
        Some((found, _)) if found == id => Ok(()),
        Some((found, _)) => Err(format!(
            "found build-id {}, expected {}",
            hex(&found),
            hex(id)
        )),
        None => Err(format!("found no build-id, expected {}", hex(id))),
    }
}

/// A failed request.
struct Failed {
    why: String,
    /// Whether another request can succeed.
    is_temporary: bool,
}

impl Failed {
    fn finally(why: impl ToString) -> Self {
        Self {
            why: without_errno(&why.to_string()),
            is_temporary: false,
        }
    }
}

/// The download of one file.
struct Download<'a> {
    id: &'a [u8],
    path: &'a Path,
    limits: Limits,
    end: Instant,
    env: &'a Env,
}

impl Download<'_> {
    /// Downloads the file from `url`, in at most [`ATTEMPTS`] requests.
    fn run(&self, url: &str) -> Result<(), String> {
        if !url.starts_with("http://") {
            return Err("expected a URL that begins with http://".into());
        }
        let mut attempt = 1;
        loop {
            match self.get(url) {
                Ok(()) => return Ok(()),
                Err(failed) if attempt == ATTEMPTS || !failed.is_temporary => {
                    let times = match attempt {
                        1 => String::new(),
                        attempts => format!(" ({attempts} attempts)"),
                    };
                    return Err(failed.why + &times);
                }
                Err(_) => sleep(DELAY * attempt),
            }
            attempt += 1;
        }
    }

    fn get(&self, url: &str) -> Result<(), Failed> {
        if self.env.interrupt.raised().is_some() {
            return Err(Failed::finally("cancelled"));
        }
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.failed(ureq::Error::Timeout(ureq::Timeout::Global)));
        }
        let silence = Some(self.limits.silence);
        let config = ureq::Agent::config_builder()
            .timeout_resolve(silence)
            .timeout_connect(silence)
            .timeout_recv_response(silence)
            .timeout_per_read(silence)
            .timeout_global(Some(left))
            .max_redirects(REDIRECTS)
            .http_status_as_error(false)
            .user_agent(concat!("livecore/", env!("CARGO_PKG_VERSION")));
        let agent: ureq::Agent = config.build().into();
        let mut answer = agent.get(url).call().map_err(|e| self.failed(e))?;
        let status = answer.status();
        if status.as_u16() == 404 {
            return Err(Failed::finally("the server does not have it"));
        }
        if status.as_u16() != 200 {
            return Err(Failed {
                why: format!("HTTP status {}", status.as_u16()),
                is_temporary: status.is_server_error(),
            });
        }
        let len = answer.body().content_length();
        if let Some(len) = len.filter(|len| *len > self.limits.size) {
            let (len, most) = (Bytes(len), Bytes(self.limits.size));
            return Err(Failed::finally(format!(
                "found {len}, expected at most {most}"
            )));
        }
        self.keep(&mut answer.body_mut().as_reader())
    }

    /// Writes the file under its name if it is complete.
    fn keep(&self, body: &mut dyn Read) -> Result<(), Failed> {
        make_private(self.path.parent().unwrap_or(self.path)).map_err(Failed::finally)?;
        let options = Options::default().force(true);
        let destination = Destination::File(self.path.to_owned());
        let mut file = destination.begin(&options).map_err(Failed::finally)?;
        let mut piece = vec![0; 1 << 16];
        let mut size = 0;
        loop {
            if self.env.interrupt.raised().is_some() {
                return Err(Failed::finally("cancelled"));
            }
            let got = body
                .read(&mut piece)
                .map_err(|e| self.failed(ureq::Error::from(e)))?;
            if got == 0 {
                break;
            }
            size += got as u64;
            if size > self.limits.size {
                let most = Bytes(self.limits.size);
                return Err(Failed::finally(format!("expected at most {most}")));
            }
            file.write_all(&piece[..got]).map_err(Failed::finally)?;
        }
        let written = file
            .file()
            .ok_or_else(|| Failed::finally("not a regular file"))?;
        require(written, self.id).map_err(|why| Failed::finally(format!("refused: {why}")))?;
        file.publish(&|_| Vec::new()).map_err(Failed::finally)?;
        Ok(())
    }

    fn failed(&self, error: ureq::Error) -> Failed {
        match error {
            ureq::Error::Io(e) => Failed {
                is_temporary: true,
                ..Failed::finally(e)
            },
            ureq::Error::Timeout(ureq::Timeout::Global) => Failed::finally(format!(
                "not complete after {} s",
                self.limits.total.as_secs()
            )),
            ureq::Error::Timeout(_) => {
                Failed::finally(format!("no answer for {} s", self.limits.silence.as_secs()))
            }
            ureq::Error::TlsRequired => {
                Failed::finally("redirected to https, which is not supported")
            }
            error => Failed::finally(error),
        }
    }
}

/// `url` without the user and password in it.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_printed() {
        for (url, printed) in [
            ("http://user:secret@host:8002/a@b", "http://host:8002/a@b"),
            ("http://host/x", "http://host/x"),
            ("host", "host"),
        ] {
            assert_eq!(without_password(url), printed);
        }
    }
}
