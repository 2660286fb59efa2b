//! Verifies the files named on the command line: `cargo run --example verify -- FORMAT FILE...`

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;

use livecore_compress::NoProgress;
use livecore_verify::render::{self, Format, Style};
use livecore_verify::{Options, Verdict};

fn main() -> io::Result<ExitCode> {
    let mut args = std::env::args().skip(1);
    let format = args.next().and_then(|word| Format::from_name(&word));
    let names: Vec<String> = args.collect();
    let exit_code = verify(&names, format.unwrap_or_default(), &mut io::stdout())?;
    Ok(ExitCode::from(exit_code))
}

/// Verifies files, writes their reports, and returns the worst exit code.
pub(crate) fn verify(names: &[String], format: Format, out: &mut dyn Write) -> io::Result<u8> {
    let mut reports = Vec::new();
    for name in names {
        let options = Options::default()
            .name(name.clone())
            .threads(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN));
        let file = Arc::new(File::open(name)?);
        reports.push(livecore_verify::verify(file, &options, &NoProgress));
    }
    let style = Style {
        color: false,
        verbose: true,
    };
    render::write(&reports, format, style, out)?;
    let verdicts = reports.iter().map(|report| &report.verdict);
    Ok(Verdict::worst_exit_code(verdicts))
}
