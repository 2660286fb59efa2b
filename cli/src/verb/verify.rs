//! `livecore verify DUMP...`: checks dumps and prints a report (docs/verify.md).

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use clap::builder::PossibleValuesParser;
use livecore_kernel::verifier::ElfFacts;
use livecore_verify::render::{self, Format, Style};
use livecore_verify::{Depth, Facts, Filter, KernelFacts, Options, Report, Verdict, rules};

use crate::crash_directory::{self, Entry, Search};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::input;
use crate::remote::is_prefix;
use crate::session::Session;
use crate::since::parse_since;
use crate::verifier::Subject;

const MANUAL: &str = "\
Examples:
  livecore verify /var/crash                   all dumps in the directory
  livecore verify -r --all archive             all files below the directory
  livecore verify --deep --kernel /boot/kernel/kernel livecore.0.zst
  livecore verify --format junit *.zst > report.xml
  livecore verify --since 1d --format prom /var/crash > livecore.prom.new

Exits with the worst result: 0 sound, 3 warnings, 63 not a dump, 2 broken, 1 failed. A directory \
without dumps is not an error.";

/// Arguments of `livecore verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Dumps, or directories of dumps; `-` for standard input
    ///
    /// In a directory, verifies the files that have names of dumps: vmcore.N, livecore.N.
    #[arg(value_name = "DUMP", required_unless_present_any = ["list_rules", "explain"])]
    pub dumps: Vec<PathBuf>,
    /// Kernel ELF file, to check its structures in the dump
    #[arg(short = 'k', long, value_name = "ELF")]
    pub kernel: Option<PathBuf>,
    /// Report format
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_possible_values = false,
          value_parser = PossibleValuesParser::new(Format::ALL.map(Format::name)))]
    pub format: String,
    /// Descend into subdirectories
    #[arg(short, long)]
    pub recursive: bool,
    /// Verify all files of a directory, whatever their names
    #[arg(long)]
    pub all: bool,
    /// Skip files of directories that are older
    ///
    /// A duration before now (30m, 36h, 1d, 2w), or a time: 2026-11-30, 2026-11-30T04:00:00Z. The age is that of
    /// the last modification of the file. Files that are named are always verified.
    #[arg(long, value_name = "TIME|DURATION", value_parser = parse_since)]
    pub since: Option<SystemTime>,
    /// Print JUnit XML with a test case for each dump or each rule
    #[arg(long, value_name = "CASES", value_parser = ["files", "rules"],
          conflicts_with_all = ["format", "json"])]
    pub junit: Option<String>,
    /// Short for --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Treat warnings as errors
    #[arg(long)]
    pub strict: bool,
    /// Check headers, sizes and the seal; do not decode frames
    #[arg(long, conflicts_with = "deep")]
    pub quick: bool,
    /// With --kernel, check lists of processes and threads too
    #[arg(long)]
    pub deep: bool,
    /// Check only these rules
    ///
    /// RULE is a rule id, a prefix with `*`, a group or a severity; commas separate several.
    /// --list-rules lists them.
    #[arg(long, value_name = "RULE", value_delimiter = ',', value_parser = pattern)]
    pub only: Vec<String>,
    /// Skip these rules
    #[arg(long, value_name = "RULE", value_delimiter = ',', value_parser = pattern)]
    pub skip: Vec<String>,
    /// Number of threads [default: one per processor]
    #[arg(short = 'j', visible_short_alias = 'T', long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// List all rules and exit
    #[arg(long, exclusive = true)]
    pub list_rules: bool,
    /// Explain a rule and exit
    #[arg(long, value_name = "ID", exclusive = true)]
    pub explain: Option<String>,
}

fn pattern(text: &str) -> Result<String, String> {
    if rules::all().any(|rule| rule.matches(text)) {
        Ok(text.into())
    } else {
        Err("not a rule, group or severity; use --list-rules".into())
    }
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    if args.list_rules {
        return Ok(render::list_rules(&mut session.out)?);
    }
    if let Some(id) = &args.explain {
        let rule = rules::find(&id.to_ascii_uppercase()).ok_or_else(|| {
            Failure::usage(format_args!("no rule {id}"))
                .id_is(Id::NoRule)
                .next("use --list-rules to list them")
        })?;
        return Ok(render::explain(rule, &mut session.out)?);
    }
    let name = match args.junit.as_deref() {
        Some("rules") => "junit-rules",
        Some(_) => "junit",
        None if args.json => "json",
        None => &args.format,
    };
    // clap accepts only the names of formats.
    let format = Format::from_name(name).unwrap_or_default();
    let style = Style {
        color: session.env.color,
        verbose: session.voice.is_verbose(),
    };
    let kernel = match &args.kernel {
        Some(path) => Some(input::kernel(path, session.env.memory)?),
        None => None,
    };
    let kernel = kernel.as_ref().map(ElfFacts);
    let kernel = kernel.as_ref().map(|kernel| kernel as &dyn KernelFacts);
    let search = Search {
        recursive: args.recursive,
        all: args.all,
        since: args.since,
    };
    let asked = crash_directory::expand(&args.dumps, search, session);
    let mut summary = Summary::default();
    let mut reports = Vec::new();
    verify_all(args, &asked, kernel, format, session, |done, session| {
        let Done { report, failure } = done;
        session.note(Exit::from_code(report.verdict.exit_code()));
        summary.add(&report.verdict);
        if let Verdict::Failed(why) = &report.verdict {
            let failed = || Failure::could_not(why).about(report.name.as_ref());
            session.fail(&failure.unwrap_or_else(failed));
            if format == Format::Text {
                return Ok(());
            }
        } else if let Some(failure) = failure {
            session.fail(&failure);
            if format == Format::Text && matches!(report.verdict, Verdict::NotADump(_)) {
                return Ok(());
            }
        }
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
    if format == Format::Text
        && any
        && args
            .dumps
            .iter()
            .any(|path| path.is_dir() || is_prefix(path))
    {
        writeln!(session.out, "{summary}")?;
    }
    Ok(())
}

/// Verifies the dumps in parallel and passes their reports to `each` in order.
///
/// A single dump gets all threads. Of several dumps each gets one thread, and at most two for each
/// thread are open.
fn verify_all(
    args: &Args,
    asked: &[Entry],
    kernel: Option<&dyn KernelFacts>,
    format: Format,
    session: &mut Session<'_>,
    mut each: impl FnMut(Done, &mut Session<'_>) -> Result<(), Failure>,
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
    let verify = |dump: Result<Subject, Box<Done>>| match dump {
        Ok(dump) => {
            let failure = dump.check_pack(depth(args), &bar).err();
            let mut report = dump.verify(options(args, memory, kernel, threads), &bar);
            // The dump of a damaged pack cannot be read.
            if let Some(failure) = &failure
                && (failure.exit() == Exit::BROKEN || !matches!(report.verdict, Verdict::Failed(_)))
            {
                report.verdict = Verdict::Broken;
            }
            Done { report, failure }
        }
        Err(done) => *done,
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
                    Entry::Dump(path) => Subject::open(path, session)
                        .map_err(|failure| could_not(path, failure, args)),
                    Entry::Unreadable(path, why) => {
                        Err(could_not(path, Failure::of(Exit::COULD_NOT, why), args))
                    }
                };
                // Nothing else is opened.
                if let ([_], Ok(dump)) = (asked, &dump) {
                    session.close_paths(&[dump.source.fd()])?;
                }
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
            let done = oldest.recv();
            if session.env.interrupt.raised().is_some() {
                return Err(livecore_compress::Error::Cancelled.into());
            }
            let done = done.map_err(Failure::could_not)?;
            bar.suspend(|| each(done, session))?;
        }
    })
}

/// A report, and the failure if the file could not be opened, or is a pack that differs from its manifest.
struct Done {
    report: Report,
    failure: Option<Failure>,
}

/// The size of all files, if it is known.
fn size(asked: &[Entry]) -> Option<u64> {
    let files = asked.iter().filter_map(|asked| match asked {
        Entry::Dump(path) => Some(path),
        Entry::Unreadable(..) => None,
    });
    files
        .map(|path| path.metadata().ok().filter(|found| found.is_file()))
        .map(|found| found.map(|found| found.len()))
        .sum()
}

/// The number of dumps for each verdict.
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

/// The options of a verification.
fn options<'a>(
    args: &Args,
    memory: u64,
    kernel: Option<&'a dyn KernelFacts>,
    threads: NonZeroUsize,
) -> Options<'a> {
    Options::default()
        .depth(depth(args))
        .strict(args.strict)
        .filter(Filter {
            only: args.only.clone(),
            skip: args.skip.clone(),
        })
        .threads(threads)
        .memory(memory)
        .kernel(kernel)
}

fn depth(args: &Args) -> Depth {
    match (args.quick, args.deep) {
        (true, _) => Depth::Quick,
        (_, true) => Depth::Deep,
        _ => Depth::Default,
    }
}

/// The failure and the report for a file that cannot be opened.
fn could_not(path: &Path, failure: Failure, args: &Args) -> Box<Done> {
    let report = Report {
        name: path.display().to_string(),
        depth: depth(args),
        strict: args.strict,
        facts: Facts::default(),
        findings: Vec::new(),
        outcomes: BTreeMap::new(),
        time: Duration::ZERO,
        verdict: match failure.exit() {
            // A damaged pack.
            Exit::BROKEN => Verdict::Broken,
            Exit::UNSUPPORTED => Verdict::NotADump(failure.what().to_string()),
            _ => Verdict::Failed(failure.what().to_string()),
        },
        liveness: None,
    };
    let failure = Some(failure.about(path));
    Box::new(Done { report, failure })
}
