//! `livecore verify DUMP...`: everything that a dump claims of itself, derived anew.
//!
//! The findings are the report, on standard output; docs/verify.md has the rules and formats.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::fs;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use livecore_verify::render::{self, Format, Style};
use livecore_verify::{Depth, Facts, Filter, KernelFacts, Options, Report, Verdict, rules};

use crate::crash_directory::{self, Named, Search};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input;
use crate::kernel_facts::Facts as OfKernel;
use crate::session::Session;

const MANUAL: &str = "\
Examples:
  livecore verify /var/crash                   every dump in the directory
  livecore verify -r --all archive             every file, in all directories below
  livecore verify --deep --kernel /boot/kernel/kernel livecore.0.zst
  livecore verify --format junit *.zst > report.xml

Exits with the worst of all dumps: 0 sound, 3 with warnings, 63 not a dump, 2 broken, 1 could not. \
A directory without dumps is not an error.";

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The dumps; a directory stands for the dumps of savecore(8) and of ours in it; `-` for
    /// standard input
    #[arg(value_name = "DUMP", required_unless_present_any = ["list_rules", "explain"])]
    pub dumps: Vec<PathBuf>,
    /// The kernel that was running: its ELF file, whose symbols are looked up through the dump
    #[arg(short = 'k', long, value_name = "ELF")]
    pub kernel: Option<PathBuf>,
    /// The form of the report
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = false,
          value_parser = PossibleValuesParser::new(Format::ALL.map(Format::name)))]
    pub format: String,
    /// Search directories below a directory as well
    #[arg(short, long)]
    pub recursive: bool,
    /// Verify every file of a directory, whatever its name
    #[arg(long)]
    pub all: bool,
    /// JUnit XML with a case for each dump (files) or for each rule (rules)
    #[arg(long, value_name = "CASES", value_parser = ["files", "rules"],
          conflicts_with_all = ["format", "json"])]
    pub junit: Option<String>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Warnings count as errors
    #[arg(long)]
    pub strict: bool,
    /// Headers, sizes and the seal only: frames are stepped over, not decoded
    #[arg(long, conflicts_with = "deep")]
    pub quick: bool,
    /// Every page-table entry, the message buffer, and with a kernel its lists
    #[arg(long)]
    pub deep: bool,
    /// Only these rules: an id, the beginning of ids and `*`, a group or a severity
    #[arg(long, value_name = "RULE", value_delimiter = ',', value_parser = pattern)]
    pub only: Vec<String>,
    /// Not these rules
    #[arg(long, value_name = "RULE", value_delimiter = ',', value_parser = pattern)]
    pub skip: Vec<String>,
    /// Number of threads [default: one per processor]
    #[arg(short = 'j', visible_short_alias = 'T', long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Print the table of rules and end
    #[arg(long, exclusive = true)]
    pub list_rules: bool,
    /// Print all that is known of a rule and end
    #[arg(long, value_name = "ID", exclusive = true)]
    pub explain: Option<String>,
}

fn pattern(text: &str) -> Result<String, String> {
    if rules::all().any(|rule| rule.matches(text)) {
        Ok(text.into())
    } else {
        Err("no rule, group or severity; --list-rules prints them".into())
    }
}

/// Verifies.
pub fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    if args.list_rules {
        return Ok(render::list_rules(&mut session.out)?);
    }
    if let Some(id) = &args.explain {
        let rule = rules::find(&id.to_ascii_uppercase()).ok_or_else(|| {
            Failure::usage(format_args!("{id} is no rule")).next("--list-rules prints them")
        })?;
        return Ok(render::explain(rule, &mut session.out)?);
    }
    let name = match args.junit.as_deref() {
        Some("rules") => "junit-rules",
        Some(_) => "junit",
        None if args.json => "json",
        None => &args.format,
    };
    // The parser admits the names of formats alone.
    let format = Format::from_name(name).unwrap_or_default();
    let style = Style {
        color: session.env.color,
        verbose: session.voice.is_verbose(),
    };
    let kernel = match &args.kernel {
        Some(path) => Some(input::kernel(path)?),
        None => None,
    };
    let kernel = kernel.as_ref().map(OfKernel);
    let kernel = kernel.as_ref().map(|kernel| kernel as &dyn KernelFacts);
    let asked = expand(args, session);
    let mut summary = Summary::default();
    let mut reports = Vec::new();
    verify_all(args, &asked, kernel, format, session, |report, session| {
        session.note(Exit::from_code(report.verdict.exit_code()));
        summary.add(&report.verdict);
        if format == Format::Text || format == Format::JsonLines {
            render::write(&[report], format, style, &mut session.out)?;
        } else {
            reports.push(report);
        }
        Ok(())
    })?;
    if format != Format::Text && format != Format::JsonLines {
        render::write(&reports, format, style, &mut session.out)?;
    }
    let any = summary.0.iter().any(|count| *count > 0);
    if format == Format::Text && any && args.dumps.iter().any(|path| path.is_dir()) {
        writeln!(session.out, "{summary}")?;
    }
    Ok(())
}

/// Verifies the dumps in parallel and gives their reports to `each` in order.
///
/// One dump has all threads. Of several, each has one thread, and at most two per thread are open.
fn verify_all(
    args: &Args,
    asked: &[Named],
    kernel: Option<&dyn KernelFacts>,
    format: Format,
    session: &mut Session<'_>,
    mut each: impl FnMut(Report, &mut Session<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let threads = crate::args::threads(args.threads);
    let (together, threads) = match asked {
        [] => return Ok(()),
        [_] => (1, threads),
        _ => (threads.get().min(asked.len()), NonZeroUsize::MIN),
    };
    let memory = session.env.memory;
    let bar = session
        .bar("verify", format != Format::Text, size(asked))
        .of_stored();
    let verify = |dump: Result<One, Box<Report>>| match dump {
        Ok(dump) => dump.verify(args, memory, kernel, threads, &bar),
        Err(report) => *report,
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(together);
    let pool = pool.build().map_err(Failure::could_not)?;
    pool.in_place_scope(|scope| {
        let mut waiting = asked.iter();
        let mut under_way = VecDeque::new();
        loop {
            while under_way.len() < together * 2
                && let Some(next) = waiting.next()
            {
                let dump = match next {
                    Named::Dump(path) => one(path, args, session),
                    Named::Refused(path, why) => Err(could_not(path, why, args)),
                };
                let (reply, done) = mpsc::sync_channel(1);
                let verify = &verify;
                scope.spawn(move |_| {
                    // The receiver is gone if the run has ended early.
                    let _ = reply.send(verify(dump));
                });
                under_way.push_back(done);
            }
            let Some(oldest) = under_way.pop_front() else {
                return Ok(());
            };
            let report = oldest.recv();
            if session.env.interrupt.raised().is_some() {
                return Err(livecore_compress::Error::Cancelled.into());
            }
            let report = report.map_err(Failure::could_not)?;
            bar.suspend(|| each(report, session))?;
        }
    })
}

/// The size of all files, if it is known.
fn size(asked: &[Named]) -> Option<u64> {
    let files = asked.iter().filter_map(|asked| match asked {
        Named::Dump(path) => Some(path),
        Named::Refused(..) => None,
    });
    files
        .map(|path| path.metadata().ok().filter(|found| found.is_file()))
        .map(|found| found.map(|found| found.len()))
        .sum()
}

/// How many dumps came to which verdict.
#[derive(Default)]
struct Summary([usize; 5]);

impl Summary {
    fn add(&mut self, verdict: &Verdict) {
        let [sound, warnings, broken, other, failed] = &mut self.0;
        *match verdict {
            Verdict::Sound => sound,
            Verdict::Warnings => warnings,
            Verdict::Broken => broken,
            Verdict::NotADump(_) => other,
            Verdict::Failed(_) => failed,
        } += 1;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            "sound",
            "sound with warnings",
            "broken",
            "not a dump",
            "not verified",
        ];
        let all: usize = self.0.iter().sum();
        write!(f, "{all} {}: ", if all == 1 { "dump" } else { "dumps" })?;
        let counts = self.0.iter().zip(words).filter(|(n, _)| **n > 0);
        let counts: Vec<_> = counts.map(|(n, word)| format!("{n} {word}")).collect();
        f.write_str(&counts.join(", "))
    }
}

/// A dump that is open, and what is beside it.
struct One {
    name: String,
    source: Arc<fs::File>,
    info: Option<String>,
}

impl One {
    fn verify(
        self,
        args: &Args,
        memory: u64,
        kernel: Option<&dyn KernelFacts>,
        threads: NonZeroUsize,
        progress: &dyn livecore_compress::Progress,
    ) -> Report {
        let options = Options {
            name: self.name,
            depth: depth(args),
            strict: args.strict,
            filter: Filter {
                only: args.only.clone(),
                skip: args.skip.clone(),
            },
            threads,
            memory,
            kernel,
            info: self.info.as_deref(),
            ..Options::default()
        };
        let path = PathBuf::from(&options.name);
        let report = livecore_verify::verify(self.source, &options, progress);
        match (&report.verdict, crash_directory::encrypted(&path)) {
            (Verdict::NotADump(_), Some(what)) => Report {
                verdict: Verdict::NotADump(what),
                ..report
            },
            _ => report,
        }
    }
}

fn depth(args: &Args) -> Depth {
    match (args.quick, args.deep) {
        (true, _) => Depth::Quick,
        (_, true) => Depth::Deep,
        _ => Depth::Default,
    }
}

/// Opens a dump; one that cannot be opened has its report already.
fn one(path: &Path, args: &Args, session: &mut Session<'_>) -> Result<One, Box<Report>> {
    let name = path.display().to_string();
    match input::seekable(path, session) {
        Ok(file) => Ok(One {
            name,
            source: Arc::new(file),
            info: livecore_minidump::dump::info_file(path).and_then(|path| text_of(&path)),
        }),
        Err(failure) => Err(could_not(path, failure.what(), args)),
    }
}

/// The report about what could not be read.
fn could_not(path: &Path, why: &str, args: &Args) -> Box<Report> {
    Box::new(Report {
        name: path.display().to_string(),
        depth: depth(args),
        strict: args.strict,
        facts: Facts::default(),
        findings: Vec::new(),
        outcomes: BTreeMap::new(),
        time: Duration::ZERO,
        verdict: Verdict::Failed(why.into()),
        liveness: None,
    })
}

/// The text of an info file. One that cannot be read is as good as none: the dump is what is
/// verified.
fn text_of(path: &Path) -> Option<String> {
    let bytes = livecore_minidump::dump::read_info(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Every directory as the dumps in it. One without any says so, and is no failure: a machine that has
/// not crashed is sound.
fn expand(args: &Args, session: &Session<'_>) -> Vec<Named> {
    let search = Search {
        recursive: args.recursive,
        all: args.all,
    };
    let mut all = Vec::new();
    for path in &args.dumps {
        if !path.is_dir() {
            all.push(Named::Dump(path.clone()));
            continue;
        }
        match crash_directory::dumps(path, search, session) {
            Ok(dumps) if dumps.is_empty() => session
                .voice
                .say(format_args!("{}: no dumps found", path.display())),
            Ok(dumps) => all.extend(dumps),
            Err(e) => all.push(Named::Refused(path.clone(), e.to_string())),
        }
    }
    all
}
