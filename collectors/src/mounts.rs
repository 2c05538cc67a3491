//! Mounts: `/proc/<pid>/mounts`, proc(5).
//!
//! ```text
//! /dev/sda1 /srv/my\040data ext4 rw,noatime 0 0
//! device    point           type options    (two fields that mean nothing here)
//! ```
//! Fields are separated by exactly one space: a device can be empty. `mountinfo` tells more, none of
//! which we need, and costs the kernel half as much again to write.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use crate::parse::ParseError;

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Its source as the kernel writes it, with blanks as `\040`; node_exporter leaves them too.
    pub(crate) device: String,
    /// Where it is, with every byte as it is.
    pub(crate) point: PathBuf,
    pub(crate) fs_type: String,
    /// Whether the mount or its file system is read-only: the kernel writes one word for both.
    pub(crate) readonly: bool,
}

/// Every mount, in order.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Mount>, ParseError> {
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    (1..).zip(lines).map(|(index, line)| parse_line(index, line)).collect()
}

fn parse_line(index: usize, line: &[u8]) -> Result<Mount, ParseError> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mut next =
        |field: &'static str| fields.next().ok_or_else(|| ParseError::new(index, field, "missing"));
    let (device, point) = (next("device")?, next("mount point")?);
    let (fs_type, options) = (next("file system type")?, next("mount options")?);
    // what follows has no use but to show that the options are whole
    next("dump frequency")?;
    Ok(Mount {
        device: String::from_utf8_lossy(device).into_owned(),
        point: PathBuf::from(OsString::from_vec(unescape(point))),
        fs_type: String::from_utf8_lossy(fs_type).into_owned(),
        readonly: options.split(|&byte| byte == b',').any(|option| option == b"ro"),
    })
}

/// Undoes the kernel's octal escapes of blanks and backslashes: `\040`.
fn unescape(mut field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    while let [first, rest @ ..] = field {
        let (byte, left) = match field {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', left @ ..] => {
                (((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'), left)
            }
            _ => (*first, rest),
        };
        plain.push(byte);
        field = left;
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const MOUNTS: &str = "\
proc /proc proc rw,relatime 0 0
/dev/sda1 /mnt/a\\040b ext4 ro,errors=continue 0 0
//nas/My\\040Files /mnt/c fuse.sshfs rw,user_id=0,errors=remount-ro 0 0
 /mnt/d tmpfs rw 0 0
";

    #[test]
    fn mounts_are_read_or_the_field_is_named() {
        let check = |text: &str, expected: Result<&[(&str, &str, &str, bool)], &str>| {
            let mount = |&(device, point, fs_type, readonly): &(&str, &str, &str, bool)| Mount {
                device: device.into(),
                point: point.into(),
                fs_type: fs_type.into(),
                readonly,
            };
            let expected = expected.map(|mounts| mounts.iter().map(mount).collect::<Vec<_>>());
            let got = parse(text.as_bytes()).map_err(|error| error.to_string());
            assert_eq!(got, expected.map_err(str::to_owned), "{text:?}");
        };
        check(
            MOUNTS,
            Ok(&[
                ("proc", "/proc", "proc", false),
                ("/dev/sda1", "/mnt/a b", "ext4", true),
                ("//nas/My\\040Files", "/mnt/c", "fuse.sshfs", false),
                ("", "/mnt/d", "tmpfs", false),
            ]),
        );
        check("", Ok(&[]));
        check("proc", Err("line 1, mount point: missing"));
        check("proc /proc", Err("line 1, file system type: missing"));
        check("proc /proc proc", Err("line 1, mount options: missing"));
        check("proc /proc proc rw", Err("line 1, dump frequency: missing"));
    }

    #[test]
    fn escapes_are_undone() {
        let check = |field: &[u8], expected: &[u8]| {
            let (got, expected) = (unescape(field), OsStr::from_bytes(expected));
            assert_eq!(OsStr::from_bytes(&got), expected);
        };
        check(b"/plain", b"/plain");
        check(b"/a\\040b\\011c\\012d\\134e\\043", b"/a b\tc\nd\\e#");
        check(b"/\\377\xff", b"/\xff\xff");
        check(b"/\\04", b"/\\04");
        check(b"/\\400\\08", b"/\\400\\08");
    }

    proptest! {
        #[test]
        fn any_text_is_refused_or_read(text in kernel_text(MOUNTS)) {
            let _ = parse(text.as_bytes());
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
