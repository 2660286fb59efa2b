//! The names of hosts in the names of files.

use std::collections::HashMap;
use std::net::IpAddr;

/// Maximum number of names that are read.
const NAMES_MAX: usize = 65_536;

/// Maximum size of a name, so that file names stay within NAME_MAX.
const NAME_MAX: usize = 128;

/// Names of hosts by address, from a file in the format of hosts(5).
///
/// netdumpd asks the DNS. This server does not: the answer would select the names of files, and waiting
/// for it would delay dumps.
#[derive(Debug, Clone, Default)]
pub struct Hosts(HashMap<IpAddr, String>);

impl Hosts {
    /// Parses a file in the format of hosts(5): an address and its names on each line. The first name of
    /// an address counts, up to its first dot. Other lines are ignored.
    pub fn parse(text: &str) -> Self {
        let mut names = HashMap::new();
        for line in text.lines().take(NAMES_MAX) {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let address = words.next().and_then(|word| word.parse().ok());
            let name = words.next().and_then(|name| name.split('.').next());
            if let (Some(address), Some(name)) = (address, name)
                && is_plain(name)
            {
                names.entry(address).or_insert_with(|| name.to_owned());
            }
        }
        Self(names)
    }

    /// The name of a host, or else its address.
    pub fn name(&self, address: IpAddr) -> String {
        match self.0.get(&address) {
            Some(name) => name.clone(),
            // IPv6 addresses have colons.
            None => address.to_string().replace(':', "_"),
        }
    }
}

/// Whether a name can be a part of a file name, and is not a number of a dump.
fn is_plain(name: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(is_plain)
        && !name.bytes().all(|b| b.is_ascii_digit())
        && name != "last"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_plain_name_of_an_address_counts_up_to_its_dot() {
        let hosts = Hosts::parse(
            "# comment\n\
             192.0.2.1 web.example.org web\n\
             192.0.2.1 other\n\
             192.0.2.2\t../../etc # x\n\
             192.0.2.3 7\n\
             not-an-address name\n\
             2001:db8::1 six\n",
        );
        for (address, name) in [
            ("192.0.2.1", "web"),
            ("192.0.2.2", "192.0.2.2"),
            ("192.0.2.3", "192.0.2.3"),
            ("2001:db8::1", "six"),
            ("2001:db8::2", "2001_db8__2"),
        ] {
            assert_eq!(hosts.name(address.parse().unwrap()), name);
        }
    }
}
