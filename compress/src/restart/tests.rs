//! Every restart point, against the content.

use std::io::Write;
use std::sync::Arc;

use livecore_tests::random::Random;

use super::zstd::prune;
use crate::Codec;
use crate::decode::{Pass, StreamPosition};

/// Content with pages of zeros, text, pointers and noise.
fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut out = Vec::with_capacity(len + 4096);
    while out.len() < len {
        match random.below(6) {
            0 => out.extend([0; 4096]),
            1 => {
                out.extend((0..512).flat_map(|_| {
                    (0xffff_f800_0000_0000_u64 + random.below(1 << 24)).to_le_bytes()
                }))
            }
            2 => out.extend((0..4096).map(|_| b"etaoin shrdlu\n"[random.index(14)])),
            3 => out.extend((0..4096).map(|_| random.below(256) as u8)),
            4 => out.extend([random.below(4) as u8; 4096 * 40]),
            _ if out.len() > 70_000 => {
                let from = out.len() - 1 - random.index(70_000);
                let end = out.len().min(from + 4096);
                let again = out[from..end].to_vec();
                out.extend(again);
            }
            _ => {}
        }
    }
    out.truncate(len);
    out
}

/// Decodes a stream, and resumes it at every place.
fn check(stored: Vec<u8>, codec: Codec, content: &[u8], what: &str) -> (usize, usize) {
    let source = Arc::new(stored);
    let mut pass = Pass::new(source.clone(), codec, 1 << 27).unwrap();
    pass.track();
    let (mut places, mut frames): (Vec<(StreamPosition, Vec<u8>)>, usize) = Default::default();
    let mut out = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let n = pass.read(&mut out).unwrap();
        assert_eq!(&content[at..at + n], &out[..n], "{what}");
        at += n;
        while let Some(place) = pass.place() {
            let Some(window) = place.window else {
                frames += 1;
                places.push((place, Vec::new()));
                continue;
            };
            assert_eq!(place.content, at as u64);
            let (window, mut state) = (&content[at - window as usize..at], Vec::new());
            let (older, newer) = window.split_at(window.len() / 3);
            if pass.state(&[older, newer], &mut state).is_some() {
                places.push((place, state));
            }
            break;
        }
        if n == 0 {
            break;
        }
    }
    assert_eq!(at, content.len(), "{what}");
    for (place, state) in &places {
        let resumed = Pass::resume(source.clone(), codec, 1 << 27, *place, state);
        let mut resumed = resumed.unwrap_or_else(|| panic!("{what}: {place:?}"));
        let from = place.content as usize;
        // Beyond the window, and at one of many places to the end.
        let most = if from.is_multiple_of(7) {
            usize::MAX
        } else {
            3 << 20
        };
        let mut done = 0;
        while done < most {
            let n = resumed
                .read(&mut out)
                .unwrap_or_else(|error| panic!("{what}: {place:?}: {error}"));
            let expected = content.get(from + done..from + done + n);
            assert!(expected == Some(&out[..n]), "{what}: {place:?} + {done:#x}");
            done += n;
            if n == 0 {
                assert_eq!(from + done, content.len());
                break;
            }
        }
    }
    (frames, places.len() - frames)
}

/// A frame of the reference encoder.
fn zstd(content: &[u8], level: i32, window_log: u32, checksum: bool) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), level).unwrap();
    encoder.window_log(window_log).unwrap();
    encoder.include_checksum(checksum).unwrap();
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn zstd_frames_of_every_level_and_window_resume_at_block_boundaries() {
    let content = content(3 << 20, 41);
    for (level, window_log, checksum) in [
        (-5, 19, false),
        (1, 17, true),
        (3, 10, true),
        (6, 21, true),
        (9, 18, false),
        (13, 20, true),
        (19, 21, true),
        (22, 23, false),
    ] {
        let stored = zstd(&content, level, window_log, checksum);
        let what = format!("level {level}, window {window_log}");
        let (frames, inner) = check(stored, Codec::Zstd, &content, &what);
        assert_eq!(frames, 1);
        assert!(inner >= 8, "{what}: {inner} restart points");
    }
}

#[test]
fn zstd_streams_of_several_frames_resume_in_each_frame() {
    let content = content(2 << 20, 43);
    let (a, b) = content.split_at(900_001);
    let stored = [
        zstd(a, 6, 18, true),
        vec![0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3],
        zstd::bulk::compress(&[], 1).unwrap(),
        zstd::bulk::compress(b, 4).unwrap(),
    ]
    .concat();
    let (frames, inner) = check(stored, Codec::Zstd, &content, "frames");
    assert!(frames >= 2 && inner >= 4, "{frames} {inner}");
}

#[test]
fn gzip_members_of_every_level_resume_at_block_boundaries() {
    let content = content(2 << 20, 47);
    let (a, b) = content.split_at(1 << 20);
    for level in [0, 1, 6, 9] {
        let member = |content: &[u8]| {
            let level = flate2::Compression::new(level);
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        };
        let stored = [member(a), member(b)].concat();
        let (frames, inner) = check(stored, Codec::Gzip, &content, &format!("level {level}"));
        assert_eq!(frames, 2);
        // The encoder may write long blocks.
        assert!(inner >= 2, "level {level}: {inner} restart points");
    }
}

#[test]
fn damaged_states_are_refused_or_give_other_content_without_a_panic() {
    let content = content(1 << 20, 53);
    let stored = Arc::new(zstd(&content, 6, 17, true));
    let mut pass = Pass::new(stored.clone(), Codec::Zstd, 1 << 27).unwrap();
    pass.track();
    let mut out = vec![0; 1 << 20];
    let mut at = 0;
    let (place, state) = loop {
        at += pass.read(&mut out[at..]).unwrap();
        match pass.place() {
            Some(place) if at > 1 << 19 => {
                let window = place.window.unwrap() as usize;
                let mut state = Vec::new();
                match pass.state(&[&content[at - window..at]], &mut state) {
                    Some(()) => break (place, state),
                    None => continue,
                }
            }
            _ => {}
        }
    };
    let mut random = Random::new(59);
    for round in 0..300 {
        let mut state = state.clone();
        match round % 3 {
            0 => state.truncate(random.index(state.len())),
            _ => {
                let at = random.index(400);
                state[at] ^= 1 << random.below(8);
            }
        }
        let resumed = Pass::resume(stored.clone(), Codec::Zstd, 1 << 27, place, &state);
        if let Some(mut resumed) = resumed {
            while let Ok(n) = resumed.read(&mut out)
                && n > 0
            {}
        }
    }
}

/// What no block within a window refers to is not needed, also after more than a window.
#[test]
fn states_without_unused_content_resume_to_the_end() {
    let content = content(6 << 20, 61);
    for (level, window_log) in [(1, 17), (6, 19), (19, 20)] {
        let stored = Arc::new(zstd(&content, level, window_log, true));
        let mut pass = Pass::new(stored.clone(), Codec::Zstd, 1 << 27).unwrap();
        pass.track();
        let mut out = vec![0; content.len() + 1];
        let (mut at, mut unstored, mut states) = (0, None, Vec::new());
        loop {
            let n = pass.read(&mut out[at..]).unwrap();
            if n == 0 {
                break;
            }
            at += n;
            let complete = |unstored: &mut (StreamPosition, Vec<u8>)| {
                at as u64 >= unstored.0.content + (1 << window_log)
            };
            if let Some((place, mut state)) = unstored.take_if(complete) {
                prune(&pass.followed().unwrap(), &mut state, 1 << window_log);
                states.push((place, state));
            }
            let mut state = Vec::new();
            if unstored.is_none()
                && at >= 1 << window_log
                && let Some(place) = pass.place()
                && place.window == Some(1 << window_log)
                && let window = &content[at - (1 << window_log)..at]
                && pass.state(&[window], &mut state).is_some()
            {
                pass.follow();
                unstored = Some((place, state));
            }
        }
        assert!(states.len() > 2, "level {level}: {}", states.len());
        let (mut before, mut after) = (0, 0);
        for (place, state) in states {
            let from = place.content as usize;
            let count = |bytes: &[u8]| bytes.iter().filter(|byte| **byte != 0).count();
            before += count(&content[from - (1 << window_log)..from]);
            after += count(&state[state.len() - (1 << window_log)..]);
            let resumed = Pass::resume(stored.clone(), Codec::Zstd, 1 << 27, place, &state);
            let (mut resumed, mut done) = (resumed.unwrap(), 0);
            while let n @ 1.. = resumed.read(&mut out[done..]).unwrap() {
                done += n;
            }
            assert!(out[..done] == content[from..], "level {level}, {place:?}");
        }
        assert!(0 < after && after < before / 2, "{before}, {after}");
    }
}
