//! Physical memory of a machine, described by text.

use crate::random::Random;

/// Page size in bytes.
const PAGE: usize = 4096;

/// Ranges of memory and their contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Start address and contents, ascending and disjoint.
    pub ranges: Vec<(u64, Vec<u8>)>,
}

impl Memory {
    /// Reads lines `START PAGES CONTENT`: an address, a number of pages, and `zero`, `fill BYTE`,
    /// `text SEED`, `noise SEED` or `mix SEED` (pages of zeros, of one byte, of text, of noise).
    ///
    /// # Panics
    ///
    /// If a line is malformed.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let number = |word: &str| match word.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
            None => word.parse().unwrap(),
        };
        let mut ranges = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let pages = number(words[1]) as usize;
            let mut bytes = vec![0; pages * PAGE];
            match words[2] {
                "zero" => {}
                "fill" => bytes.fill(number(words[3]) as u8),
                "noise" => noise(number(words[3]), &mut bytes),
                "text" => {
                    for (index, page) in (number(words[3])..).zip(bytes.chunks_exact_mut(PAGE)) {
                        text_page(index, page);
                    }
                }
                "mix" => mix(number(words[3]), &mut bytes),
                other => panic!("unknown content {other}"),
            }
            ranges.push((number(words[0]), bytes));
        }
        Self { ranges }
    }

    /// Pages with their frame numbers.
    pub fn pages(&self) -> impl Iterator<Item = (u64, &[u8])> + '_ {
        self.ranges
            .iter()
            .flat_map(|(start, bytes)| (start / PAGE as u64..).zip(bytes.chunks_exact(PAGE)))
    }

    /// The end of the last range.
    #[must_use]
    pub fn end(&self) -> u64 {
        let last = self.ranges.last();
        last.map_or(0, |(start, bytes)| start + bytes.len() as u64)
    }

    /// Raw memory in which an offset is an address; zeros between ranges.
    #[must_use]
    pub fn flat(&self) -> Vec<u8> {
        let mut out = vec![0; self.end() as usize];
        for (start, bytes) in &self.ranges {
            out[*start as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        out
    }

    /// The contents of the ranges, concatenated.
    #[must_use]
    pub fn packed(&self) -> Vec<u8> {
        self.ranges
            .iter()
            .flat_map(|(_, bytes)| bytes.clone())
            .collect()
    }
}

fn noise(seed: u64, bytes: &mut [u8]) {
    let mut random = Random::new(seed);
    bytes.fill_with(|| (random.next() >> 32) as u8);
}

fn mix(seed: u64, bytes: &mut [u8]) {
    for (index, page) in (seed..).zip(bytes.chunks_exact_mut(PAGE)) {
        match index % 4 {
            0 => page.fill(0),
            1 => page.fill(index as u8),
            2 => text_page(index, page),
            _ => noise(index + 77, page),
        }
    }
}

fn text_page(index: u64, page: &mut [u8]) {
    let text = format!("page {index} of memory; ");
    let words = text.bytes().cycle();
    page.iter_mut().zip(words).for_each(|(to, from)| *to = from);
}
