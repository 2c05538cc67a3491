//! What is no log, is in use, or is another's.

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, lchown},
        process::CommandExt as _,
    },
    path::Path,
    process::Command,
};

use crate::log::{Log, Said, copy, damage, data_file, open, sound, state};

/// A user that owns nothing here.
const NOBODY: u32 = 65_534;

#[test]
fn what_is_no_log_is_said_to_be_none() {
    let directory = tempfile::tempdir().unwrap();
    let foreign = directory.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("notes.txt"), "mine").unwrap();
    let empty = directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let data = directory.path().join("data");
    copy(&sound().directory.path().join("wal"), &{
        fs::create_dir(&data).unwrap();
        data.join("wal")
    });
    let check = |path: &Path, expected: &str| {
        let before = path.exists().then(|| state(path));
        for command in ["inspect", "verify", "export", "repair"] {
            let mut program = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"));
            let said =
                Said::from(program.env_clear().args(["wal", command]).arg(path).output().unwrap());
            assert_eq!(said.code, 3, "{command}: {said:?}");
            assert!(said.err.contains(expected), "{command}: {}", said.err);
        }
        assert_eq!(path.exists().then(|| state(path)), before);
    };
    check(&foreign, "is not a log: neither `lock` nor `last` nor a generation");
    check(&empty, "is not a log: it is empty");
    check(&foreign.join("notes.txt"), "is not a log: it is a file");
    check(&directory.path().join("nowhere"), "there is no such directory");
    check(&data, "did you mean");
}

#[test]
fn a_log_in_use_says_by_whom() {
    let log = Log::copy();
    let wal = open(&log.path());
    for command in ["inspect", "verify", "export", "repair"] {
        let said = log.look(&[command]);
        assert_eq!(said.code, 3, "{said:?}");
        let holder = format!("in use by process {} ", std::process::id());
        assert!(said.err.contains(&holder) && said.err.contains("stop it first"), "{}", said.err);
    }
    drop(wal);
    assert_eq!(log.look(&["verify"]).code, 0);
}

/// Runs a command as a user to whom nothing belongs here; `None`, loudly, if this machine can't.
fn as_another(mut command: Command) -> Option<Said> {
    // Whoever isn't root is stopped by modes; root isn't.
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    match command.output() {
        Ok(output) => Some(Said::from(output)),
        Err(error) => {
            eprintln!(
                "SKIPPED: another user can't run the agent from its build directory: {error}"
            );
            None
        }
    }
}

fn set_modes(path: &Path, directories: u32, files: u32) {
    if path.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
        let entries = fs::read_dir(path).unwrap();
        entries.for_each(|entry| set_modes(&entry.unwrap().path(), directories, files));
    }
    let mode = if path.is_dir() { directories } else { files };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_log_that_can_only_be_read_is_read() {
    let log = Log::copy();
    set_modes(log.directory.path(), 0o555, 0o444);
    set_modes(log.temporary.path(), 0o777, 0o777);
    let before = state(&log.path());
    for (command, expected) in
        [("inspect", "hub"), ("verify", "\nsound\n"), ("export", "\"seq\":400,")]
    {
        let Some(said) = as_another(log.command(&[command])) else { return };
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{command}");
        assert!(said.out.contains(expected), "{command}: {}", said.out);
    }
    let Some(said) = as_another(log.command(&["repair"])) else { return };
    assert_ne!(said.code, 0, "{said:?}");
    assert_eq!(state(&log.path()), before);
}

#[test]
fn a_log_that_cannot_be_read_says_what_to_do() {
    let log = Log::copy();
    set_modes(log.directory.path(), 0o555, 0o444);
    set_modes(log.temporary.path(), 0o777, 0o777);
    fs::set_permissions(data_file(&log.generations()[0]), fs::Permissions::from_mode(0o000))
        .unwrap();
    let Some(said) = as_another(log.command(&["verify"])) else { return };
    assert_eq!(said.code, 3, "{said:?}");
    let (why, which) =
        ("run it as the one that the log belongs to, or as root", "/00000000000000000001.");
    assert!(said.err.contains(why) && said.err.contains(which), "{}", said.err);
}

#[test]
fn what_root_repairs_stays_its_owners() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: only root can repair what belongs to others");
        return;
    }
    let log = Log::copy();
    damage(&log.generations()[1], |bytes| bytes.truncate(bytes.len() / 2));
    set_modes(log.directory.path(), 0o755, 0o600);
    set_modes(log.temporary.path(), 0o777, 0o777);
    give_away(&log.path());
    let said = log.run(&["repair"]);
    assert_eq!(said.code, 0, "{said:?}");
    for path in state(&log.path()).keys() {
        let owner = fs::metadata(path).unwrap().uid();
        assert_eq!(owner, NOBODY, "{} is not its owner's any more", path.display());
    }
}

fn give_away(path: &Path) {
    lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give_away(&entry.unwrap().path()));
    }
}
