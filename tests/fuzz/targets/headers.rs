#![no_main]
//! Parses a header with every parser; writing and parsing it again gives the same header.

use std::sync::Arc;

use livecore_compress::ReadAt;
use livecore_minidump::dump_device::DumpDevice;
use livecore_minidump::partitions::partitions;
use livecore_minidump::{ByteOrder, DumpAvail, KernelDumpHeader, MinidumpHeader, SealRecord};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(block) = bytes.first_chunk::<512>() {
        let _ = KernelDumpHeader::parse(block, 0);
        let mut fixed = *block;
        livecore_fuzz::fix_parity(&mut fixed);
        if let Ok(Some(header)) = KernelDumpHeader::parse(&fixed, 0) {
            assert!(header.parity_ok);
            let again = KernelDumpHeader::parse(&header.encode(), 0);
            assert!(
                matches!(again, Ok(Some(h)) if h.parity_ok && h.dumplength == header.dumplength)
            );
        }
    }
    if let Ok(header) = MinidumpHeader::parse(bytes) {
        let again = MinidumpHeader::parse(&header.encode());
        assert_eq!(again.ok().as_ref(), Some(&header));
    }
    for order in [ByteOrder::Little, ByteOrder::Big] {
        if let Ok(avail) = DumpAvail::parse(bytes, order, 4096, 0) {
            for bit in (0..avail.bits()).take(100) {
                let at = avail.addr_of(bit).expect("a bit is a page");
                // Two ranges can share a page, which has the bit of the first.
                assert!(avail.bit_of(at).is_none_or(|other| other <= bit));
            }
        }
    }
    let disk: Arc<dyn ReadAt> = Arc::new(bytes.to_vec());
    for sector in [512, 4096] {
        for partition in partitions(&*disk, sector).expect("memory is readable") {
            assert!(partition.start + partition.len <= bytes.len() as u64);
        }
    }
    if let Ok(Some(dump)) = DumpDevice::find(&disk, None) {
        let _ = dump.key_block(&*disk);
        let _ = dump.data(&dump.restored(&disk, true));
    }
    if let Ok(record) = SealRecord::parse(bytes) {
        assert_eq!(SealRecord::parse(&record.encode()).ok(), Some(record));
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some(info) = livecore_minidump::info::Info::parse(text)
    {
        let _ = info.seconds();
        let _ = info.to_header().encode();
    }
});
