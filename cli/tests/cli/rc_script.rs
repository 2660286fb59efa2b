//! The scripts for FreeBSD: the one of rc.d that takes savecore(8)'s place, run by sh with stand-ins for
//! rc.subr(8), and the one of periodic(8).

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{machine, names, run, testdata};
use crate::save::{MINIDUMP, Place};

/// The functions of rc.subr(8) that the script uses: the order of calls is that of FreeBSD's.
const SUBR: &str = r#"
load_rc_config() { . "$RC_CONF"; }
checkyesno() { eval v=\$$1; case $v in [Yy][Ee][Ss]) return 0;; *) return 1;; esac; }
warn() { echo "$name: WARNING: $*" >&2; }
debug() { :; }
startmsg() { echo "$*"; }
run_rc_command() {
	eval c=\$${1}_cmd p=\$${1}_precmd
	checkyesno $rcvar || return 0
	if [ -n "$p" ]; then $p || return 1; fi
	$c
}
"#;

/// Runs `livecore_save ACTION` with these lines in rc.conf.
fn service(place: &Place, action: &str, conf: &str) -> Output {
    let path = |name: &str| place.dir.path().join(name);
    fs::write(path("rc.subr"), SUBR).unwrap();
    service_with(place, action, conf, &path("rc.subr"))
}

/// The same with another rc.subr, which gets the settings in its environment, too.
fn service_with(place: &Place, action: &str, conf: &str, subr: &Path) -> Output {
    let path = |name: &str| place.dir.path().join(name);
    let script = testdata().join("../.packaging/freebsd/livecore_save");
    let script = fs::read_to_string(script).unwrap();
    assert_eq!(script.matches("/etc/rc.subr").count(), 1);
    let script = script.replace("/etc/rc.subr", subr.to_str().unwrap());
    fs::write(path("script"), script).unwrap();
    // `livecore` finds its devices on FreeBSD only.
    let program = format!(
        "#!/bin/sh\necho \"$@\" >> {}\nexec {} \"$@\" {}\n",
        path("calls").display(),
        env!("CARGO_BIN_EXE_livecore"),
        place.image().display()
    );
    let crashinfo = format!(
        "#!/bin/sh\necho crashinfo \"$@\" >> {}\n",
        path("calls").display()
    );
    fs::create_dir_all(path("bin")).unwrap();
    for (name, text) in [
        ("livecore", &*program),
        ("crashinfo", &crashinfo),
        // Programs of FreeBSD that rc.subr runs.
        ("kenv", "#!/bin/sh\nexit 1\n"),
        ("sysctl", "#!/bin/sh\necho 0\n"),
    ] {
        let program = path("bin").join(name);
        fs::write(&program, text).unwrap();
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let conf = format!(
        "livecore_save_enable=YES\ncrashinfo_enable=YES\ndumpdir={}\nlivecore_save_program={}\n\
         crashinfo_program={}\n{conf}\n",
        place.crash().display(),
        path("bin/livecore").display(),
        path("bin/crashinfo").display(),
    );
    fs::write(path("rc.conf"), conf).unwrap();
    let _ = fs::remove_file(path("calls"));
    Command::new("sh")
        .args([
            "-c",
            "set -a; . \"$RC_CONF\"; set +a; exec sh \"$0\" \"$1\"",
        ])
        .arg(path("script"))
        .arg(action)
        .env("RC_CONF", path("rc.conf"))
        .env("PATH", format!("{}:/usr/bin:/bin", path("bin").display()))
        .env("_rc_conf_loaded", "true")
        .output()
        .unwrap()
}

/// What the script has run.
fn calls(place: &Place) -> String {
    let calls = fs::read_to_string(place.dir.path().join("calls")).unwrap_or_default();
    calls.replace(place.crash().to_str().unwrap(), "DIR")
}

#[test]
fn dump_is_checked_saved_and_summarized_once() {
    let place = Place::new(MINIDUMP);
    let conf = "dumpdev=AUTO\nlivecore_save_flags='-m 10'";
    let first = service(&place, "start", conf);
    assert!(first.status.success(), "{first:?}");
    assert_eq!(
        calls(&place),
        "save -C\nsave -m 10 DIR\ncrashinfo -b -d DIR\n"
    );
    assert!(place.saved("vmcore.0.zst").exists());
    place.is_cleared(512);
    let second = service(&place, "start", conf);
    assert!(second.status.success(), "{second:?}");
    assert_eq!(calls(&place), "save -C\n");
    assert_eq!(second.stdout, b"No core dumps found.\n");
}

/// `LIVECORE_RC_SUBR` names FreeBSD's `libexec/rc/rc.subr`.
#[test]
fn script_runs_with_the_functions_of_freebsd() {
    let Some(subr) = std::env::var_os("LIVECORE_RC_SUBR") else {
        let _ = std::io::stderr().write_all(b"skipped: LIVECORE_RC_SUBR is not set\n");
        return;
    };
    let place = Place::new(MINIDUMP);
    let start = || service_with(&place, "start", "dumpdev=AUTO", Path::new(&subr));
    let first = start();
    assert!(first.status.success(), "{first:?}");
    assert_eq!(calls(&place), "save -C\nsave DIR\ncrashinfo -b -d DIR\n");
    place.is_cleared(512);
    assert!(start().status.success());
    assert_eq!(calls(&place), "save -C\n");
}

#[test]
fn crashinfo_runs_only_for_a_saved_dump_and_if_it_is_enabled() {
    let place = Place::new(MINIDUMP);
    fs::write(place.saved("minfree"), "9007199254740991\n").unwrap();
    let full = service(&place, "start", "dumpdev=AUTO");
    assert_eq!(full.status.code(), Some(1));
    assert_eq!(calls(&place), "save -C\nsave DIR\n");
    place.is_untouched();
    fs::remove_file(place.saved("minfree")).unwrap();
    service(&place, "start", "dumpdev=AUTO\ncrashinfo_enable=NO");
    assert_eq!(calls(&place), "save -C\nsave DIR\n");
    place.is_cleared(512);
}

#[test]
fn nothing_runs_without_a_dump_device_or_a_crash_directory() {
    let place = Place::new(MINIDUMP);
    for conf in [
        "dumpdev=NO",
        "dumpdev=/nonexistent",
        "dumpdev=AUTO\ndumpdir=/nonexistent",
        "dumpdev=AUTO\nlivecore_save_enable=NO",
    ] {
        service(&place, "start", conf);
        assert_eq!(calls(&place), "", "{conf}");
    }
    place.is_untouched();
    assert_eq!(names(&place.crash()), [""; 0]);
}

#[test]
fn named_dump_device_is_passed_on_and_can_be_cleared() {
    let place = Place::new(MINIDUMP);
    // A character device.
    service(&place, "check", "dumpdev=/dev/null");
    assert_eq!(calls(&place), "save -C /dev/null\n");
    service(&place, "clear", "dumpdev=AUTO");
    assert_eq!(calls(&place), "save -c\n");
    place.is_cleared(512);
}

#[test]
fn script_has_the_order_of_savecores_and_no_other_interpreter() {
    let script = testdata().join("../.packaging/freebsd/livecore_save");
    let text = fs::read_to_string(&script).unwrap();
    for line in [
        "#!/bin/sh",
        "# REQUIRE: dumpon ddb syslogd",
        "# KEYWORD: nojail",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
    let mode = fs::metadata(&script).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
    let status = Command::new("sh")
        .arg("-n")
        .arg(Path::new(&script))
        .status();
    assert!(status.unwrap().success());
}

/// Runs the script of periodic(8) with these settings.
fn daily(settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Command::new("sh")
        .arg(testdata().join("../.packaging/freebsd/490.livecore"))
        .env("daily_livecore_program", env!("CARGO_BIN_EXE_livecore"))
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text)
}

#[test]
fn daily_script_lists_and_prunes_and_returns_the_codes_of_periodic() {
    let dir = tempfile::tempdir().unwrap();
    let crash = dir.path().to_str().unwrap();
    let tiny = machine("tiny");
    for _ in 0..2 {
        run(["take", "--machine", tiny.to_str().unwrap(), "-o", crash]).expect(0);
    }
    assert_eq!(
        daily(&[("daily_livecore_dir", crash)]),
        (Some(0), String::new())
    );
    let enabled = [
        ("daily_livecore_enable", "YES"),
        ("daily_livecore_dir", crash),
    ];
    let (code, text) = daily(&enabled);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("livecore.0.zst") && text.contains("livecore.1.zst"),
        "{text}"
    );
    let limits = ("daily_livecore_limits", "--keep 1");
    let (code, text) = daily(&[enabled[0], enabled[1], limits]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        !names(dir.path()).contains(&"livecore.0.zst".into()),
        "{text}"
    );
    let (code, text) = daily(&[enabled[0], ("daily_livecore_dir", "/no/such/directory")]);
    assert_eq!(code, Some(3), "{text}");
}
