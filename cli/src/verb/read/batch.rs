//! `livecore read DUMP --batch`: answers requests from standard input, one for each line.
//!
//! There is exactly one answer for each line, in the order of the lines. A request that fails is
//! answered with its error; only a failure of standard input, of standard output or of the dump
//! itself ends the batch. Memory is bounded by [`LINE_LIMIT`] and [`JSON_LIMIT`].

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::str::FromStr as _;

use clap::ValueEnum as _;
use clap::builder::PossibleValue;
use livecore_defs::text::printable;
use livecore_kernel::{Location, Pair};
use livecore_minidump::AnyDump;
use serde::Serialize;

use super::{Args, ByteRange, Content, Copied, Request, Subject};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::input::{self, Opening};
use crate::memory_format::JSON_LIMIT;
use crate::session::Session;
use crate::text::parse_size;
use crate::words::Order;

/// The most bytes in a line, without its newline.
const LINE_LIMIT: usize = 4096;

/// Runs the verb with `--batch`.
pub(super) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    if args.dump == Path::new("-") {
        let what = "--batch reads requests from standard input, so the dump must be a file";
        return Err(Failure::usage(what).id_is(Id::ConflictingArguments));
    }
    let stdin = Path::new("standard input");
    let requests = session.env.take_stdin();
    let mut requests = BufReader::new(requests.map_err(|e| Failure::from(e).about(stdin))?);
    let dump = input::dump(&args.dump, Opening::default(), session)?;
    input::print_memory_warnings(&dump, &args.dump, session);
    let mut batch = Batch {
        args,
        dump,
        kernel: None,
    };
    if !args.phys && args.kernel.named(&session.env).is_some() {
        // A named kernel is compared with the dump even if it is not needed.
        batch.kernel(session)?;
    }
    let mut line = Vec::new();
    for number in 1_u64.. {
        if session.env.interrupt.raised().is_some() {
            return Err(livecore_compress::Error::Cancelled.into());
        }
        // The other program may wait for the answers before it writes the next request.
        if !requests.buffer().contains(&b'\n') {
            session.out.flush()?;
        }
        let next = next_line(&mut requests, &mut line);
        if !next.map_err(|e| Failure::from(e).about(stdin))? {
            break;
        }
        batch.answer(number, &line, session)?;
    }
    Ok(())
}

/// Reads the next line without its newline, up to one byte more than [`LINE_LIMIT`]; drops the rest of
/// a longer one. `false` at the end.
fn next_line(requests: &mut impl BufRead, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let limit = LINE_LIMIT as u64 + 1;
    if requests.by_ref().take(limit).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > LINE_LIMIT {
        requests.skip_until(b'\n')?;
    }
    Ok(true)
}

/// The request in `line`. `phys`: whether every address is physical.
fn parse(line: &[u8], phys: bool) -> Result<Request, Failure> {
    let usage = |id, what: String| Failure::usage(what).id_is(id);
    if line.len() > LINE_LIMIT {
        let what = format!("the line is longer than {LINE_LIMIT} bytes");
        return Err(usage(Id::InvalidValue, what));
    }
    let text = std::str::from_utf8(line)
        .map_err(|e| usage(Id::InvalidValue, format!("the line is not UTF-8: {e}")))?;
    let (mut place, mut len, mut phys) = (None, None, phys);
    for word in text.split_ascii_whitespace() {
        match word {
            "--phys" => phys = true,
            option if option.starts_with('-') => {
                let what = format!("a request has no option {option}");
                return Err(usage(Id::UnknownArgument, what));
            }
            word if place.is_none() => {
                let parsed = Location::from_str(word);
                let what = |e| usage(Id::InvalidAddress, format!("{word}: {e}"));
                place = Some(parsed.map_err(what)?);
            }
            word if len.is_none() => {
                let what = |e| usage(Id::InvalidValue, format!("LENGTH: {e}"));
                len = Some(parse_size(word).map_err(what)?);
            }
            word => {
                let what = format!("unexpected {word} after LENGTH");
                return Err(usage(Id::UnknownArgument, what));
            }
        }
    }
    let missing = || usage(Id::MissingArgument, "a request needs ADDR|SYMBOL".into());
    let place = place.ok_or_else(missing)?;
    let request = Request { place, len, phys };
    request.check()?;
    Ok(request)
}

/// A dump and what is known of its kernel.
struct Batch<'a> {
    args: &'a Args,
    dump: AnyDump,
    /// The kernel, once it was needed; `Some(None)` if there is none.
    kernel: Option<Option<Pair>>,
}

/// A line of JSON output; docs/schemas/read-batch.schema.json.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    request: u64,
    exit_code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Id>,
    #[serde(flatten)]
    subject: Option<Subject<'a>>,
    #[serde(flatten)]
    content: Content,
}

/// The result of a request.
struct Answered<'a> {
    subject: Option<Subject<'a>>,
    bytes: Vec<u8>,
    copied: Copied,
}

impl Batch<'_> {
    /// Opens the kernel, if that was not tried before.
    fn kernel(&mut self, session: &mut Session<'_>) -> Result<(), Failure> {
        if self.kernel.is_none() {
            let args = self.args;
            self.kernel = Some(args.kernel.open(&self.dump, &args.dump, session)?);
        }
        Ok(())
    }

    /// Answers `line`, the request `number`. Fails if the batch cannot continue.
    fn answer(
        &mut self,
        number: u64,
        line: &[u8],
        session: &mut Session<'_>,
    ) -> Result<(), Failure> {
        let request = match parse(line, self.args.phys) {
            Ok(request) => request,
            Err(failure) => return self.print(number, failed(failure), session),
        };
        let is_full = self.dump.minidump().is_none();
        if !request.phys && (is_full || request.place.symbol().is_some()) {
            self.kernel(session)?;
        }
        let answered = match self.range(&request) {
            Ok(range) => self.read(&request, range)?,
            Err(failure) => failed(failure),
        };
        self.print(number, answered, session)
    }

    /// The range of `request`, of a length that can be answered.
    fn range(&self, request: &Request) -> Result<ByteRange, Failure> {
        let kernel = self.kernel.as_ref().and_then(Option::as_ref);
        if self.dump.minidump().is_none() && !request.phys && kernel.is_none() {
            return Err(super::no_page_tables());
        }
        let range = request.range(kernel)?;
        if range.len > JSON_LIMIT {
            let what = format_args!(
                "length {} exceeds the limit of a batch, {JSON_LIMIT} bytes",
                range.len
            );
            return Err(Failure::usage(what).id_is(Id::InvalidValue));
        }
        self.args.format.check(range.len, false)?;
        Ok(range)
    }

    fn read<'r>(&self, request: &'r Request, range: ByteRange) -> Result<Answered<'r>, Failure> {
        let memory = match self.kernel.as_ref().and_then(Option::as_ref) {
            Some(pair) => pair.memory(),
            None => self.dump.memory(),
        };
        let (bytes, copied) = super::bytes_of(&*memory, range, self.args.zero_tail)?;
        Ok(Answered {
            subject: Some(Subject::new(Some(&request.place), range, &*memory)),
            bytes,
            copied,
        })
    }

    fn print(
        &self,
        number: u64,
        answered: Answered<'_>,
        session: &mut Session<'_>,
    ) -> Result<(), Failure> {
        let Answered {
            subject,
            bytes,
            copied,
        } = answered;
        let (exit, id, message) = match &copied.error {
            Some(failure) => (failure.exit(), Some(failure.id()), failure.to_string()),
            None if copied.zeroed > 0 => {
                let message = super::zeroed_message(copied.zeroed);
                (Exit::WARNINGS, Some(Id::ZeroTail), message)
            }
            None => (Exit::DONE, None, String::new()),
        };
        session.note(exit);
        if self.args.format.raw {
            let value = id.and_then(|id| id.to_possible_value());
            let status = value.as_ref().map_or("ok", PossibleValue::get_name);
            let head = format!("{} {status} {message}", copied.len);
            writeln!(session.out, "{}", printable(head.trim_end()))?;
            session.out.write_all(&bytes)?;
        } else {
            let order = Order::of(self.dump.order());
            let words = match subject {
                Some(_) => self.args.format.numbers(&bytes, order),
                None => None,
            };
            let answer = Answer {
                request: number,
                exit_code: exit.code(),
                id,
                subject,
                content: Content::new(&bytes, &copied, words),
            };
            crate::json::print_line(&answer, &mut session.out)?;
        }
        Ok(())
    }
}

/// The answer to a request for which nothing was read.
fn failed(failure: Failure) -> Answered<'static> {
    Answered {
        subject: None,
        bytes: Vec::new(),
        copied: Copied {
            error: Some(failure),
            ..Copied::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_up_to_their_limit() {
        let full = "x".repeat(LINE_LIMIT);
        let long = "y".repeat(LINE_LIMIT + 1);
        let longer = "z".repeat(3 * LINE_LIMIT);
        let text = format!("a\n\n{full}\n{long}\n{longer}\nb");
        // A small buffer, so that no line is in it at once.
        let mut input = BufReader::with_capacity(7, text.as_bytes());
        let mut line = Vec::new();
        let mut lens = Vec::new();
        while next_line(&mut input, &mut line).unwrap() {
            lens.push(line.len());
        }
        assert_eq!(lens, [1, 0, LINE_LIMIT, LINE_LIMIT + 1, LINE_LIMIT + 1, 1]);
    }
}
