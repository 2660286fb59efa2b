//! Verifies the files named on the command line: `cargo run --example verify -- FORMAT FILE...`

use std::fs::File;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;

use livecore_compress::NoProgress;
use livecore_verify::render::{Format, Style};
use livecore_verify::{Options, Verdict};

fn main() -> std::io::Result<ExitCode> {
    let mut args = std::env::args().skip(1);
    let format = args.next().and_then(|word| Format::from_name(&word));
    let mut reports = Vec::new();
    for name in args {
        let options = Options {
            name: name.clone(),
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            ..Options::default()
        };
        let file = Arc::new(File::open(&name)?);
        reports.push(livecore_verify::verify(file, &options, &NoProgress));
    }
    let style = Style {
        color: false,
        verbose: true,
    };
    let format = format.unwrap_or_default();
    livecore_verify::render::write(&reports, format, style, &mut std::io::stdout())?;
    let verdicts = reports.iter().map(|report| &report.verdict);
    Ok(ExitCode::from(Verdict::worst_exit_code(verdicts)))
}
