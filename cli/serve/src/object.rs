//! Documents for `qXfer` and files for `vFile`, read in pieces at any offset.

use std::fmt::Write as _;
use std::os::unix::fs::FileExt;

use livecore_defs::text::unhex;

use super::packet::{PACKET_MAX, fitting, number, two_numbers};
use super::session::{Answer, Session};
use super::target::Served;

/// `EI_OSABI` and the rest of `e_ident`, hidden from a GDB without FreeBSD support.
const IDENT_ABI: std::ops::Range<u64> = 7..16;

/// Escapes text for XML; characters that XML does not allow become `?`.
pub(crate) fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&apos;",
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}

impl Served {
    /// The document of threads with names and CPUs.
    fn threads_document(&self) -> &str {
        self.threads_xml.get_or_init(|| {
            let mut text = String::from("<?xml version=\"1.0\"?>\n<threads>\n");
            for entry in &self.threads {
                // Writing to a string does not fail.
                let _ = write!(text, "<thread id=\"{:x}\"", entry.id);
                if let Some(cpu) = entry.cpu() {
                    let _ = write!(text, " core=\"{cpu}\"");
                }
                let _ = writeln!(text, " name=\"{}\"/>", xml(&entry.title));
            }
            text + "</threads>\n"
        })
    }

    /// The map of memory: physical memory if selected, else the direct map and the kernel map. All
    /// of it is read-only, so that GDB itself refuses writes.
    fn memory_map(&self) -> String {
        let memory = &self.memory;
        let mut ranges = vec![(0, memory.memory_end().0)];
        if let Some(direct) = memory.direct_map() {
            ranges.push((direct.addresses.start.0, direct.addresses.end.0));
        }
        let top = if self.machine.word == 4 { 1 << 32 } else { 0 };
        if let Some(kernbase) = memory.kernbase() {
            ranges.push((kernbase.0, top));
        }
        // Sort and merge the ranges, since GDB refuses a map with overlaps. An end of 0 is the end
        // of the address space.
        let last = |end: u64| end.wrapping_sub(1);
        ranges.sort_unstable();
        let mut joined: Vec<(u64, u64)> = Vec::new();
        for (start, end) in ranges {
            match joined.last_mut() {
                Some((_, before)) if start != 0 && last(*before) >= start - 1 => {
                    if last(end) > last(*before) {
                        *before = end;
                    }
                }
                _ => joined.push((start, end)),
            }
        }
        let mut text = String::from(
            "<?xml version=\"1.0\"?>\n<!DOCTYPE memory-map PUBLIC \"+//IDN gnu.org//DTD GDB Memory \
             Map V1.0//EN\" \"http://sourceware.org/gdb/gdb-memory-map.dtd\">\n<memory-map>\n",
        );
        for (start, end) in joined {
            let len = end.wrapping_sub(start);
            if len != 0 {
                let _ = writeln!(
                    text,
                    "<memory type=\"rom\" start=\"{start:#x}\" length=\"{len:#x}\"/>"
                );
            }
        }
        text + "</memory-map>\n"
    }

    /// The modules whose files were found, with their sections.
    fn libraries(&self) -> String {
        let mut text = String::from("<library-list>\n");
        for module in &self.module_files {
            let path = xml(&module.path.display().to_string());
            let _ = writeln!(text, "<library name=\"{path}\">");
            for section in &module.sections {
                let _ = writeln!(text, "<section address=\"{:#x}\"/>", section.address);
            }
            text += "</library>\n";
        }
        text + "</library-list>\n"
    }
}

impl Session<'_> {
    /// Answers `qXfer:OBJECT:read:ANNEX:OFFSET,LENGTH`.
    pub(crate) fn object(&self, argument: &[u8]) -> Answer {
        let text = String::from_utf8_lossy(argument);
        let parts: Vec<&str> = text.splitn(4, ':').collect();
        let [object, "read", annex, range] = parts[..] else {
            return "".into();
        };
        let Some((offset, len)) = two_numbers(range.as_bytes(), b',') else {
            return self.error("expected OFFSET,LENGTH");
        };
        let made;
        let document: &str = match (object, annex) {
            ("features", "target.xml") => {
                made = self.served.machine.description(self.registers());
                &made
            }
            ("features", _) => return "E00".into(),
            ("memory-map", "") => {
                made = self.served.memory_map();
                &made
            }
            ("libraries", "") => {
                made = self.served.libraries();
                &made
            }
            ("threads", "") => self.served.threads_document(),
            ("exec-file", _) => {
                // If the kernel could not be opened, the first file is a debug file or a module.
                let own = self.served.kernel_path.to_str();
                let kernel = own.filter(|own| self.served.files.iter().any(|f| f.path == *own));
                let Some(kernel) = kernel else {
                    return self.error("the kernel's file cannot be opened");
                };
                kernel
            }
            _ => return "".into(),
        };
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|offset| document.as_bytes().get(offset..));
        let Some(rest) = rest else {
            return self.error("the offset is beyond the end");
        };
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
        let piece = &rest[..fitting(&rest[..len], PACKET_MAX - 8)];
        let mut body = vec![if piece.len() == rest.len() {
            b'l'
        } else {
            b'm'
        }];
        body.extend_from_slice(piece);
        body.into()
    }

    /// Answers `vFile:…`: reads the kernel and the files that belong to it.
    pub(crate) fn file(&mut self, operation: &[u8]) -> Answer {
        const ENOENT: &str = "F-1,2";
        const EBADF: &str = "F-1,9";
        const EINVAL: &str = "F-1,16";
        const EMFILE: &str = "F-1,18";
        const EROFS: &str = "F-1,1e";
        let Some(at) = operation.iter().position(|b| *b == b':') else {
            return "".into();
        };
        let (name, argument) = (&operation[..at], &operation[at + 1..]);
        match name {
            // There is only one file system.
            b"setfs" => "F0".into(),
            b"open" => {
                let mut parts = argument.split(|b| *b == b',');
                let (path, flags) = (parts.next(), parts.next());
                let Some((path, flags)) = path.and_then(unhex).zip(flags.and_then(number)) else {
                    return EINVAL.into();
                };
                if flags & 3 != 0 {
                    return EROFS.into();
                }
                let named = |f: &super::target::SharedFile| f.path.as_bytes() == path;
                let Some(file) = self.served.files.iter().position(named) else {
                    return ENOENT.into();
                };
                match self.open.iter().position(Option::is_none) {
                    Some(fd) => {
                        self.open[fd] = Some(file);
                        format!("F{fd:x}").into()
                    }
                    None => EMFILE.into(),
                }
            }
            b"close" => match self.descriptor(argument) {
                Some(fd) => {
                    self.open[fd] = None;
                    "F0".into()
                }
                None => EBADF.into(),
            },
            b"fstat" => match self.descriptor(argument).and_then(|fd| self.opened(fd)) {
                Some(file) => {
                    let mut body = b"F40;".to_vec();
                    body.extend(status(file.len));
                    body.into()
                }
                None => EBADF.into(),
            },
            b"pread" => {
                let mut parts = argument.splitn(2, |b| *b == b',');
                let fd = parts.next().and_then(|fd| self.descriptor(fd));
                let range = parts.next().and_then(|range| two_numbers(range, b','));
                let Some(file) = fd.and_then(|fd| self.opened(fd)) else {
                    return EBADF.into();
                };
                let Some((len, offset)) = range else {
                    return EINVAL.into();
                };
                let len = len.min(PACKET_MAX as u64 - 32) as usize;
                let mut piece = vec![0; len];
                let Ok(got) = read_full(&file.file, &mut piece, offset) else {
                    return "F-1,5".into();
                };
                piece.truncate(got);
                hide_abi(&mut piece, offset);
                piece.truncate(fitting(&piece, PACKET_MAX - 32));
                let mut body = format!("F{:x};", piece.len()).into_bytes();
                body.extend_from_slice(&piece);
                body.into()
            }
            _ => "".into(),
        }
    }

    fn descriptor(&self, text: &[u8]) -> Option<usize> {
        let fd = usize::try_from(number(text)?).ok()?;
        self.open.get(fd)?.map(|_| fd)
    }

    fn opened(&self, fd: usize) -> Option<&super::target::SharedFile> {
        self.served.files.get((*self.open.get(fd)?)?)
    }
}

/// Clears the ABI in the first bytes of an ELF file.
fn hide_abi(piece: &mut [u8], offset: u64) {
    for (at, byte) in (offset..).zip(piece) {
        if at >= IDENT_ABI.end {
            break;
        }
        if IDENT_ABI.contains(&at) {
            *byte = 0;
        }
    }
}

fn read_full(file: &std::fs::File, buf: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        let Some(at) = offset.checked_add(done as u64) else {
            break;
        };
        match file.read_at(&mut buf[done..], at) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// The protocol's `struct stat`: 64 bytes, big endian. GDB manual, "Stat".
fn status(len: u64) -> Vec<u8> {
    const REGULAR_READABLE: u32 = 0o100_444;
    let mut body = Vec::with_capacity(64);
    for word in [0, 0, REGULAR_READABLE, 1, 0, 0, 0] {
        body.extend(word.to_be_bytes());
    }
    for long in [len, 4096, len.div_ceil(512)] {
        body.extend(long.to_be_bytes());
    }
    body.resize(64, 0);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_escapes_special_and_invalid_characters() {
        let escaped = xml("<a> \u{1b}\u{fffe}\u{ffff}\u{fffd} \"&'");
        assert_eq!(escaped, "&lt;a&gt; ???\u{fffd} &quot;&amp;&apos;");
    }
}
