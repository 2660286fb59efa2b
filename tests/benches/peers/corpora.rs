//! The corpora: payloads of emulated machines, noise, a real dump.

use livecore_minidump::PhysAddr;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_compress::ReadAt;
use livecore_livedump::image::RawImage;
use livecore_livedump::publish::sparse;
use livecore_livedump::take::{PlanOptions, Taken, plan};
use livecore_minidump::KernelElf;
use livecore_minidump::PhysMemory;
use livecore_tests::random::Random;

use crate::{Failure, Options};

/// One corpus.
pub(crate) struct Corpus {
    pub(crate) name: String,
    /// The uncompressed payload.
    pub(crate) payload: PathBuf,
    /// The folder with the machine's memory image and kernel, if it is of a machine.
    pub(crate) machine: Option<PathBuf>,
    pub(crate) len: u64,
}

/// Creates the corpora that do not exist yet.
pub(crate) fn make(options: &Options) -> Result<Vec<Corpus>, Failure> {
    fs::create_dir_all(&options.dir)?;
    let mut corpora = vec![machine(options, "dump-128m", 256, 60)?];
    if options.full {
        corpora.push(machine(options, "dump-2g", 4096, 1000)?);
    }
    let noise = options.dir.join("noise");
    if !noise.exists() {
        write_noise(&noise, 128 << 20)?;
    }
    corpora.push(corpus("noise", noise, None)?);
    if let Some(real) = std::env::var_os("LIVECORE_REAL_DUMP") {
        corpora.push(corpus("real", real.into(), None)?);
    }
    Ok(corpora)
}

fn corpus(name: &str, payload: PathBuf, machine: Option<PathBuf>) -> Result<Corpus, Failure> {
    let len = fs::metadata(&payload)?.len();
    Ok(Corpus {
        name: name.into(),
        payload,
        machine,
        len,
    })
}

/// A machine of `memory` MiB whose dump has twice `half` MiB, a third of it zero pages.
fn machine(options: &Options, name: &str, memory: u32, half: u32) -> Result<Corpus, Failure> {
    let folder = options.dir.join(name);
    let payload = options.dir.join(format!("{name}.payload"));
    if !payload.exists() {
        let text = format!(
            "seed = 3\n[memory]\nsize = \"{memory} MiB\"\n[content]\nkernel = \"{half} MiB\"\n\
             direct = \"{half} MiB\"\n\
             mix = {{ zero = 33, code = 10, heap = 35, text = 12, noise = 10 }}\n"
        );
        let machine = livecore_synth::build(&livecore_synth::Description::parse(&text)?)?;
        livecore_synth::write_out(&machine, &folder)?;
        let taken = taken(&folder)?;
        let unfinished = payload.with_extension("part");
        copy(&taken.into_payload(), &unfinished)?;
        fs::rename(unfinished, &payload)?;
    }
    corpus(name, payload, Some(folder))
}

/// The memory of the machine in `folder`.
fn memory(folder: &Path) -> Result<RawImage, Failure> {
    let layout: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.join("machine.json"))?)?;
    let ranges = layout["ranges"]
        .as_array()
        .ok_or("ranges in machine.json")?;
    let address = |value: &serde_json::Value| value.as_u64().map(PhysAddr);
    let ranges: Vec<_> = ranges
        .iter()
        .filter_map(|r| Some(address(&r[0])?..address(&r[1])?))
        .collect();
    Ok(RawImage::new(File::open(folder.join("ram"))?, &ranges)?)
}

/// The plan of a dump of the machine in `folder`.
pub(crate) fn taken(folder: &Path) -> Result<Taken, Failure> {
    let kernel = KernelElf::from_bytes(fs::read(folder.join("kernel"))?)?;
    let memory: Arc<dyn PhysMemory> = Arc::new(memory(folder)?);
    Ok(plan(memory, &kernel, &PlanOptions::default())?)
}

/// The memory of the machine in `folder` as a LiME image, created if missing: a guest's memory
/// without information about its kernel.
pub(crate) fn guest_image(folder: &Path) -> Result<PathBuf, Failure> {
    let path = folder.join("guest.lime");
    if path.exists() {
        return Ok(path);
    }
    let memory = memory(folder)?;
    let unfinished = path.with_extension("part");
    let out = File::create(&unfinished)?;
    let mut at = 0;
    let mut piece = vec![0; 1 << 20];
    for range in memory.ranges() {
        let range = range.start.0..range.end.0;
        // Magic, version 1, first and last address, eight reserved bytes.
        let mut header = *b"EMiL\x01\0\0\0________________________";
        header[8..16].copy_from_slice(&range.start.to_le_bytes());
        header[16..24].copy_from_slice(&(range.end - 1).to_le_bytes());
        header[24..].fill(0);
        sparse::write_at(&out, &header, at)?;
        at += header.len() as u64;
        let mut from = range.start;
        while from < range.end {
            let len = piece.len().min((range.end - from) as usize);
            memory.read(PhysAddr(from), &mut piece[..len])?;
            sparse::write_at(&out, &piece[..len], at)?;
            from += len as u64;
            at += len as u64;
        }
    }
    out.set_len(at)?;
    fs::rename(unfinished, &path)?;
    Ok(path)
}

fn copy(source: &dyn ReadAt, path: &Path) -> Result<(), Failure> {
    let mut out = BufWriter::new(File::create(path)?);
    let mut piece = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let n = source.read_full_at(&mut piece, at)?;
        if n == 0 {
            return Ok(out.flush()?);
        }
        out.write_all(&piece[..n])?;
        at += n as u64;
    }
}

fn write_noise(path: &Path, len: usize) -> Result<(), Failure> {
    let mut random = Random::new(1);
    let mut out = BufWriter::new(File::create(path)?);
    for _ in 0..len / 8 {
        out.write_all(&random.next().to_le_bytes())?;
    }
    Ok(out.flush()?)
}
