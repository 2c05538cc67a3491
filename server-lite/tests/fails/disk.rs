//! The disk under a database's tables is full: a small file system in a mount namespace of our own, as its
//! tablespace. Its log of changes lies elsewhere, so the server lives and refuses.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
};

use tokio_postgres::NoTls;

use super::Story;
use crate::cluster;

/// Says where the small file system is, once we are inside the namespace.
const SMALL_DISK: &str = "SMALL_DATABASE_DISK";
const ON_TMPFS: &str = "mount -t tmpfs -o size=48m,mode=755 small \"$0\" && exec \"$@\"";
const TOLD: &str = "stored again on a disk that was full";

#[test]
fn a_full_disk_is_waited_for() {
    if env::var_os(SMALL_DISK).is_some() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    // As root: the server runs as a user of its own, which a user namespace doesn't have.
    let on_tmpfs = || {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", ON_TMPFS]).arg(directory.path());
        command
    };
    if !on_tmpfs().arg("true").output().is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: this host lets us mount no tmpfs (unshare -m, mount; as root)");
        return;
    }
    let mut story = on_tmpfs();
    story.arg(env::current_exe().expect("ourselves"));
    story.args(["--exact", "fails::disk::on_a_small_disk", "--nocapture"]);
    let output = story.env(SMALL_DISK, directory.path()).output().expect("run ourselves");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains(TOLD) || said.contains("SKIPPED"), "the story was not told");
}

#[test]
fn on_a_small_disk() {
    let Some(disk) = env::var_os(SMALL_DISK).map(PathBuf::from) else { return };
    let Some(cluster) = cluster() else { return println!("SKIPPED") };
    let database = database_on(&disk, &cluster.url(), cluster.directory());
    let directory = tempfile::tempdir().expect("a directory");
    let mut story = Story::begin(directory.path(), &database);
    let ballast = disk.join("ballast");
    let mut file = OpenOptions::new().create(true).append(true).open(&ballast).expect("ballast");
    story.fails_while(|| fill(&mut file));
    drop(file);
    fs::remove_file(ballast).expect("remove the ballast");
    story.goes_on();
    story.end("a full disk");
    println!("{TOLD}");
}

/// A database whose tables lie on a disk.
fn database_on(disk: &Path, server: &str, like: &Path) -> String {
    let tables = disk.join("tables");
    fs::create_dir(&tables).expect("a directory for tables");
    let owner = fs::metadata(like).expect("whose the cluster is");
    chown(&tables, Some(owner.uid()), Some(owner.gid())).expect("give it away");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(server, NoTls).await.expect("connect");
        tokio::spawn(connection);
        let location = tables.display();
        let make = format!("CREATE TABLESPACE small LOCATION '{location}'");
        client.batch_execute(&make).await.expect("a tablespace");
        client.batch_execute("CREATE DATABASE small TABLESPACE small").await.expect("a database");
    });
    let (server, _) = server.rsplit_once('/').expect("a database in the URL");
    format!("{server}/small")
}

/// Takes every byte that is free, in ever smaller pieces.
fn fill(file: &mut File) {
    let mut piece = vec![0xa5; 1 << 20];
    while !piece.is_empty() {
        match file.write(&piece) {
            Ok(1..) => {}
            Ok(0) | Err(_) => piece.truncate(piece.len() / 2),
        }
    }
}
