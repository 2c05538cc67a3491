//! Kernel files that are read every tick.
//!
//! Opening a file of `/proc` or `/sys` costs more than reading it, and the kernel makes their text
//! anew whenever it is read from the start. So [`KeptFile`] opens once, then reads from offset 0 into
//! one buffer that grows until the text fits. When the kept descriptor fails, the file is opened again.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use agent_core::CollectError;

use crate::parse::ParseError;

const BUFFER_BYTES_MIN: usize = 4 << 10;
/// A text beyond this is an error: 100 000 network interfaces are 12 MiB.
const BUFFER_BYTES_MAX: usize = 16 << 20;
/// Room for a part of a text that is read in parts.
const CHUNK_BYTES: usize = 64 << 10;

/// A kernel file that stays open from one tick to the next.
#[derive(Debug)]
pub(crate) struct KeptFile {
    paths: Vec<PathBuf>,
    /// Which of them was opened last.
    opened: usize,
    file: Option<File>,
    buffer: Vec<u8>,
    lossy: String,
}

impl KeptFile {
    /// A file; it is opened when it is first read.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self::first_of(vec![path])
    }

    /// The first of several files that can be opened. If none can be, the first one is the one that is
    /// missing.
    pub(crate) fn first_of(paths: Vec<PathBuf>) -> Self {
        Self { paths, opened: 0, file: None, buffer: Vec::new(), lossy: String::new() }
    }

    /// The text as it is now. Bytes that are not UTF-8 (the name of an interface can hold any)
    /// become U+FFFD.
    pub(crate) fn text(&mut self) -> Result<Content<'_, str>, CollectError> {
        let length = self.fill()?;
        let bytes = &self.buffer[..length];
        let content = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(_) => {
                self.lossy = String::from_utf8_lossy(bytes).into_owned();
                &self.lossy
            }
        };
        Ok(Content { path: self.path(), content })
    }

    /// The bytes as they are now.
    pub(crate) fn bytes(&mut self) -> Result<Content<'_, [u8]>, CollectError> {
        let length = self.fill()?;
        Ok(Content { path: self.path(), content: &self.buffer[..length] })
    }

    /// Gives the lines as they are now to `each`, without ever holding all of the text: that of a busy
    /// host's sockets is dozens of MiB. Lines are counted from 1; one longer than the room for it is an
    /// error.
    pub(crate) fn lines(
        &mut self,
        mut each: impl FnMut(usize, &str) -> Result<(), ParseError>,
    ) -> Result<(), CollectError> {
        self.buffer.resize(CHUNK_BYTES, 0);
        let (mut offset, mut kept, mut index) = (0, 0, 0);
        loop {
            let read = self.read_chunk(kept, offset)?;
            offset += read as u64;
            let filled = kept + read;
            let end = match self.buffer[..filled].iter().rposition(|byte| *byte == b'\n') {
                Some(place) => place + 1,
                None if read > 0 => 0,
                None => filled,
            };
            for line in self.buffer[..end].split_inclusive(|byte| *byte == b'\n') {
                index += 1;
                let line = String::from_utf8_lossy(line);
                each(index, line.trim_end_matches('\n')).map_err(|error| {
                    CollectError::failed(self.path().display().to_string(), error)
                })?;
            }
            if read == 0 {
                return Ok(());
            }
            self.buffer.copy_within(end..filled, 0);
            kept = filled - end;
        }
    }

    /// Reads behind the first `kept` bytes of the buffer; what is read from the start opens the file if
    /// it has to.
    fn read_chunk(&mut self, kept: usize, offset: u64) -> Result<usize, CollectError> {
        let room = self.buffer.get_mut(kept..).filter(|room| !room.is_empty());
        let Some(room) = room else {
            let reason = format!("a line longer than {CHUNK_BYTES} bytes");
            return Err(CollectError::failed(self.path().display().to_string(), reason));
        };
        if let Some(file) = &self.file {
            match read_some(file, room, offset) {
                Ok(read) => return Ok(read),
                Err(_) if offset == 0 => self.file = None,
                Err(error) => return Err(CollectError::from_io(self.path(), &error)),
            }
        }
        let (opened, file) = open_first(&self.paths)?;
        self.opened = opened;
        let read = read_some(&file, room, offset)
            .map_err(|error| CollectError::from_io(self.path(), &error))?;
        self.file = Some(file);
        Ok(read)
    }

    fn path(&self) -> &Path {
        self.paths.get(self.opened).map_or(Path::new(""), PathBuf::as_path)
    }

    fn fill(&mut self) -> Result<usize, CollectError> {
        if let Some(file) = &self.file
            && let Ok(length) = read_whole(file, &mut self.buffer)
        {
            return Ok(length);
        }
        self.file = None;
        let (opened, file) = open_first(&self.paths)?;
        self.opened = opened;
        let length = read_whole(&file, &mut self.buffer)
            .map_err(|error| CollectError::from_io(self.path(), &error))?;
        self.file = Some(file);
        Ok(length)
    }
}

/// What a file holds now, and its path for errors.
#[derive(Debug)]
pub(crate) struct Content<'a, T: ?Sized> {
    path: &'a Path,
    /// What it holds.
    pub(crate) content: &'a T,
}

impl<T: ?Sized> Content<'_, T> {
    /// What it holds can't be parsed.
    pub(crate) fn malformed(&self, error: &ParseError) -> CollectError {
        CollectError::failed(self.path.display().to_string(), error)
    }
}

fn open_first(paths: &[PathBuf]) -> Result<(usize, File), CollectError> {
    let mut first = None;
    for (index, path) in paths.iter().enumerate() {
        match File::open(path) {
            Ok(file) => return Ok((index, file)),
            Err(error) => _ = first.get_or_insert((path, error)),
        }
    }
    Err(match first {
        Some((path, error)) => CollectError::from_io(path, &error),
        None => CollectError::unavailable("no file to read"),
    })
}

/// Reads until the end: the kernel gives many texts a page at a time, so a short read is no end.
pub(crate) fn read_whole(file: &File, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let mut length = 0;
    loop {
        if length == buffer.len() {
            grow(buffer)?;
        }
        match file.read_at(&mut buffer[length..], length as u64) {
            Ok(0) => return Ok(length),
            Ok(read) => length += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn read_some(file: &File, room: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(room, offset) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

fn grow(buffer: &mut Vec<u8>) -> io::Result<()> {
    let bytes = (buffer.len() * 2).max(BUFFER_BYTES_MIN);
    if bytes > BUFFER_BYTES_MAX {
        let reason = format!("longer than {} MiB", BUFFER_BYTES_MAX >> 20);
        return Err(io::Error::new(ErrorKind::FileTooLarge, reason));
    }
    buffer.resize(bytes, 0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_text_is_read_anew_and_the_buffer_grows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stat");
        let mut kept = KeptFile::new(path.clone());
        for length in [10, 0, BUFFER_BYTES_MIN, BUFFER_BYTES_MIN * 5 + 1, 3] {
            let text = "x".repeat(length);
            fs::write(&path, &text).unwrap();
            assert_eq!(kept.text().unwrap().content, text);
        }
    }

    #[test]
    fn lines_are_whole_wherever_the_parts_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tcp");
        let mut kept = KeptFile::new(path.clone());
        for (count, length, tail) in
            [(0, 0, ""), (3, 10, "rest"), (3_000, 149, ""), (9, CHUNK_BYTES - 1, "x")]
        {
            let line = |number: usize| format!("{number:0length$}");
            let lines: Vec<_> = (0..count).map(line).collect();
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            fs::write(&path, text + tail).unwrap();
            let mut found = Vec::new();
            kept.lines(|index, line| {
                found.push(line.to_owned());
                assert_eq!(index, found.len());
                Ok(())
            })
            .unwrap();
            let tail = (!tail.is_empty()).then(|| tail.to_owned());
            assert_eq!(found, lines.into_iter().chain(tail).collect::<Vec<_>>());
        }
        fs::write(&path, "x".repeat(CHUNK_BYTES + 1)).unwrap();
        let error = kept.lines(|_, _| Ok(())).unwrap_err().to_string();
        assert!(error.ends_with("tcp: a line longer than 65536 bytes"), "{error}");
        let error = KeptFile::new(dir.path().join("none")).lines(|_, _| Ok(())).unwrap_err();
        assert!(matches!(error, CollectError::Unavailable { .. }), "{error}");
    }

    #[test]
    fn the_descriptor_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("loadavg");
        fs::write(&path, "1").unwrap();
        let mut kept = KeptFile::new(path.clone());
        assert_eq!(kept.text().unwrap().content, "1");
        fs::remove_file(&path).unwrap();
        assert_eq!(kept.text().unwrap().content, "1", "still the one that was opened");
    }

    #[test]
    fn a_descriptor_that_fails_is_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("loadavg");
        fs::write(&path, "1").unwrap();
        let mut kept = KeptFile::new(path);
        // a directory opens but can't be read
        kept.file = Some(File::open(dir.path()).unwrap());
        assert_eq!(kept.text().unwrap().content, "1");
    }

    #[test]
    fn absent_files_are_unavailable_and_odd_ones_fail() {
        let dir = tempfile::tempdir().unwrap();
        let check = |path: PathBuf, expected: &str| {
            let shown = path.display().to_string();
            let error = KeptFile::new(path).text().unwrap_err().to_string();
            assert_eq!(error.replace(&shown, "PATH"), expected);
        };
        check(dir.path().join("none"), "unavailable: PATH: No such file or directory (os error 2)");
        check(dir.path().to_owned(), "PATH: Is a directory (os error 21)");
        check("/dev/zero".into(), "PATH: longer than 16 MiB");
    }

    #[test]
    fn the_next_path_stands_in() {
        let dir = tempfile::tempdir().unwrap();
        let second = dir.path().join("self");
        fs::write(&second, "mounts").unwrap();
        let mut kept = KeptFile::first_of(vec![dir.path().join("1"), second.clone()]);
        let content = kept.bytes().unwrap();
        assert_eq!(content.content, b"mounts");
        let error = content.malformed(&ParseError::new(1, "device", "missing"));
        assert!(error.to_string().starts_with(&second.display().to_string()), "{error}");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dev");
        fs::write(&path, b"eth\xff: 1").unwrap();
        assert_eq!(KeptFile::new(path).text().unwrap().content, "eth\u{fffd}: 1");
    }
}
