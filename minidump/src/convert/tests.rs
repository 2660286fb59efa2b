use std::num::NonZeroUsize;
use std::sync::Arc;

use livecore_compress::Codec;

use super::*;
use crate::dump::tests::{open, payload, raw};
use crate::{OpenOptions, Warning};

const CODECS: [Codec; 3] = [Codec::None, Codec::Gzip, Codec::Zstd];
const CONTAINERS: [Container; 3] = [Container::Saved, Container::Raw, Container::Sealed];

fn target(container: Container, codec: Codec) -> Target {
    Target {
        container,
        encoding: Encoding::new(codec)
            .frame_size(16384)
            .threads(NonZeroUsize::new(2).unwrap()),
    }
}

fn converted(dump: &Dump, container: Container, codec: Codec) -> (Vec<u8>, Written) {
    let mut out = Vec::new();
    let written = convert(dump, &target(container, codec), &mut out, &NoProgress).unwrap();
    assert_eq!(written.file_len, out.len() as u64);
    (out, written)
}

fn all(dump: &Dump) -> Vec<u8> {
    let mut bytes = Vec::new();
    let payload = dump.payload();
    bytes.resize(payload.size().unwrap() as usize, 0);
    payload.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn payload_is_the_same_after_conversion_between_any_containers_and_codecs() {
    let original = open(raw(3)).unwrap();
    for first in CONTAINERS {
        for codec in CODECS {
            let (bytes, _) = converted(&original, first, codec);
            let dump = open(bytes).unwrap();
            assert_eq!(
                (dump.envelope().container(), dump.envelope().codec()),
                (first, codec)
            );
            assert_eq!(dump.envelope().warnings(), []);
            assert_eq!(all(&dump), payload(3));
            for second in CONTAINERS {
                for codec in CODECS {
                    let (bytes, written) = converted(&dump, second, codec);
                    assert_eq!(written.payload_len, payload(3).len() as u64);
                    let again = open(bytes).unwrap();
                    assert_eq!(
                        (again.envelope().container(), again.envelope().codec()),
                        (second, codec)
                    );
                    assert_eq!(all(&again), payload(3));
                }
            }
        }
    }
}

/// The layout is that of MEM_KERNELDUMP: FreeBSD `sys/kern/kern_vnodedumper.c`.
#[test]
fn raw_file_has_the_kernels_layout() {
    let dump = open(raw(3)).unwrap();
    for codec in CODECS {
        let (bytes, written) = converted(&dump, Container::Raw, codec);
        let rounded = (written.stored_len as usize).div_ceil(4096) * 4096;
        assert_eq!(bytes.len(), rounded + 512);
        assert!(
            bytes[written.stored_len as usize..rounded]
                .iter()
                .all(|b| *b == 0)
        );
        let header = open(bytes)
            .unwrap()
            .envelope()
            .kerneldumpheader()
            .cloned()
            .unwrap();
        assert_eq!(header.dumplength, written.stored_len);
        assert_eq!(header.dumpextent, payload(3).len() as u64);
        assert_eq!((header.dumptime, header.blocksize), (1_700_000_000, 4096));
        assert!(header.parity_ok);
    }
    let (bytes, _) = converted(&dump, Container::Raw, Codec::None);
    assert_eq!(bytes, raw(3));
}

#[test]
fn seal_keeps_the_header_and_marks_a_missing_one_as_rebuilt() {
    let (bytes, _) = converted(&open(raw(3)).unwrap(), Container::Sealed, Codec::Zstd);
    let dump = open(bytes).unwrap();
    assert_eq!(*dump.envelope().header_origin(), HeaderOrigin::Seal);
    assert_eq!(
        dump.envelope().kerneldumpheader().unwrap().dumptime,
        1_700_000_000
    );

    let (bytes, _) = converted(&open(payload(3)).unwrap(), Container::Sealed, Codec::Gzip);
    let dump = open(bytes).unwrap();
    assert_eq!(
        *dump.envelope().header_origin(),
        HeaderOrigin::SealFromPayload
    );
    let header = dump.envelope().kerneldumpheader().unwrap();
    assert_eq!(
        (header.dumptime, &header.architecture[..]),
        (0, &b"amd64"[..])
    );
    assert!(header.hostname.is_empty());
    let (bytes, _) = converted(&dump, Container::Sealed, Codec::None);
    let dump = open(bytes).unwrap();
    assert_eq!(
        *dump.envelope().header_origin(),
        HeaderOrigin::SealFromPayload
    );
}

#[test]
fn short_dump_stays_short_and_is_marked_in_its_seal() {
    let whole = payload(3);
    let cut = &whole[..whole.len() - 5000];
    let dump = open(cut.to_vec()).unwrap();
    for codec in CODECS {
        let (bytes, _) = converted(&dump, Container::Sealed, codec);
        let again = open(bytes).unwrap();
        assert_eq!(all(&again), cut);
        assert!(matches!(again.envelope().warnings(), [Warning::Short(_)]));
        let (bytes, _) = converted(&again, Container::Saved, codec);
        assert_eq!(all(&open(bytes).unwrap()), cut);
        let refused = convert(
            &dump,
            &target(Container::Raw, codec),
            &mut Vec::new(),
            &NoProgress,
        );
        assert!(matches!(refused, Err(Error::Options(_))));
    }
}

#[test]
fn seal_records_a_zero_filled_tail() {
    let whole = payload(3);
    let cut = whole[..whole.len() - 5000].to_vec();
    let options = OpenOptions::default().zero_tail(true);
    let mut expected = cut.clone();
    expected.resize(whole.len(), 0);
    // Uncompressed, and as a gzip stream, whose length is known only after decoding it.
    let (foreign, _) = converted(&open(cut.clone()).unwrap(), Container::Saved, Codec::Gzip);
    for source in [cut.clone(), foreign] {
        let dump = Dump::from_source(Arc::new(source), &options).unwrap();
        let (bytes, _) = converted(&dump, Container::Sealed, Codec::Zstd);
        let again = open(bytes).unwrap();
        assert_eq!(all(&again), expected);
        let seal = again.envelope().seal().unwrap();
        assert_eq!(seal.flags & (FLAG_ZERO_TAIL | FLAG_SHORT), FLAG_ZERO_TAIL);
        let len = (cut.len() as u64).to_le_bytes();
        assert_eq!(seal.record(RECORD_SOURCE_LENGTH), Some(&len[..]));
        let source_len = Some(cut.len() as u64);
        assert_eq!(
            again.envelope().warnings(),
            [Warning::FilledTail { source_len }]
        );
        let (bytes, _) = converted(&dump, Container::Raw, Codec::None);
        assert_eq!(all(&open(bytes).unwrap()), expected);
    }
}

#[test]
fn damaged_gzip_stream_is_broken_and_not_short() {
    let (mut bytes, _) = converted(&open(payload(3)).unwrap(), Container::Saved, Codec::Gzip);
    let len = bytes.len();
    bytes[len - 6] ^= 1;
    let mut out = Vec::new();
    let result = open(bytes).and_then(|dump| {
        convert(
            &dump,
            &target(Container::Saved, Codec::Zstd),
            &mut out,
            &NoProgress,
        )
    });
    assert!(matches!(result, Err(Error::Broken { .. })), "{result:?}");
}

#[test]
fn output_does_not_depend_on_the_number_of_threads() {
    let dump = open(raw(3)).unwrap();
    for codec in CODECS {
        for container in CONTAINERS {
            let mut outputs = [1, 2, 5].map(|threads| {
                let mut out = Vec::new();
                let mut target = target(container, codec);
                target.encoding.threads = NonZeroUsize::new(threads).unwrap();
                convert(&dump, &target, &mut out, &NoProgress).unwrap();
                out
            });
            let first = std::mem::take(&mut outputs[0]);
            assert!(outputs[1..].iter().all(|o| *o == first));
        }
    }
}
