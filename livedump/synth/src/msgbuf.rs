//! The message buffer: a ring of text followed by `struct msgbuf`.
//!
//! FreeBSD `sys/sys/msgbuf.h`, `sys/kern/subr_msgbuf.c`, `msgbufinit` in `sys/kern/subr_prf.c`.

use livecore_minidump::VirtAddr;

use super::builder::Builder;
use super::error::Error;
use super::rng::Rng;
use super::truth::{MessageBuffer, Prot};

/// `MSG_MAGIC`.
const MAGIC: u32 = 0x063062;
/// `msg_flags`: the last line has no newline yet, and the ring has wrapped.
const NEEDNL: u32 = 1;
const WRAP: u32 = 2;

/// Priorities of the kernel's own lines, and of lines that programs log through it.
const KERNEL: u32 = 2;
const DAEMON: u32 = 30;
const SECURITY: u32 = 118;

/// Its location, which is chosen before its text.
pub(crate) struct Location {
    pub(crate) pa: u64,
    /// Its virtual address.
    pub(crate) va: u64,
    /// Bytes of ring and structure.
    pub(crate) len: u64,
}

/// Allocates its memory: contiguous through the direct map, or mapped.
pub(crate) fn place(b: &mut Builder<'_>) -> Result<Location, Error> {
    let len = b.description.msgbuf.size.0;
    let pa = b.frames.block("msgbuf", len, b.space.page_size)?;
    let va = if b.description.row().msgbuf_in_direct_map {
        b.bits.push(pa..pa + len);
        b.dmap(pa)
    } else {
        let (bottom, va) = (b.bottom(), b.kva);
        b.map(bottom, va, pa, len, Prot::RW)?;
        b.kva = va + len;
        va
    };
    Ok(Location { pa, va, len })
}

/// Returns the lines of a boot, then those of a server's log, until there are `len` bytes.
fn lines(version: &str, hostname: &str, len: usize, seed: u64) -> Vec<u8> {
    const DEVICES: [&str; 8] = [
        "em0", "ahci0", "ada0", "uhub1", "pcib3", "hpet0", "vtnet0", "cd0",
    ];
    const EVENTS: [&str; 8] = [
        "link state changed to UP",
        "link state changed to DOWN",
        "Serial Number SYNTH-0001",
        "600.000MB/s transfers",
        "promiscuous mode enabled",
        "<SATA port multiplier> attached",
        "port 0x1c00-0x1cff irq 16 at device 5.0",
        "Command Queueing enabled",
    ];
    const PROGRAMS: [&str; 4] = ["sshd", "cron", "ntpd", "syslogd"];
    let mut rng = Rng::new(seed, "msgbuf");
    let mut text = String::new();
    let mut put = |priority: u32, line: &str| {
        text.push_str(&format!("<{priority}>{line}\n"));
        text.len()
    };
    put(KERNEL, "---<<BOOT>>---");
    for line in version.lines() {
        put(KERNEL, line);
    }
    put(KERNEL, "VT(vga): resolution 640x480");
    put(
        KERNEL,
        "CPU: Synthetic Processor (3000.00-MHz K8-class CPU)",
    );
    put(KERNEL, &format!("Setting hostname: {hostname}."));
    let mut second = 1u64;
    loop {
        second += rng.below(30);
        let device = rng.pick(&DEVICES);
        let event = rng.pick(&EVENTS);
        let program = rng.pick(&PROGRAMS);
        let n = rng.below(99_999);
        let done = match rng.below(8) {
            0..4 => put(KERNEL, &format!("{device}: {event}")),
            4 | 5 => put(
                DAEMON,
                &format!(
                    "{hostname} {program}[{n}]: session {second} opened by (uid={})",
                    n % 1001
                ),
            ),
            6 => put(
                SECURITY,
                &format!("pid {n} ({program}), jid 0, uid 0: exited on signal 11 (core dumped)"),
            ),
            // A control byte, such as a terminal escape in a device's name.
            _ => put(
                KERNEL,
                &format!("{device}: \u{1b}[1mtick {second}\u{1b}[0m"),
            ),
        };
        if done >= len {
            break;
        }
    }
    text.into_bytes()
}

/// Writes the ring and the structure.
pub(crate) fn build(
    b: &mut Builder<'_>,
    location: &Location,
    version: &str,
    panic: Option<&str>,
) -> Result<MessageBuffer, Error> {
    let header = u64::from(b.layout.msgbuf_size);
    let size = (location.len - header) as usize;
    let description = b.description;
    let wanted = if description.msgbuf.wrapped {
        size + size / 3
    } else {
        size / 2
    };
    let mut written = lines(
        version,
        &description.kernel.hostname,
        wanted,
        description.seed,
    );
    let mut flags = 0;
    if let Some(panic) = panic {
        let tail = format!(
            "<2>panic: {panic}\n<2>cpuid = 0\n<2>time = {}\n<2>KDB: stack backtrace:\n\
             <2>Uptime: {}s\n",
            description.state.time, description.state.uptime
        );
        written.extend(tail.bytes());
    }
    if !written.ends_with(b"\n") {
        flags |= NEEDNL;
    }
    let modulus = 16 * size as u64;
    let total = written.len() as u64;
    let mut ring = vec![0u8; size];
    for (i, &byte) in written.iter().enumerate() {
        ring[i % size] = byte;
    }
    if total > size as u64 && !description.release().is_old() {
        flags |= WRAP;
    }
    let unread = description.msgbuf.unread.0.min(total).min(size as u64);
    let wseq = (total % modulus) as u32;
    let rseq = ((total - unread) % modulus) as u32;
    let cksum = ring.iter().map(|&byte| u32::from(byte)).sum::<u32>();

    let ring_va = location.va;
    let va = ring_va + size as u64;
    b.store.write(location.pa, &ring);
    b.poke_word(va, ring_va)?;
    let behind = u64::from(b.layout.word);
    for (i, word) in [
        MAGIC,
        size as u32,
        wseq,
        rseq,
        cksum,
        modulus as u32,
        u32::MAX, // msg_lastpri: none
        flags,
    ]
    .into_iter()
    .enumerate()
    {
        b.poke_u32(va + behind + 4 * i as u64, word)?;
    }
    b.set_word("msgbufp", va)?;
    Ok(MessageBuffer {
        va: VirtAddr(va),
        ring_va: VirtAddr(ring_va),
        wseq,
        rseq,
        cksum,
        text: written[written.len().saturating_sub(size)..].to_vec(),
        unread: written[written.len() - unread as usize..].to_vec(),
        ring,
    })
}
