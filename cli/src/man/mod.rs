//! Manual pages in mdoc(7): livecore(1), one for each verb, and those of the file formats.
//!
//! The pages have no text of their own. Those of section 1 come from the command line's definitions,
//! which `--help` prints, from the exit codes and from [`facts`]. Those of section 5 come from the
//! documentation.

mod command;
pub(crate) mod facts;
mod help;
mod inline;
mod markdown;
mod mdoc;
mod synopsis;

use clap::Command;

use mdoc::Mdoc;

/// The date of the pages: that of the release in the changelog.
const DATE: &str = "November 30, 2026";

/// A manual page.
#[derive(Debug)]
pub(crate) struct Page {
    /// `livecore-take`
    pub(crate) name: String,
    /// 1 for a command, 5 for a file format.
    pub(crate) section: u8,
    /// The page in mdoc(7).
    pub(crate) text: String,
}

/// A page of section 5: its name, its purpose, its text, sections that are about the repository.
type Format = (
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
);

/// The links lead to docs/: a package of this crate contains the files.
const FORMATS: [Format; 2] = [
    (
        "livecore-machine",
        "description of an emulated FreeBSD machine",
        include_str!("machines.md"),
        &["Machines in the repository"],
    ),
    (
        "livecore-sealed",
        "file format of FreeBSD kernel dumps with an index and checksums",
        include_str!("sealed.md"),
        &[],
    ),
];

/// All pages of the program whose command line is `program`. livecore(1) is the first.
pub(crate) fn pages(mut program: Command) -> Vec<Page> {
    program.build();
    let mut pages = vec![page("livecore", 1, |page| command::program(page, &program))];
    for verb in command::verbs(&program) {
        let name = format!("livecore-{}", verb.get_name());
        pages.push(page(&name, 1, |page| command::verb(page, verb)));
    }
    for (name, purpose, text, skipped) in FORMATS {
        pages.push(page(name, 5, |page| {
            page.section("NAME");
            page.line("Nm", &[name]);
            page.line("Nd", &[purpose]);
            markdown::write(page, text, skipped);
        }));
    }
    pages
}

/// A page with its frame: the title, and the references that its text makes.
fn page(name: &str, section: u8, write: impl FnOnce(&mut Mdoc)) -> Page {
    let mut page = Mdoc::default();
    page.raw(&format!(".Dd {DATE}"));
    page.raw(&format!(".Dt {} {section}", name.to_uppercase()));
    page.raw(".Os");
    write(&mut page);
    let mut text = page.finish();
    if text.contains("\n.TS\n") {
        // For man(1) of groff, which runs tbl(1) only then.
        text.insert_str(0, "'\\\" t\n");
    }
    let mut see = Mdoc::default();
    see.section("SEE ALSO");
    let references = match name {
        "livecore" => format!("{text}\n.Xr livecore-machine 5\n.Xr livecore-sealed 5\n"),
        _ => format!("{text}\n.Xr livecore 1\n"),
    };
    let found = command::references(&references, name);
    let last = found.len().saturating_sub(1);
    for (index, piece) in found.into_iter().enumerate() {
        let comma = (index < last).then(|| inline::Piece::Text(",".into()));
        see.fill(&std::iter::once(piece).chain(comma).collect::<Vec<_>>());
    }
    text.push_str(&see.finish());
    Page {
        name: name.to_owned(),
        section,
        text,
    }
}
