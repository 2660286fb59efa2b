//! The registers in a pcb, in a trap frame and in a core.

use livecore_defs::{Field, amd64, arm64, i386, riscv};

use super::Constants;

/// The registers of x86 in a pcb and in a trap frame.
pub(super) fn x86(constants: &mut Constants) {
    let rows = [
        ("amd64", &amd64::PCB, &amd64::TRAPFRAME),
        ("i386", &i386::PCB, &i386::TRAPFRAME),
    ];
    for (machine, pcb, frame) in rows {
        for (name, offset) in pcb.registers {
            let field = Field {
                offset: *offset,
                len: pcb.word,
            };
            let name = format!("pcb_{name}");
            constants.fields(&[machine], "machine/pcb.h", "pcb", &[(&name, field)]);
        }
        for (name, offset, _) in frame.registers {
            // A field has the size of a word, also where fewer bytes are the register.
            let field = Field {
                offset: *offset as usize,
                len: frame.word,
            };
            let name = match *name {
                "eflags" if machine == "amd64" => "tf_rflags".to_owned(),
                name => format!("tf_{name}"),
            };
            constants.fields(
                &[machine],
                "machine/frame.h",
                "trapframe",
                &[(&name, field)],
            );
        }
    }
}

/// The field of `struct pcb`, `trapframe` or `reg` with the register `name` of arm64 or riscv.
fn c_register(machine: &str, of: &str, name: &str) -> String {
    let prefix = match of {
        "pcb" => "pcb_",
        "trapframe" => "tf_",
        _ => "",
    };
    let array = |kind: char| name.strip_prefix(kind)?.parse::<usize>().ok();
    let field = if machine == "arm64" {
        match (name, of, array('x')) {
            ("x29", "pcb", _) => "x[PCB_FP]".into(),
            ("x30", "pcb", _) => "x[PCB_LR]".into(),
            (_, "pcb", Some(number)) => format!("x[{}]", number - 19),
            ("x30", ..) => "lr".into(),
            (.., Some(number)) => format!("x[{number}]"),
            ("pc", ..) => "elr".into(),
            ("cpsr", ..) => "spsr".into(),
            _ => name.into(),
        }
    } else {
        let arrays = ['t', 's', 'a'].map(|kind| Some((kind, array(kind)?)));
        match (name, arrays.into_iter().flatten().next()) {
            (_, Some((kind, number))) => format!("{kind}[{number}]"),
            ("fp", _) => "s[0]".into(),
            ("pc", _) => "sepc".into(),
            _ => name.into(),
        }
    };
    format!("{prefix}{field}")
}

/// The registers of arm64 and riscv in a pcb, in a trap frame and in a core.
pub(super) fn risc(constants: &mut Constants) {
    let rows = [
        ("arm64", &arm64::PCB, &arm64::TRAPFRAME, &arm64::PRSTATUS),
        ("riscv", &riscv::PCB, &riscv::TRAPFRAME, &riscv::PRSTATUS),
    ];
    for (machine, pcb, frame, prstatus) in rows {
        // A field has eight bytes, also where fewer bytes are the register.
        let mut add = |header: &str, of: &str, field: &str, offset: usize| {
            let field = [(field, Field { offset, len: 8 })];
            constants.fields(&[machine], header, of, &field);
        };
        for (name, offset) in pcb.registers {
            let field = c_register(machine, "pcb", name);
            add("machine/pcb.h", "pcb", &field, *offset);
        }
        let header = "machine/frame.h";
        for (name, offset, _) in frame.registers {
            let field = c_register(machine, "trapframe", name);
            add(header, "trapframe", &field, *offset as usize);
        }
        let (number, address) = (frame.number.unwrap().0, frame.address.unwrap());
        let others: &[(&str, usize)] = match machine {
            "arm64" => &[("tf_esr", number as usize), ("tf_far", address as usize)],
            _ => &[
                ("tf_sstatus", frame.mode.at as usize),
                ("tf_scause", number as usize),
                ("tf_stval", address as usize),
            ],
        };
        for (field, offset) in others {
            add(header, "trapframe", field, *offset);
        }
        let mut at = 0;
        for (name, len) in prstatus.freebsd {
            let field = c_register(machine, "reg", name);
            add("machine/reg.h", "reg", &field, at);
            at += len;
        }
        let sizes = [("sizeof(struct trapframe)", frame.size)];
        constants.numbers(&[machine], header, &sizes);
        let sizes = [("sizeof(struct reg)", at as u64)];
        constants.numbers(&[machine], "machine/reg.h", &sizes);
    }
    assert_eq!(arm64::TRAPFRAME.mode.at, 24, "tf_spsr, which is a register");
    assert_eq!(arm64::TRAPFRAME.link, Some(8), "tf_lr, which is a register");
}
