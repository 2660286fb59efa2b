//! The files and directories, and their numbers.

use super::contents::Contents;

/// A file or a directory. The index is that of a thread or a process in its list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Node {
    Root,
    Vmcore,
    Elf,
    Physmem,
    Dmesg,
    Info,
    Threads,
    Processes,
    Thread(usize),
    Registers(usize),
    Stack(usize),
    Process(usize),
    Status(usize),
    Tids(usize),
}

/// The files of the root directory.
const FILES: [(&str, Node); 7] = [
    ("vmcore", Node::Vmcore),
    ("elf", Node::Elf),
    ("physmem", Node::Physmem),
    ("dmesg", Node::Dmesg),
    ("info.json", Node::Info),
    ("threads", Node::Threads),
    ("proc", Node::Processes),
];

/// The number of the first thread, and the numbers for each thread and process.
const FIRST: u64 = 16;
const EACH: u64 = 8;

impl Node {
    /// The inode number.
    pub(super) fn number(self) -> u64 {
        let of = |index: usize, which: u64| FIRST + index as u64 * EACH + which;
        match self {
            Self::Root => 1,
            Self::Vmcore => 2,
            Self::Elf => 3,
            Self::Physmem => 4,
            Self::Dmesg => 5,
            Self::Info => 6,
            Self::Threads => 7,
            Self::Processes => 8,
            Self::Thread(index) => of(index, 0),
            Self::Registers(index) => of(index, 1),
            Self::Stack(index) => of(index, 2),
            Self::Process(index) => of(index, 4),
            Self::Status(index) => of(index, 5),
            Self::Tids(index) => of(index, 6),
        }
    }

    /// The node with this number, if the dump has it.
    pub(super) fn of_number(number: u64, contents: &Contents) -> Option<Self> {
        if number < FIRST {
            let nodes = FILES.iter().map(|(_, node)| *node).chain([Self::Root]);
            return nodes.into_iter().find(|node| node.number() == number);
        }
        let index = usize::try_from((number - FIRST) / EACH).ok()?;
        let node = match (number - FIRST) % EACH {
            0 => Self::Thread(index),
            1 => Self::Registers(index),
            2 => Self::Stack(index),
            4 => Self::Process(index),
            5 => Self::Status(index),
            6 => Self::Tids(index),
            _ => return None,
        };
        let lists = contents.lists();
        let count = match node {
            Self::Thread(_) | Self::Registers(_) | Self::Stack(_) => lists.threads.len(),
            _ => lists.processes.len(),
        };
        (index < count).then_some(node)
    }

    pub(super) fn is_directory(self) -> bool {
        matches!(
            self,
            Self::Root | Self::Threads | Self::Processes | Self::Thread(_) | Self::Process(_)
        )
    }

    /// Whether the file's text is computed when it is opened.
    pub(super) fn is_computed(self) -> bool {
        matches!(
            self,
            Self::Registers(_) | Self::Stack(_) | Self::Status(_) | Self::Tids(_)
        )
    }

    /// The directory that contains the directory.
    pub(super) fn parent(self) -> Self {
        match self {
            Self::Thread(_) => Self::Threads,
            Self::Process(_) => Self::Processes,
            _ => Self::Root,
        }
    }

    /// The entry `name` of a directory.
    pub(super) fn child(self, name: &str, contents: &Contents) -> Option<Self> {
        // Another spelling of a number is not its name.
        let number = || name.parse::<i32>().ok().filter(|n| n.to_string() == name);
        match self {
            Self::Threads => contents
                .lists()
                .by_tid
                .get(&number()?)
                .copied()
                .map(Self::Thread),
            Self::Processes => contents
                .lists()
                .by_pid
                .get(&number()?)
                .copied()
                .map(Self::Process),
            _ => self
                .children(contents)
                .find(|(entry, _)| entry == name)
                .map(|(_, node)| node),
        }
    }

    /// The entries of a directory.
    pub(super) fn children(
        self,
        contents: &Contents,
    ) -> Box<dyn Iterator<Item = (String, Self)> + '_> {
        let named = |entries: &'static [(&'static str, Self)]| {
            entries
                .iter()
                .map(|(name, node)| ((*name).to_owned(), *node))
        };
        match self {
            Self::Root => Box::new(named(&FILES).filter(|(_, node)| match node {
                Self::Elf => contents.has_elf(),
                Self::Dmesg => contents.dmesg.is_some(),
                Self::Threads | Self::Processes => contents.has_kernel(),
                _ => true,
            })),
            Self::Threads => {
                let lists = contents.lists();
                let all = lists.threads.iter().enumerate();
                let own = all.filter(|(i, thread)| lists.by_tid.get(&thread.tid) == Some(i));
                Box::new(own.map(|(i, thread)| (thread.tid.to_string(), Self::Thread(i))))
            }
            Self::Processes => {
                let lists = contents.lists();
                let all = lists.processes.iter().enumerate();
                let own = all.filter(|(i, process)| lists.by_pid.get(&process.pid) == Some(i));
                Box::new(own.map(|(i, process)| (process.pid.to_string(), Self::Process(i))))
            }
            Self::Thread(index) => Box::new(
                [
                    ("registers".into(), Self::Registers(index)),
                    ("stack".into(), Self::Stack(index)),
                ]
                .into_iter(),
            ),
            Self::Process(index) => Box::new(
                [
                    ("status".into(), Self::Status(index)),
                    ("threads".into(), Self::Tids(index)),
                ]
                .into_iter(),
            ),
            _ => Box::new(std::iter::empty()),
        }
    }

    /// The size of the file. `None` if it cannot be computed.
    pub(super) fn size(self, contents: &Contents) -> Option<u64> {
        Some(match self {
            Self::Vmcore => contents.payload_len(),
            Self::Elf => contents.elf()?.1,
            Self::Physmem => contents.memory_end(),
            node => node.stored(contents).map_or(0, |text| text.len() as u64),
        })
    }

    /// The text that was computed when the dump was mounted.
    pub(super) fn stored(self, contents: &Contents) -> Option<&[u8]> {
        match self {
            Self::Dmesg => contents.dmesg.as_deref(),
            Self::Info => Some(&contents.info),
            _ => None,
        }
    }

    /// Computes the text.
    pub(super) fn text(self, contents: &Contents) -> Option<Vec<u8>> {
        match self {
            Self::Registers(index) => contents.registers(index),
            Self::Stack(index) => contents.stack(index),
            Self::Status(index) => contents.status(index),
            Self::Tids(index) => contents.tids(index),
            _ => None,
        }
    }
}
