//! Progress on a terminal of 80 columns, and what an interrupt leaves of it. The terminal is one of
//! script(1), of util-linux.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::debuggers::have;
use crate::harness::{machine, run};

/// Zeros that a full dump has: long enough to decode that a bar appears, in a file of some 100 KiB.
const ZEROS: u64 = 1 << 30;

/// A full dump of one range, as one zstd stream.
fn long_dump() -> &'static Path {
    static LONG: OnceLock<PathBuf> = OnceLock::new();
    LONG.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("long-full.zst");
        let mut head = b"\x7fELF\x02\x01\x01\xff\0\0\0\0\0\0\0\0".to_vec();
        for half in [4_u16, 62] {
            head.extend(half.to_le_bytes());
        }
        head.extend(0_u32.to_le_bytes());
        for word in [0_u64, 64, 0] {
            head.extend(word.to_le_bytes());
        }
        head.extend(0_u32.to_le_bytes());
        for half in [64_u16, 56, 1, 64, 0, 0] {
            head.extend(half.to_le_bytes());
        }
        for half in [1_u32, 4] {
            head.extend(half.to_le_bytes());
        }
        for word in [4096, 0, 0, ZEROS, ZEROS, 4096] {
            head.extend(word.to_le_bytes());
        }
        head.resize(4096, 0);
        let mut encoder = zstd::Encoder::new(File::create(&path).unwrap(), 1).unwrap();
        encoder.include_checksum(true).unwrap();
        let mut content = head.as_slice().chain(io::repeat(0).take(ZEROS));
        io::copy(&mut content, &mut encoder).unwrap();
        encoder.finish().unwrap();
        path
    })
}

/// The program on a terminal.
fn on_terminal(words: &str) -> Child {
    let command = format!(
        "stty cols 80 rows 24; exec env --default-signal {} {words}",
        env!("CARGO_BIN_EXE_livecore")
    );
    Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("TERM", "xterm")
        .env_remove("CI")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What a terminal shows as lines: texts between its carriage returns and newlines, without escape
/// sequences.
fn lines(output: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(output);
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\u{1b}' {
            plain.push(c);
        } else if rest.next() == Some('[') {
            // A parameter is a digit, `;` or `?`; a letter ends the sequence.
            rest.by_ref().find(char::is_ascii_alphabetic);
        }
    }
    plain.split(['\r', '\n']).map(str::to_owned).collect()
}

/// Reads until `text` is there, or to the end.
fn read_until(child: &mut Child, text: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    let stdout = child.stdout.as_mut().unwrap();
    let mut piece = [0; 4096];
    loop {
        match stdout.read(&mut piece).unwrap() {
            0 => return out,
            n => out.extend(&piece[..n]),
        }
        if text.is_some_and(|text| String::from_utf8_lossy(&out).contains(text)) {
            return out;
        }
    }
}

fn is_bar(line: &str) -> bool {
    line.contains(" % ") && line.contains('[')
}

#[test]
fn bars_fit_80_columns_and_show_a_percentage() {
    if !have("script") {
        return;
    }
    let dump = long_dump().to_str().unwrap();
    let [verify, compare] = [
        format!("verify --progress bar {dump}"),
        format!("compare --progress bar {dump} {dump}"),
    ];
    for (words, label) in [(&verify, "verify "), (&compare, "compare ")] {
        let mut child = on_terminal(words);
        let out = read_until(&mut child, None);
        assert!(child.wait().unwrap().success(), "{words}");
        let shown = lines(&out);
        let bars = shown.iter().filter(|line| is_bar(line));
        assert!(bars.clone().count() > 0, "{words}: {shown:?}");
        for bar in bars {
            assert!(bar.starts_with(label), "{bar:?}");
            assert!(bar.chars().count() <= 80, "{bar:?}");
        }
        // The bar has gone when the report comes.
        let last = shown.iter().rev().find(|line| !line.trim().is_empty());
        assert!(!is_bar(last.unwrap()), "{shown:?}");
    }
}

/// These verbs read pages in any order, so a single stream is decoded first.
#[test]
fn verbs_that_need_a_kernel_show_the_progress_of_decoding_a_single_stream_and_how_to_avoid_it() {
    if !have("script") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let [made, plain, single, sealed] = ["machine", "plain", "single.zst", "sealed.zst"].map(path);
    let description = machine("tiny");
    let description = description.to_str().unwrap();
    run(["synth", "-q", description, "--out", &made]).expect(0);
    run(["take", "-q", "--machine", description, "-o", &sealed]).expect(0);
    let to_plain = ["convert", "-q", &sealed, &plain, "--none"];
    run([&to_plain[..], &["--container", "saved"]].concat()).expect(0);
    let payload = std::fs::read(&plain).unwrap();
    std::fs::write(&single, zstd::encode_all(&*payload, 1).unwrap()).unwrap();
    let hint = "single compressed stream: decoding it once";
    for verb in ["triage", "ps", "threads"] {
        for (dump, is_single) in [(&single, true), (&sealed, false)] {
            let words = format!("{verb} --progress bar {dump} --kernel {made}/kernel");
            let mut child = on_terminal(&words);
            let out = read_until(&mut child, None);
            assert!(child.wait().unwrap().success(), "{words}");
            let shown = lines(&out);
            let is_decoding = |line: &&String| is_bar(line) && line.starts_with("decode ");
            let mut bars = shown.iter().filter(is_decoding).peekable();
            assert_eq!(bars.peek().is_some(), is_single, "{words}: {shown:?}");
            assert!(
                bars.all(|bar| bar.chars().count() <= 80),
                "{words}: {shown:?}"
            );
            let text = shown.join(" ");
            assert_eq!(text.contains(hint), is_single, "{words}");
            assert_eq!(
                text.contains("`livecore convert IN OUT`"),
                is_single,
                "{words}"
            );
        }
    }
}

#[test]
fn an_interrupt_clears_the_bar_and_says_what_ended_the_program() {
    if !have("script") {
        return;
    }
    let mut child = on_terminal(&format!("verify --progress bar {}", long_dump().display()));
    let began = read_until(&mut child, Some(" % "));
    assert!(lines(&began).iter().any(|line| is_bar(line)));
    // The terminal turns it into a signal for the programs in its foreground.
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    let rest = read_until(&mut child, None);
    let text = String::from_utf8_lossy(&rest).into_owned();
    let shown = lines(&rest);
    let said = shown
        .iter()
        .position(|line| line == "livecore: stopped by SIGINT");
    let said = said.unwrap_or_else(|| panic!("{shown:?}"));
    assert!(!shown[said..].iter().any(|line| is_bar(line)), "{shown:?}");
    // Cleared from the cursor to the end of its line, before the message.
    let message = text.find("livecore: stopped").unwrap();
    assert!(
        text[..message].contains("\u{1b}[2K") || text[..message].contains("\u{1b}[K"),
        "{text:?}"
    );
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
