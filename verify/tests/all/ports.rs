//! Kernels compared with dumps of arm, mips and powerpc64, in both byte orders. Other tests cover the
//! other ports.

use crate::common;
use livecore_kernel::verifier::ElfFacts;

use common::{describe, verify};
use livecore_minidump::KernelElf;
use livecore_tests::{mkdump, mkelf};
use livecore_verify::{Depth, Options, Report};

/// A dump and a kernel file, whose variables are in one page of the kernel map.
struct Port {
    name: &'static str,
    /// Statements of the recipe, which map page 0x2000 at `va`.
    machine: &'static str,
    /// Run-time address of the variables.
    va: u64,
    /// Link-time address of the variables.
    linked: u64,
}

const PORTS: [Port; 11] = [
    Port {
        name: "arm",
        machine: "kernend 0xc0200000\nmap 0xc0101000 0x2000 4K rw\n",
        va: 0xc010_1000,
        linked: 0xc010_1000,
    },
    // The third 4 KiB of a 64 KiB page.
    Port {
        name: "arm",
        machine: "kernend 0xc0200000\nmap 0xc0100000 0x0 64K rw\n",
        va: 0xc010_2000,
        linked: 0xc010_2000,
    },
    Port {
        name: "mips",
        machine: "map 0xc0001000 0x2000 4K rw\n",
        va: 0xc000_1000,
        linked: 0xc000_1000,
    },
    // KSEG0, which needs no entry.
    Port {
        name: "mipsel",
        machine: "map 0xc0001000 0x3000 4K rw\n",
        va: 0x8000_2000,
        linked: 0x8000_2000,
    },
    Port {
        name: "mips64",
        machine: "map 0xc000000000001000 0x2000 4K rw\n",
        va: 0xc000_0000_0000_1000,
        linked: 0xc000_0000_0000_1000,
    },
    // XKPHYS, cached.
    Port {
        name: "mips64el",
        machine: "map 0xc000000000001000 0x3000 4K rw\n",
        va: 0x9800_0000_0000_2000,
        linked: 0x9800_0000_0000_2000,
    },
    Port {
        name: "powerpc64",
        machine: "map 0xc008000001801000 0x2000 4K rw\n",
        va: 0xc008_0000_0180_1000,
        linked: 0xc008_0000_0180_1000,
    },
    // The direct map.
    Port {
        name: "powerpc64le",
        machine: "map 0xc008000001801000 0x3000 4K rw\n",
        va: 0xc000_0000_0000_2000,
        linked: 0xc000_0000_0000_2000,
    },
    // Link-time addresses below the direct map, relocated to `startkernel`.
    Port {
        name: "powerpc64",
        machine: "startkernel 0xc000000000001100\nmap 0xc008000001801000 0x3000 4K rw\n",
        va: 0xc000_0000_0000_2000,
        linked: 0x10_1000,
    },
    Port {
        name: "powerpc64",
        machine: "radix\nmap 0xc008000001801000 0x2000 4K rw\n",
        va: 0xc008_0000_0180_1000,
        linked: 0xc008_0000_0180_1000,
    },
    // Relocated into the kernel map.
    Port {
        name: "powerpc64le",
        machine: "radix\nstartkernel 0xc008000001800100\nmap 0xc008000001801000 0x2000 4K rw\n",
        va: 0xc008_0000_0180_1000,
        linked: 0x10_1000,
    },
];

fn verify_with(port: &Port, running: &str, avail: u64) -> Report {
    let text = format!(
        "minidump {} 2\navail 0x0 0x40000\nmsgbuf text \"---<<BOOT>>---\\n\"\n{}\
         put 0x2000 text \"{running}\" len 32\n",
        port.name, port.machine
    );
    let long = match port.name {
        "arm" | "mips" | "mipsel" => 4,
        _ => 8,
    };
    // The kernel's array has entries of its word size.
    let array = match long {
        4 => format!("put 0x2040 u32 0, {avail:#x}, 0, 0\n"),
        _ => format!("put 0x2040 u64 0, {avail:#x}, 0, 0\n"),
    };
    let kernel = format!(
        "elf {}\nsection .data {:#x} text \"FreeBSD 14.1\" len 256\n\
         symbol version {:#x} size 32\nsymbol dump_avail {:#x}\n\
         symbol allproc {:#x}\nsymbol proc_off_p_list {:#x}\n",
        port.name,
        port.linked,
        port.linked,
        port.linked + 0x40,
        port.linked + 0x80,
        port.linked + 0x90,
    );
    // One process at 0xa0 of the page, whose back link is the head's address.
    let (process, head) = (port.va + 0xa0, port.va + 0x80);
    let word = 8 * long;
    let lists = format!("put 0x2080 u{word} {process:#x}\nput 0x20a0 u{word} 0, {head:#x}\n");
    let built = mkdump::build_all(&format!("{text}{array}{lists}"));
    let built = built.unwrap_or_else(|e| panic!("{}: {e}\n{text}", port.name));
    let elf = KernelElf::from_bytes(mkelf::build(&kernel).unwrap()).unwrap();
    let facts = ElfFacts(&elf);
    let options = Options::default().depth(Depth::Deep).kernel(Some(&facts));
    verify(&built.bytes, &options)
}

#[test]
fn kernels_of_every_port_are_compared_with_their_dumps() {
    for port in &PORTS {
        let report = verify_with(port, "FreeBSD 14.1", 0x40000);
        let text = format!("{} {:#x}: {}", port.name, port.va, describe(&report));
        for rule in ["KRN-VERSION", "KRN-AVAIL", "LIV-ALLPROC", "LIV-BACK-LINK"] {
            let outcome = report.outcomes.get(rule);
            assert!(
                outcome.is_some_and(|o| o.checked > 0 && o.broken == 0),
                "{rule}: {text}"
            );
        }
        assert_eq!(report.verdict.exit_code(), 0, "{text}");
    }
}

#[test]
fn a_kernel_of_another_release_or_memory_is_reported_for_every_port() {
    for port in &PORTS {
        let report = verify_with(port, "FreeBSD 13.2", 0x50000);
        for rule in ["KRN-VERSION", "KRN-AVAIL"] {
            let broken = report.outcomes.get(rule).is_some_and(|o| o.broken > 0);
            assert!(broken, "{rule} {}: {}", port.name, describe(&report));
        }
    }
}

/// Pages of user programs and of the direct map in a hashed table are not counted.
#[test]
fn mapped_pages_that_are_not_in_the_dump_are_reported() {
    let absent = |text: &str| {
        let built = mkdump::build_all(text).unwrap();
        let report = verify(&built.bytes, &Options::default());
        let broken = report.outcomes["PT-PAGE-ABSENT"].broken > 0;
        broken.then(|| report.facts.mapped.unwrap().1)
    };
    for port in &PORTS[..] {
        let text = format!(
            "minidump {} 2\navail 0x0 0x40000\nmsgbuf text \"x\"\npage 0x5000 own\n{}",
            port.name, port.machine
        );
        assert_eq!(absent(&text), None, "{}", port.name);
        let pa = if port.machine.contains("0x3000") {
            0x3000
        } else {
            0x2000
        };
        let found = absent(&format!("{text}nodump {pa:#x}\n"));
        assert_eq!(found, Some(1), "{}", port.name);
    }
    let table = "minidump powerpc64 2\navail 0x0 0x40000\nmsgbuf text \"x\"\npage 0x5000 own\n\
                 map 0xc008000001801000 0x5000 4K rw\n";
    // A segment of a user program: bit 36 is clear; the group is its hash.
    let program = "patch payload section.pmap.start + 0x12340 / 0x80 * 0x80 \
                   = be64 0x1246001, 0x6000\n";
    assert_eq!(absent(&format!("{table}{program}")), None);
    // A page of 16 MiB of the direct map.
    let direct = format!("{table}map 0xc000000000000000 0x0 16M rw\nnodump 0x6000 0x40000\n");
    assert_eq!(absent(&direct), None);
}

/// The bitmap words of mips have 32 bits in version 1, but its structs have the kernel's word size.
#[test]
fn the_message_buffer_struct_of_mips_has_the_word_size_of_the_kernel() {
    for name in ["mips64", "mips64el", "mips", "mipsel"] {
        for version in [1, 2] {
            let text = format!(
                "minidump {name} {version}\navail 0x0 0x40000\nmsgbuf text \"---<<BOOT>>---\\n\"\n\
                 page 0x5000 own\n"
            );
            let built = mkdump::build_all(&text).unwrap();
            let report = verify(&built.bytes, &Options::default());
            for rule in ["MSG-MAGIC", "MSG-SIZE", "MSG-CHECKSUM"] {
                let outcome = report.outcomes.get(rule);
                let passed = outcome.is_some_and(|o| o.checked > 0 && o.broken == 0);
                assert!(passed, "{rule} {name} {version}: {}", describe(&report));
            }
        }
    }
}
