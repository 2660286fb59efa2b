//! Counters of the server, in the text format of Prometheus.

use std::fmt::Write as _;

/// What the server has counted since it started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that arrived.
    pub packets: u64,
    /// Packets that are not messages of netdump.
    pub malformed: u64,
    /// Messages of clients without a herald.
    pub unknown: u64,
    /// Data that had arrived before.
    pub duplicates: u64,
    /// Bytes of dumps that were written.
    pub bytes: u64,
    /// Messages that were acknowledged.
    pub acks: u64,
    /// Heralds that began a dump.
    pub heralds: u64,
    /// Heralds that found no free slot.
    pub busy: u64,
    /// Messages that were not accepted: the quota, the disk, or too many ranges.
    pub refused: u64,
    /// Heralds after which no data arrived.
    pub empty: u64,
    /// Dumps that were complete, and whose result is sound.
    pub complete: u64,
    /// Dumps that are incomplete or not sound.
    pub incomplete: u64,
    /// Bytes of dumps that did not arrive.
    pub missing: u64,
}

impl Counters {
    /// The counters in the text format of Prometheus, with the number of current `clients`.
    pub fn text(&self, clients: usize) -> String {
        let rows = [
            ("packets", "UDP packets received", self.packets),
            (
                "packets_malformed",
                "Packets that are not netdump messages",
                self.malformed,
            ),
            (
                "packets_unknown",
                "Messages of clients without a herald",
                self.unknown,
            ),
            (
                "packets_duplicate",
                "Messages whose data had arrived before",
                self.duplicates,
            ),
            (
                "packets_refused",
                "Messages refused: quota, disk, or order",
                self.refused,
            ),
            ("acks", "Messages acknowledged", self.acks),
            ("bytes", "Bytes of dumps written", self.bytes),
            (
                "bytes_missing",
                "Bytes of ended dumps that did not arrive",
                self.missing,
            ),
            ("heralds", "Heralds that began a dump", self.heralds),
            ("heralds_busy", "Heralds that found no free slot", self.busy),
            ("heralds_empty", "Heralds without data", self.empty),
            (
                "dumps_complete",
                "Dumps that are complete and sound",
                self.complete,
            ),
            (
                "dumps_incomplete",
                "Dumps that are incomplete or not sound",
                self.incomplete,
            ),
        ];
        let mut text = String::new();
        for (name, help, value) in rows {
            let name = format!("livecore_netdump_{name}_total");
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "# HELP {name} {help}.\n# TYPE {name} counter\n{name} {value}\n"
            );
        }
        let name = "livecore_netdump_clients";
        let help = "Dumps that are being received or processed";
        let _ = write!(
            text,
            "# HELP {name} {help}.\n# TYPE {name} gauge\n{name} {clients}\n"
        );
        text
    }
}
