//! What udev knows of a block device: `/run/udev/data/b<major>:<minor>`.
//!
//! Lines `E:KEY=value` are the device's properties; the format is udev's own and has been stable for
//! long (systemd's `device-private.c`). udev replaces a file when something changes, so what was read
//! stands until the file is another one. A host without udev has none of it.

use std::{collections::HashMap, fs, io, os::unix::fs::MetadataExt, path::PathBuf};

use agent_core::Roots;

/// The properties that become labels or values; a property that is absent is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Properties {
    pub(crate) path: String,
    pub(crate) wwn: String,
    pub(crate) model: String,
    pub(crate) serial: String,
    pub(crate) revision: String,
    pub(crate) fs_type: String,
    pub(crate) fs_usage: String,
    pub(crate) fs_uuid: String,
    pub(crate) fs_version: String,
    pub(crate) dm_name: String,
    pub(crate) dm_uuid: String,
    pub(crate) dm_vg_name: String,
    pub(crate) dm_lv_name: String,
    pub(crate) dm_lv_layer: String,
    pub(crate) ata: String,
    pub(crate) ata_write_cache: String,
    pub(crate) ata_write_cache_enabled: String,
    pub(crate) ata_rotation_rate_rpm: String,
}

impl Properties {
    fn field(&mut self, key: &str) -> Option<&mut String> {
        Some(match key {
            "ID_PATH" => &mut self.path,
            "ID_WWN" => &mut self.wwn,
            "ID_MODEL" => &mut self.model,
            "ID_SERIAL_SHORT" => &mut self.serial,
            "ID_REVISION" => &mut self.revision,
            "ID_FS_TYPE" => &mut self.fs_type,
            "ID_FS_USAGE" => &mut self.fs_usage,
            "ID_FS_UUID" => &mut self.fs_uuid,
            "ID_FS_VERSION" => &mut self.fs_version,
            "DM_NAME" => &mut self.dm_name,
            "DM_UUID" => &mut self.dm_uuid,
            "DM_VG_NAME" => &mut self.dm_vg_name,
            "DM_LV_NAME" => &mut self.dm_lv_name,
            "DM_LV_LAYER" => &mut self.dm_lv_layer,
            "ID_ATA" => &mut self.ata,
            "ID_ATA_WRITE_CACHE" => &mut self.ata_write_cache,
            "ID_ATA_WRITE_CACHE_ENABLED" => &mut self.ata_write_cache_enabled,
            "ID_ATA_ROTATION_RATE_RPM" => &mut self.ata_rotation_rate_rpm,
            _ => return None,
        })
    }
}

/// The properties in a file of udev; what is none is passed over.
fn parse(text: &str) -> Properties {
    let mut properties = Properties::default();
    let lines = text.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('='));
    for (key, value) in lines {
        if let Some(field) = properties.field(key) {
            value.clone_into(field);
        }
    }
    properties
}

/// The properties of every device asked for.
#[derive(Debug)]
pub(crate) struct Udev {
    directory: PathBuf,
    known: HashMap<(u64, u64), Known>,
}

#[derive(Debug)]
struct Known {
    file: PathBuf,
    version: Option<Version>,
    properties: Properties,
    asked: bool,
}

/// Which file was read: device, inode, time of its last change in seconds and nanoseconds.
type Version = (u64, u64, i64, i64);

impl Udev {
    /// Of the host below these roots.
    pub(crate) fn new(roots: &Roots) -> Self {
        Self { directory: roots.root("/run/udev/data"), known: HashMap::new() }
    }

    /// The properties of a block device as they are now.
    pub(crate) fn properties(&mut self, major: u64, minor: u64) -> &Properties {
        let known = self.known.entry((major, minor)).or_insert_with(|| Known {
            file: self.directory.join(format!("b{major}:{minor}")),
            version: None,
            properties: Properties::default(),
            asked: true,
        });
        known.asked = true;
        let now =
            fs::metadata(&known.file).ok().map(|m| (m.dev(), m.ino(), m.mtime(), m.mtime_nsec()));
        if now != known.version {
            known.properties = read(known).unwrap_or_default();
            known.version = now;
        }
        &known.properties
    }

    /// Forgets the devices that weren't asked for since the last call.
    pub(crate) fn forget_others(&mut self) {
        self.known.retain(|_, known| std::mem::take(&mut known.asked));
    }
}

fn read(known: &Known) -> io::Result<Properties> {
    let bytes = fs::read(&known.file)?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::kernel_text;

    const DATA: &str = "\
S:disk/by-id/ata-X
I:12345
E:ID_ATA=1
E:ID_MODEL=Samsung_SSD=2
E:ID_FS_TYPE=ext4
E:ID_FS_TYPE=xfs
E:NOT_OURS=1
E:ID_WWN
G:systemd
";

    #[test]
    fn properties_are_read_and_the_rest_is_passed_over() {
        let check = |text: &str, expected: Properties| assert_eq!(parse(text), expected);
        check("", Properties::default());
        let expected = Properties {
            ata: "1".into(),
            model: "Samsung_SSD=2".into(),
            fs_type: "xfs".into(),
            ..Properties::default()
        };
        check(DATA, expected);
    }

    #[test]
    fn a_file_that_was_replaced_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("run/udev/data");
        fs::create_dir_all(&directory).unwrap();
        let mut udev = Udev::new(&Roots { rootfs: dir.path().into(), ..Roots::default() });
        let mut check = |content: Option<&str>, expected: &str| {
            let (file, new) = (directory.join("b8:0"), directory.join("new"));
            match content {
                Some(content) => {
                    fs::write(&new, content).unwrap();
                    fs::rename(&new, &file).unwrap();
                }
                None => fs::remove_file(&file).unwrap_or_default(),
            }
            assert_eq!(udev.properties(8, 0).model, expected);
            assert_eq!(udev.properties(8, 0).model, expected);
        };
        check(None, "");
        check(Some("E:ID_MODEL=a\n"), "a");
        check(Some("E:ID_MODEL=b\n"), "b");
        check(None, "");
    }

    #[test]
    fn devices_that_are_gone_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut udev = Udev::new(&Roots { rootfs: dir.path().into(), ..Roots::default() });
        udev.properties(8, 0);
        udev.properties(8, 16);
        udev.forget_others();
        udev.properties(8, 16);
        udev.forget_others();
        assert_eq!(udev.known.keys().collect::<Vec<_>>(), [&(8, 16)]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in kernel_text(DATA)) {
            parse(&text);
        }
    }
}
