//! Mounts: `/proc/<pid>/mountinfo`, proc(5).
//!
//! ```text
//! 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
//!                  point options            │ │    │         └ options of the file system
//!                      any number of fields ┘ └type└ device
//! ```
//! Fields are separated by exactly one space: a device can be empty.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use crate::parse::ParseError;

const POINT_FIELD: usize = 4;

/// One mount.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    /// Its source as the kernel writes it, with blanks as `\040`; node_exporter leaves them too.
    pub(crate) device: String,
    /// Where it is, with every byte as it is.
    pub(crate) point: PathBuf,
    pub(crate) fs_type: String,
    /// Whether the mount or its file system is read-only.
    pub(crate) readonly: bool,
}

/// Every mount, in order.
pub(crate) fn parse(bytes: &[u8]) -> Result<Vec<Mount>, ParseError> {
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    (1..).zip(lines).map(|(index, line)| parse_line(index, line)).collect()
}

fn parse_line(index: usize, line: &[u8]) -> Result<Mount, ParseError> {
    let mut fields = line.split(|&byte| byte == b' ');
    let missing = |field: &'static str| move || ParseError::new(index, field, "missing");
    let point = fields.nth(POINT_FIELD).ok_or_else(missing("mount point"))?;
    let options = fields.next().ok_or_else(missing("mount options"))?;
    fields.find(|&field| field == b"-").ok_or_else(missing("separator"))?;
    let fs_type = fields.next().ok_or_else(missing("file system type"))?;
    let device = fields.next().ok_or_else(missing("device"))?;
    let fs_options = fields.next().ok_or_else(missing("file system options"))?;
    Ok(Mount {
        device: String::from_utf8_lossy(device).into_owned(),
        point: PathBuf::from(OsString::from_vec(unescape(point))),
        fs_type: String::from_utf8_lossy(fs_type).into_owned(),
        readonly: is_readonly(options) || is_readonly(fs_options),
    })
}

fn is_readonly(options: &[u8]) -> bool {
    options.split(|&byte| byte == b',').any(|option| option == b"ro")
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

    const MOUNTINFO: &str = "\
22 27 0:21 / /proc rw,relatime - proc proc rw
36 35 98:0 /sub /mnt/a\\040b rw,noatime master:1 shared:2 - ext4 /dev/sda1 ro,errors=continue
37 35 0:40 / /mnt/c ro - fuse.sshfs //nas/My\\040Files rw,user_id=0
38 35 0:41 / /mnt/d rw - tmpfs  rw
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
            MOUNTINFO,
            Ok(&[
                ("proc", "/proc", "proc", false),
                ("/dev/sda1", "/mnt/a b", "ext4", true),
                ("//nas/My\\040Files", "/mnt/c", "fuse.sshfs", true),
                ("", "/mnt/d", "tmpfs", false),
            ]),
        );
        check("", Ok(&[]));
        check("22 27 0:21 /", Err("line 1, mount point: missing"));
        check("22 27 0:21 / /proc", Err("line 1, mount options: missing"));
        check("22 27 0:21 / /proc rw shared:1", Err("line 1, separator: missing"));
        check("22 27 0:21 / /proc rw -", Err("line 1, file system type: missing"));
        check("22 27 0:21 / /proc rw - proc", Err("line 1, device: missing"));
        check("22 27 0:21 / /proc rw - proc proc", Err("line 1, file system options: missing"));
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
        fn any_text_is_refused_or_read(text in kernel_text(MOUNTINFO)) {
            let _ = parse(text.as_bytes());
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
