//! Tests of `mem paddr`.

use super::{fixture, hex, tiny};

#[test]
fn paddr_returns_the_builders_mappings() {
    let fixture = fixture();
    let truth = tiny().truth();
    let mut checked = 0;
    for process in truth.processes.iter().filter(|p| !p.zombie) {
        let pid = process.pid.to_string();
        let Some(space) = &process.space else {
            let run = fixture.mem(&["paddr", "--pid", &pid, "0x200000"]).expect(0);
            assert_eq!(run.text(), "0x200000 invalid\n", "{}", process.comm);
            continue;
        };
        let at = space
            .mappings
            .iter()
            .map(|m| hex(m.va.0 + 0x123))
            .collect::<Vec<_>>();
        let args = ["paddr", "--pid", &pid]
            .into_iter()
            .chain(at.iter().map(|a| &**a));
        let expected = space
            .mappings
            .iter()
            .map(|m| {
                format!(
                    "{:#x} mapped {:#x} domain 0\n",
                    m.va.0 + 0x123,
                    m.pa.0 + 0x123
                )
            })
            .collect::<String>();
        let args = args.collect::<Vec<_>>();
        assert_eq!(fixture.mem(&args).expect(0).text(), expected);
        let answer = fixture.json("mem-paddr", 0, &args);
        assert_eq!(answer["pid"], process.pid);
        let addresses = answer["addresses"].as_array().unwrap();
        assert_eq!(addresses.len(), space.mappings.len());
        assert_eq!(
            addresses[0]["physical"],
            hex(space.mappings[0].pa.0 + 0x123)
        );
        checked += addresses.len();

        let ends = [
            "paddr",
            "--pid",
            &pid,
            "0",
            "0xffffffffffffffff",
            "0x800000000000",
        ];
        let run = fixture.mem(&ends).expect(0);
        assert!(
            run.text().lines().all(|line| line.ends_with(" invalid")),
            "{}",
            run.text()
        );
    }
    assert!(checked > 10, "{checked}");
    let absent = fixture.mem_messages(&["paddr", "--pid", "99999", "0"]);
    absent.expect(1).error("no-process");
}
