//! Reads the bytes of a planned minidump.

use std::io;
use std::sync::Arc;

use livecore_compress::ReadAt;

use crate::bitmap_section;
use crate::plan::Plan;
use crate::{PhysAddr, PhysMemory};

/// The bytes of a planned minidump: header, message buffer, `dump_avail`, bitmap, page tables, pages.
///
/// Several threads can read at any offset. Pages are read from memory directly into the caller's
/// buffer, contiguous ones in one call. Memory is always read in complete, aligned pages.
pub struct Payload {
    plan: Plan,
    header: Vec<u8>,
    memory: Arc<dyn PhysMemory>,
}

/// The part of a read that is in one section.
struct Piece {
    section: Section,
    /// The offset in the section.
    at: u64,
    /// The length in bytes.
    len: u64,
}

#[derive(Clone, Copy)]
enum Section {
    Header,
    Msgbuf,
    DumpAvail,
    Bitmap,
    Pmap,
    Pages,
}

impl Plan {
    /// Returns the bytes of the dump. Pages are read from `memory`.
    pub fn payload(self, memory: Arc<dyn PhysMemory>) -> Payload {
        Payload {
            header: self.header().encode(),
            plan: self,
            memory,
        }
    }
}

impl Payload {
    /// The plan of the dump.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns the section that contains `offset`, and at most `len` bytes of it.
    fn piece(&self, offset: u64, len: u64) -> Option<Piece> {
        let layout = self.plan.layout();
        let (section, start, end) = [
            (Section::Header, 0, layout.msgbuf_offset()),
            (
                Section::Msgbuf,
                layout.msgbuf_offset(),
                layout.dump_avail_offset(),
            ),
            (
                Section::DumpAvail,
                layout.dump_avail_offset(),
                layout.bitmap_offset(),
            ),
            (
                Section::Bitmap,
                layout.bitmap_offset(),
                layout.pmap_offset(),
            ),
            (Section::Pmap, layout.pmap_offset(), layout.data_offset()),
            (Section::Pages, layout.data_offset(), layout.end()),
        ]
        .into_iter()
        .find(|(_, start, end)| (*start..*end).contains(&offset))?;
        Some(Piece {
            section,
            at: offset - start,
            len: len.min(end - offset),
        })
    }

    /// Returns the page at offset `at` of the page section: its address, the offset in it, and the
    /// number of pages from it, at most `limit`, that are contiguous in the dump and in memory.
    fn run(&self, at: u64, limit: u64) -> io::Result<(PhysAddr, u64, u64)> {
        let page_size = self.plan.layout().page_size();
        let found = self.plan.bitmap().select(at / page_size).and_then(|bit| {
            let (addr, together) = self.plan.dump_avail().run_of(bit)?;
            let run = self.plan.bitmap().run_at(bit, limit.min(together));
            Some((addr, at % page_size, run.end - run.start))
        });
        // A plan has a bit for every page of its layout and a range for every bit.
        found
            .ok_or_else(|| io::Error::other("bitmap and layout of a planned dump are inconsistent"))
    }

    fn read_page_section(&self, at: u64, buf: &mut [u8]) -> io::Result<()> {
        let page_size = self.plan.layout().page_size();
        let mut done = 0;
        while done < buf.len() {
            let left = buf.len() - done;
            let limit = (left as u64).div_ceil(page_size);
            let (addr, skip, pages) = self.run(at + done as u64, limit)?;
            let whole = pages.min(left as u64 / page_size);
            let n = if skip == 0 && whole > 0 {
                let n = (whole * page_size) as usize; // at most `left`
                self.memory.read(addr, &mut buf[done..done + n])?;
                n
            } else {
                let mut page = vec![0; page_size as usize];
                self.memory.read(addr, &mut page)?;
                let rest = &page[skip as usize..];
                let n = rest.len().min(left);
                buf[done..done + n].copy_from_slice(&rest[..n]);
                n
            };
            done += n;
        }
        Ok(())
    }

    fn read_pmap(&self, at: u64, buf: &mut [u8]) {
        let page_size = self.plan.layout().page_size();
        let mut done = 0;
        while done < buf.len() {
            let here = at + done as u64;
            let skip = here % page_size;
            let n = ((page_size - skip) as usize).min(buf.len() - done);
            let out = &mut buf[done..done + n];
            match self.plan.pmap().get(here / page_size) {
                // A plan's page has the page size.
                Some(page) => out.copy_from_slice(&page[skip as usize..skip as usize + n]),
                None => out.fill(0),
            }
            done += n;
        }
    }

    fn known_zero_pages(&self, at: u64, len: u64) -> bool {
        let page_size = self.plan.layout().page_size();
        let mut done = 0;
        while done < len {
            let limit = (len - done).div_ceil(page_size);
            let Ok((addr, skip, pages)) = self.run(at + done, limit + 1) else {
                return false;
            };
            if !self.memory.known_zero(addr, pages * page_size) {
                return false;
            }
            done += pages * page_size - skip;
        }
        true
    }
}

/// Copies `from[at..]` to `buf` and pads it with zeros.
fn copy_padded(from: &[u8], at: u64, buf: &mut [u8]) {
    let from = usize::try_from(at)
        .ok()
        .and_then(|at| from.get(at..))
        .unwrap_or_default();
    let n = from.len().min(buf.len());
    buf[..n].copy_from_slice(&from[..n]);
    buf[n..].fill(0);
}

impl ReadAt for Payload {
    fn size(&self) -> io::Result<u64> {
        Ok(self.plan.layout().end())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            let left = (buf.len() - done) as u64;
            let Some(piece) = offset
                .checked_add(done as u64)
                .and_then(|o| self.piece(o, left))
            else {
                break;
            };
            let n = piece.len as usize; // at most `left`
            let out = &mut buf[done..done + n];
            match piece.section {
                Section::Header => copy_padded(&self.header, piece.at, out),
                Section::Msgbuf => copy_padded(self.plan.msgbuf(), piece.at, out),
                Section::DumpAvail => copy_padded(self.plan.dump_avail_bytes(), piece.at, out),
                Section::Bitmap => self.plan.words().encode(self.plan.bitmap(), piece.at, out),
                Section::Pmap => self.read_pmap(piece.at, out),
                Section::Pages => self.read_page_section(piece.at, out)?,
            }
            done += n;
        }
        Ok(done)
    }

    fn known_zero(&self, offset: u64, len: u64) -> bool {
        let page_size = self.plan.layout().page_size();
        let mut done = 0;
        while done < len {
            let Some(piece) = offset
                .checked_add(done)
                .and_then(|o| self.piece(o, len - done))
            else {
                return false;
            };
            let zero = match piece.section {
                Section::Header | Section::Msgbuf | Section::DumpAvail => false,
                Section::Bitmap => bitmap_section::is_zero(self.plan.bitmap(), piece.at, piece.len),
                Section::Pmap => self
                    .plan
                    .pmap()
                    .is_zero(piece.at / page_size, (piece.at + piece.len - 1) / page_size),
                Section::Pages => self.known_zero_pages(piece.at, piece.len),
            };
            if !zero {
                return false;
            }
            done += piece.len;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PmapPages;
    use crate::{Bitmap, DumpAvail, MinidumpHeader};
    use std::ops::Range;

    /// Memory in which every 8 bytes are their own address, except a known zero page at 0x3000.
    struct Addresses;

    const RANGES: [Range<PhysAddr>; 2] = [
        PhysAddr(0x1000)..PhysAddr(0x4000),
        PhysAddr(0x10_0000)..PhysAddr(0x10_4000),
    ];

    impl PhysMemory for Addresses {
        fn ranges(&self) -> &[Range<PhysAddr>] {
            &RANGES
        }

        fn read(&self, at: PhysAddr, buf: &mut [u8]) -> io::Result<()> {
            assert_eq!((at.0 % 4096, buf.len() % 4096), (0, 0));
            for (i, eight) in buf.chunks_exact_mut(8).enumerate() {
                let here = at.0 + 8 * i as u64;
                let value = if here >> 12 == 3 { 0 } else { here };
                eight.copy_from_slice(&value.to_le_bytes());
            }
            Ok(())
        }

        fn known_zero(&self, at: PhysAddr, len: u64) -> bool {
            at.0 >= 0x3000 && at.0 + len <= 0x4000
        }
    }

    fn payload() -> Payload {
        let ranges = DumpAvail::from_ranges(&RANGES, 4096);
        let bitmap = Bitmap::from_words(vec![0b110_1111], 7).unwrap();
        let mut pmap = PmapPages::new();
        pmap.insert(1, vec![7; 4096].into());
        let header = MinidumpHeader {
            version: 3,
            msgbufsize: 100,
            pmapsize: 3 * 4096,
            ..MinidumpHeader::default()
        };
        Plan::new(header, vec![5; 172], ranges.unwrap(), bitmap, pmap)
            .unwrap()
            .payload(Arc::new(Addresses))
    }

    /// The bytes of [`payload`], assembled by the test.
    fn expected() -> Vec<u8> {
        let mut all = vec![0; 4096];
        all[..22].copy_from_slice(b"minidump FreeBSD/amd64");
        for (at, value) in [
            (24, 3_u32),
            (28, 100),
            (32, 4096),
            (36, 3 * 4096),
            (64, 4096),
        ] {
            all[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        all.extend([5; 172]);
        all.resize(2 * 4096, 0);
        for value in [0x1000_u64, 0x4000, 0x10_0000, 0x10_4000] {
            all.extend(value.to_le_bytes());
        }
        all.resize(3 * 4096, 0);
        all.push(0x6f);
        all.resize(5 * 4096, 0);
        all.extend([7; 4096]);
        all.resize(7 * 4096, 0);
        for page in [0x1000_u64, 0x2000, 0x3000, 0x10_0000, 0x10_2000, 0x10_3000] {
            for i in 0..512 {
                let here = if page == 0x3000 { 0 } else { page + 8 * i };
                all.extend(here.to_le_bytes());
            }
        }
        all
    }

    #[test]
    fn bytes_are_equal_to_those_assembled_by_the_test() {
        let payload = payload();
        let mut all = vec![0xee; expected().len() + 10];
        let n = payload.read_full_at(&mut all, 0).unwrap();
        all.truncate(n);
        assert!(all == expected());
        assert_eq!(payload.size().unwrap(), n as u64);
    }

    #[test]
    fn reads_of_any_offset_and_length_return_the_same_bytes() {
        let (payload, all) = (payload(), expected());
        for at in (0..all.len()).step_by(1021) {
            for len in [1, 4095, 4096, 9000] {
                let mut buf = vec![0xee; len];
                let n = payload.read_full_at(&mut buf, at as u64).unwrap();
                assert_eq!(n, len.min(all.len() - at));
                assert!(buf[..n] == all[at..at + n], "{len} bytes at {at}");
            }
        }
        assert_eq!(payload.read_at(&mut [0], u64::MAX).unwrap(), 0);
    }

    #[test]
    fn only_zero_bytes_are_known_zero() {
        let (payload, all) = (payload(), expected());
        let mut said = 0;
        for at in (0..all.len()).step_by(512) {
            for len in [512, 4096, 8192] {
                if payload.known_zero(at as u64, len as u64) {
                    assert!(all[at..at + len].iter().all(|b| *b == 0), "{len} at {at}");
                    said += 1;
                }
            }
        }
        // The empty page-table pages 0 and 2, and the page at 0x3000.
        assert!(said > 24, "{said} times");
        assert!(payload.known_zero(9 * 4096, 4096));
        assert!(payload.known_zero(4 * 4096, 4096));
        assert!(!payload.known_zero(all.len() as u64, 1));
    }
}
