//! Where the log of a path goes: a file that others rename and remove while it is written, a pipe, or one of the standard
//! outputs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::sink::{Look, Sink};

/// An open log. Only a regular file is made durable, and looked after: of a pipe or a device there is nothing to sync, and
/// nothing to be rotated.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// Device and inode of a regular file.
    identity: Option<(u64, u64)>,
    is_standard: bool,
    /// At the last look another file, or none, was at the path.
    strayed: bool,
}

impl LogFile {
    /// Opens what is at `path` to append to it, made if it is missing. A torn last line, as a killed process leaves one, is
    /// ended first.
    ///
    /// # Errors
    /// If it cannot be opened or read.
    pub(super) fn open(path: &Path) -> io::Result<LogFile> {
        let standard = standard(path)?;
        let is_standard = standard.is_some();
        let mut file = match standard {
            Some(file) => file,
            None => at(path)?,
        };
        let metadata = file.metadata()?;
        let identity = metadata.is_file().then(|| (metadata.dev(), metadata.ino()));
        if identity.is_some() && !is_standard && metadata.len() > 0 {
            end_torn_line(&mut file)?;
        }
        Ok(LogFile { path: path.to_owned(), file, identity, is_standard, strayed: false })
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sink for LogFile {
    fn sync(&mut self) -> io::Result<()> {
        match self.identity {
            Some(_) => self.file.sync_data(),
            None => Ok(()),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        if self.is_standard {
            return Ok(());
        }
        let fresh = LogFile::open(&self.path)?;
        let former = std::mem::replace(self, fresh);
        if former.identity.is_some() {
            former.file.sync_data()?;
        }
        Ok(())
    }

    /// Another file at the path, or none, is believed at the second look: a rotation renames the one, and makes the next
    /// a moment later. A file of ours in between would be in the way of that.
    fn look(&mut self) -> Look {
        let Some(identity) = self.identity.filter(|_| !self.is_standard) else { return Look::Same };
        let now = fs::metadata(&self.path).map(|metadata| (metadata.dev(), metadata.ino()));
        let is_same = match now {
            Ok(now) => now == identity,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        match (is_same, std::mem::replace(&mut self.strayed, !is_same)) {
            (false, true) => Look::Gone,
            _ => Look::Same,
        }
    }
}

/// The output that such a path stands for, as this process was given it. To open it by its path would fail for a socket (as of
/// a service manager), and give a file a position of its own, from which lines would be written over what else is printed.
fn standard(path: &Path) -> io::Result<Option<File>> {
    let owned = match path.to_str() {
        Some("/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1") => io::stdout().as_fd().try_clone_to_owned()?,
        Some("/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2") => io::stderr().as_fd().try_clone_to_owned()?,
        _ => return Ok(None),
    };
    Ok(Some(File::from(owned)))
}

fn at(path: &Path) -> io::Result<File> {
    let is_pipe = fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
    let mut options = OpenOptions::new();
    // A pipe that is open for reading, too, can be opened and written to before its reader comes, and after it went.
    options.append(true).read(true);
    match options.clone().create(!is_pipe).open(path) {
        // A file that may be written and not be read: its torn last line stays.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !is_pipe => {
            options.read(false).create(true).open(path)
        }
        opened => opened,
    }
}

fn end_torn_line(file: &mut File) -> io::Result<()> {
    let mut last = [0];
    match file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last)) {
        Ok(()) if last != *b"\n" => file.write_all(b"\n"),
        // EBADF: it is open for writing alone.
        Err(error) if error.raw_os_error() != Some(libc::EBADF) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_file_that_was_renamed_is_written_until_it_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (path, aside) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let mut log = LogFile::open(&path).unwrap();
        log.write_all(b"one\n").unwrap();
        fs::rename(&path, &aside).unwrap();
        log.write_all(b"two\n").unwrap();
        log.reopen().unwrap();
        log.write_all(b"three\n").unwrap();
        assert_eq!((said(&aside).as_str(), said(&path).as_str()), ("one\ntwo\n", "three\n"));
        // What cannot be opened anew is written on.
        fs::rename(&path, &aside).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(log.reopen().is_err());
        log.write_all(b"four\n").unwrap();
        assert_eq!(said(&aside), "three\nfour\n");
    }

    #[test]
    fn a_file_that_is_gone_or_another_is_told_at_the_second_look() {
        let folder = tempfile::tempdir().unwrap();
        let (path, aside) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let mut log = LogFile::open(&path).unwrap();
        assert_eq!([log.look(), log.look(), log.look()], [Look::Same; 3]);
        fs::rename(&path, &aside).unwrap();
        assert_eq!(log.look(), Look::Same);
        // Put back within a moment.
        fs::rename(&aside, &path).unwrap();
        assert_eq!([log.look(), log.look()], [Look::Same; 2]);
        fs::remove_file(&path).unwrap();
        assert_eq!([log.look(), log.look()], [Look::Same, Look::Gone]);
        log.reopen().unwrap();
        assert_eq!([log.look(), log.look()], [Look::Same; 2]);
        fs::rename(&path, &aside).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!([log.look(), log.look()], [Look::Same, Look::Gone]);
    }

    #[test]
    fn what_is_no_file_is_neither_synced_nor_looked_after() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        for path in [&pipe, Path::new("/dev/null"), Path::new("/dev/stdout"), Path::new("/dev/fd/2")] {
            let mut log = LogFile::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            log.write_all(b"").unwrap();
            log.sync().unwrap();
            log.reopen().unwrap();
            assert_eq!([log.look(), log.look()], [Look::Same; 2], "{}", path.display());
        }
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        assert!(LogFile::open(folder.path()).is_err(), "a folder is no log");
    }
}
