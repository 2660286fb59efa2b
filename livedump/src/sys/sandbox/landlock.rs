//! Files, TCP and signals, by Landlock (Linux 5.13 and later).

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    make_bitflags,
};

use super::{Files, Part, Sockets};

/// The newest supported version of the interface. Rules that the kernel does not support are
/// omitted.
const KNOWN: ABI = ABI::V10;

/// Shared libraries that every program needs.
const LIBRARIES: [&str; 4] = ["/lib", "/lib64", "/usr/lib", "/etc/ld.so.cache"];

const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});

/// Without devices, pipes and sockets, which livecore does not create.
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | Refer
    | MakeReg | MakeDir | MakeSym | RemoveFile | RemoveDir
});

const REMOVE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{RemoveFile | RemoveDir});

pub(super) fn restrict(files: &Files, sockets: &Sockets) -> Part {
    let state = match try_restrict(files, sockets) {
        Ok(state) => state,
        Err(error) => Err(error.to_string()),
    };
    Part {
        name: "landlock",
        state,
    }
}

fn try_restrict(files: &Files, sockets: &Sockets) -> Result<Result<String, String>, RulesetError> {
    let network = match sockets {
        Sockets::Connecting | Sockets::All => AccessNet::BindTcp.into(),
        _ => AccessNet::from_all(KNOWN),
    };
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(network)?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    for path in &files.read {
        rules = allow(rules, path, READ)?;
    }
    for path in &files.write {
        rules = allow(rules, path, WRITE)?;
    }
    for path in &files.remove {
        rules = allow(rules, path, REMOVE)?;
    }
    if !files.run.is_empty() {
        let libraries = LIBRARIES.iter().map(Path::new);
        for path in files.run.iter().map(AsRef::as_ref).chain(libraries) {
            rules = allow(rules, path, READ | AccessFs::Execute)?;
        }
    }
    if let Sockets::Unix(path) = sockets {
        rules = allow(rules, path, AccessFs::ResolveUnix.into())?;
    }
    if let Sockets::Tcp(port) = sockets {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    let status = rules.restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => {
            Err("supported by the kernel but not enabled (boot parameter lsm=)".into())
        }
        (RulesetStatus::NotEnforced, _) => Err("not supported by the kernel".into()),
        (_, LandlockStatus::Available { effective_abi, .. }) => {
            Ok(format!("ABI {}", effective_abi as i32))
        }
        (_, _) => Ok("ABI unknown".into()),
    })
}

/// Permits `access` to a file, or below a directory. A path that does not exist needs no rule.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(fd) = PathFd::new(path) else {
        return Ok(rules);
    };
    let kind = path.metadata().map(|found| found.file_type());
    // The size of a disk is read by an ioctl.
    let access = match kind.is_ok_and(|kind| kind.is_block_device()) {
        true => access | AccessFs::IoctlDev,
        false => access,
    };
    // The kernel rejects rules with directory rights for a file.
    let access = match path.is_dir() {
        true => access,
        false => access & AccessFs::from_file(KNOWN),
    };
    rules.add_rule(PathBeneath::new(fd, access))
}
