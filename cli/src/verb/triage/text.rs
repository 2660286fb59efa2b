//! The report as text.

use std::io::{self, Write};

use super::facts::Triage;
use crate::text::{Bytes, without_command};
use livecore_defs::text::printable;

/// Prints the report. Control characters in strings of the dump are escaped.
pub(super) fn print(triage: &Triage, out: &mut dyn Write) -> io::Result<()> {
    let mut line = |name: &str, value: &str| {
        let mut name = format!("{name}:");
        for value in value.lines() {
            writeln!(out, "{name:14} {}", printable(value.trim()))?;
            name.clear();
        }
        io::Result::Ok(())
    };
    let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".into());
    line("dump", &triage.dump)?;
    line(
        "kind",
        &format!(
            "{} of {}, {}, {}",
            triage.kind, triage.architecture, triage.container, triage.codec
        ),
    )?;
    line("file size", &Bytes(triage.file_size).to_string())?;
    if let Some(size) = triage.payload_size {
        line("payload", &Bytes(size).to_string())?;
    }
    if let Some(pages) = triage.pages {
        line("pages", &pages.to_string())?;
    }
    line("hostname", &known(&triage.hostname))?;
    line("version", &known(&triage.version))?;
    line("dumped", &known(&triage.dumped))?;
    if let Some(seconds) = triage.uptime_seconds {
        line("uptime", &uptime(seconds))?;
    }
    let panic = match &triage.panic {
        Some(panic) => panic,
        None if triage.no_panic => "none",
        None => "unknown",
    };
    line("panic", panic)?;
    if let Some(signature) = &triage.signature {
        line("signature", &signature.id)?;
    }

    if !triage.cpus.is_empty() {
        writeln!(out, "\nCPUs:")?;
    }
    for thread in &triage.cpus {
        thread.print(triage.digits, out)?;
    }
    if !triage.chains.is_empty() {
        writeln!(out, "\nOther threads:")?;
    }
    for thread in &triage.chains {
        thread.print(triage.digits, out)?;
    }
    if let Some(locks) = &triage.locks {
        locks.print(triage.digits, out)?;
    }
    if let Some(processes) = &triage.processes {
        let threads = triage.threads.unwrap_or(0);
        writeln!(out, "\nProcesses: {}, threads: {threads}", processes.len())?;
        writeln!(out, "{:>7} {:>7} {:>7}  COMMAND", "PID", "PPID", "THREADS")?;
        for process in processes {
            let ppid = process.ppid.map_or("-".into(), |p| p.to_string());
            let zombie = match process.state {
                "zombie" => " (zombie)",
                _ => "",
            };
            writeln!(
                out,
                "{:>7} {ppid:>7} {:>7}  {}{zombie}",
                process.pid,
                process.threads,
                printable(&process.command)
            )?;
        }
    }
    for section in &triage.sections {
        section.print(out)?;
    }
    if let Some(lines) = &triage.message_buffer {
        writeln!(out, "\nMessage buffer, the last {} lines:", lines.len())?;
        for line in lines {
            let line = printable(line);
            let line = if triage.ci {
                without_command(&line)
            } else {
                line
            };
            writeln!(out, "{line}")?;
        }
    }
    if !triage.missing.is_empty() {
        writeln!(out, "\nNot found:")?;
        for what in &triage.missing {
            writeln!(out, "  {}", printable(what))?;
        }
    }
    Ok(())
}

/// A duration as days and a clock.
pub(super) fn uptime(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    let days = match days {
        0 => String::new(),
        1 => "1 day ".into(),
        n => format!("{n} days "),
    };
    format!("{days}{hours}:{minutes:02}:{seconds:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_is_days_and_a_clock() {
        assert_eq!(uptime(59), "0:00:59");
        assert_eq!(uptime(86_400 + 3_661), "1 day 1:01:01");
        assert_eq!(uptime(10 * 86_400), "10 days 0:00:00");
    }
}
