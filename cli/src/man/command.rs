//! Manual pages of the program and its verbs, from the definitions that `--help` prints.

use clap::{Arg, Command};

use super::facts::{FILES, VARIABLES, Verbs};
use super::help::{Block, Example, Parts};
use super::inline::{self, Mark, Piece};
use super::mdoc::{Mdoc, marked};
use super::synopsis;
use crate::exit;

/// The page of the program: its verbs, the options that all verbs have, all variables and files.
pub(crate) fn program(page: &mut Mdoc, program: &Command) {
    page.section("NAME");
    page.line("Nm", &["livecore"]);
    page.line("Nd", &[&lower(&about(program))]);
    page.section("SYNOPSIS");
    page.raw(".Nm");
    for line in ["Op Ar OPTIONS", "Ar VERB", "Op Ar ARGUMENTS"] {
        page.raw(&format!(".{line}"));
    }
    page.section("DESCRIPTION");
    page.prose(&inline::help(&sentence(&about(program))));
    page.prose(&inline::help("The verbs are:"));
    let names = || verbs(program).map(|verb| format!("livecore-{}(1)", verb.get_name()));
    let longest = names().max_by_key(String::len).unwrap_or_default();
    page.raw(&format!(".Bl -tag -width \"{longest}\" -compact"));
    for (verb, name) in verbs(program).zip(names()) {
        page.item(&marked(Mark::Page, &name));
        page.prose(&inline::help(&sentence(&about(verb))));
    }
    page.end_list();
    let after = after(program);
    let parts = Parts::of(&after);
    description(page, &parts);
    page.prose(&inline::help(
        "These options are available with every verb:",
    ));
    options(
        page,
        program.get_arguments().filter(|arg| arg.is_global_set()),
    );
    page.section("ENVIRONMENT");
    variables(page, |_| true);
    page.section("FILES");
    files(page, |_| true);
    exit_status(page, &Parts::default());
    examples(page, &[parts]);
}

/// The page of one verb, with its operations.
pub(crate) fn verb(page: &mut Mdoc, verb: &Command) {
    let name = verb.get_name();
    let operations = operations(verb);
    let is_single = operations.iter().all(|one| std::ptr::eq(*one, verb));
    page.section("NAME");
    page.line("Nm", &[&format!("livecore-{name}")]);
    page.line("Nd", &[&lower(&about(verb))]);
    page.section("SYNOPSIS");
    for operation in &operations {
        synopsis::write(page, operation);
    }
    page.section("DESCRIPTION");
    page.prose(&inline::help(&sentence(&about(verb))));
    let texts: Vec<String> = std::iter::once(verb)
        .chain(operations.iter().copied().filter(|_| !is_single))
        .map(after)
        .collect();
    let parts: Vec<Parts<'_>> = texts.iter().map(|text| Parts::of(text)).collect();
    if let [first, ..] = &parts[..] {
        description(page, first);
    }
    if is_single {
        arguments(page, verb);
    } else {
        for (operation, parts) in operations.iter().zip(parts.iter().skip(1)) {
            let title = operation.get_bin_name().unwrap_or(operation.get_name());
            page.subsection(title);
            page.prose(&inline::help(&sentence(&about(operation))));
            description(page, parts);
            arguments(page, operation);
        }
    }
    page.prose(&inline::help(
        "livecore(1) describes the options that all verbs have.",
    ));
    let applies = |verbs: Verbs| match verbs {
        Verbs::All => false,
        Verbs::With(options) => operations
            .iter()
            .flat_map(|one| one.get_arguments())
            .any(|arg| arg.get_long().is_some_and(|long| options.contains(&long))),
        Verbs::Of(names) => names.contains(&name),
    };
    page.section("ENVIRONMENT");
    variables(page, applies);
    page.prose(&inline::help(
        "livecore(1) lists the variables that all verbs use.",
    ));
    if FILES.iter().any(|(.., verbs)| applies(*verbs)) {
        page.section("FILES");
        files(page, applies);
    }
    let own = parts.iter().flat_map(|parts| parts.exit.clone()).collect();
    exit_status(
        page,
        &Parts {
            exit: own,
            ..Parts::default()
        },
    );
    examples(page, &parts);
}

/// The visible verbs of a command.
pub(crate) fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    let subcommands = command.get_subcommands();
    subcommands.filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
}

/// The commands of a verb that do something: the verb itself, or those below it.
fn operations(verb: &Command) -> Vec<&Command> {
    let mut below: Vec<_> = verbs(verb).flat_map(operations).collect();
    if below.is_empty() || !verb.is_subcommand_required_set() {
        below.insert(0, verb);
    }
    below
}

fn about(command: &Command) -> String {
    let text = command.get_long_about().or(command.get_about());
    text.map(ToString::to_string).unwrap_or_default()
}

fn after(command: &Command) -> String {
    let text = command.get_after_long_help().or(command.get_after_help());
    text.map(ToString::to_string).unwrap_or_default()
}

/// A text of `--help`, whose first line has no full stop.
fn sentence(text: &str) -> String {
    let text = text.trim();
    match text.ends_with(['.', ':', '?']) || text.is_empty() {
        true => text.to_owned(),
        false => format!("{text}."),
    }
}

/// A line without its capital letter, unless the word has others.
fn lower(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), text.chars().nth(1)) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

fn upper(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().into_iter().flat_map(char::to_uppercase);
    first.chain(chars).collect()
}

fn description(page: &mut Mdoc, parts: &Parts<'_>) {
    for block in &parts.description {
        match block {
            Block::Paragraph(text) => page.prose(&inline::help(text)),
            Block::Literal(lines) => page.literal(lines.iter().copied()),
        }
    }
}

/// The arguments of a command: operands, options, and options under headings.
fn arguments(page: &mut Mdoc, command: &Command) {
    let own = || {
        let all = command.get_arguments();
        all.filter(|arg| !arg.is_hide_set() && !arg.is_global_set() && arg.get_id() != "help")
    };
    let operands: Vec<_> = own().filter(|arg| arg.is_positional()).collect();
    if !operands.is_empty() {
        page.prose(&inline::help("The arguments are:"));
        options(page, operands);
    }
    let mut headings: Vec<Option<&str>> = Vec::new();
    for arg in own().filter(|arg| !arg.is_positional()) {
        if !headings.contains(&arg.get_help_heading()) {
            headings.push(arg.get_help_heading());
        }
    }
    headings.sort_by_key(Option::is_some);
    for heading in headings {
        let intro = heading.map_or("The options are:".to_owned(), |heading| {
            format!("{heading}:")
        });
        page.prose(&inline::help(&intro));
        let listed = own().filter(|arg| !arg.is_positional() && arg.get_help_heading() == heading);
        options(page, listed);
    }
}

fn options<'a>(page: &mut Mdoc, args: impl IntoIterator<Item = &'a Arg>) {
    page.begin_terms("Ds");
    for arg in args {
        page.item(&synopsis::term(arg));
        explanation(page, arg);
    }
    page.end_list();
}

/// The help of an argument, its default and its values.
fn explanation(page: &mut Mdoc, arg: &Arg) {
    let help = arg.get_long_help().or(arg.get_help());
    let help = help.map(ToString::to_string).unwrap_or_default();
    let (first, rest) = help.split_once("\n\n").unwrap_or((&help, ""));
    let mut text = sentence(first);
    for paragraph in rest.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        text.push(' ');
        text.push_str(&sentence(paragraph));
    }
    let values: Vec<_> = arg.get_possible_values();
    let values = values.iter().filter(|value| !value.is_hide_set());
    let takes_value = arg.get_action().takes_values();
    let (explained, named): (Vec<_>, Vec<_>) = values.partition(|value| value.get_help().is_some());
    if takes_value && !named.is_empty() {
        let names: Vec<_> = named.iter().map(|value| value.get_name()).collect();
        text.push_str(&format!(" [values: {}]", names.join(", ")));
    }
    let defaults = arg.get_default_values();
    if takes_value && !defaults.is_empty() && !arg.is_hide_default_value_set() {
        let defaults: Vec<_> = defaults
            .iter()
            .map(|value| value.to_string_lossy())
            .collect();
        text.push_str(&format!(" [default: {}]", defaults.join(" ")));
    }
    page.prose(&inline::help(&text));
    if takes_value && !explained.is_empty() {
        page.raw(".Pp");
        page.raw(".Bl -tag -width Ds -compact");
        for value in explained {
            page.item(&marked(Mark::Keyword, value.get_name()));
            let help = value
                .get_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            page.prose(&inline::help(&sentence(&help)));
        }
        page.end_list();
    }
}

fn variables(page: &mut Mdoc, applies: impl Fn(Verbs) -> bool) {
    let listed: Vec<_> = VARIABLES
        .iter()
        .filter(|(.., verbs)| applies(*verbs))
        .collect();
    if listed.is_empty() {
        return;
    }
    page.begin_terms("Ds");
    for (names, text, _) in listed {
        page.item(&format!("Ev {}", names.join(" , ")));
        page.prose(&inline::help(text));
    }
    page.end_list();
}

fn files(page: &mut Mdoc, applies: impl Fn(Verbs) -> bool) {
    page.begin_terms("Ds");
    for (name, text, verbs) in FILES {
        if applies(*verbs) {
            page.item(&marked(Mark::Path, name));
            page.prose(&inline::help(text));
        }
    }
    page.end_list();
}

/// The exit codes. Those in which a verb differs come first.
fn exit_status(page: &mut Mdoc, own: &Parts<'_>) {
    page.section("EXIT STATUS");
    for paragraph in &own.exit {
        page.prose(&inline::help(paragraph));
    }
    let intro = match own.exit.is_empty() {
        true => "The exit codes are:",
        false => "Otherwise, the exit codes are those of all verbs:",
    };
    page.prose(&inline::help(intro));
    page.raw(".Pp");
    page.raw(".Bl -tag -width \"128 + n\" -compact");
    for (code, meaning) in exit::CODES {
        page.item(code);
        page.prose(&inline::help(&sentence(&upper(meaning))));
    }
    page.end_list();
    page.prose(&inline::help(exit::SEVERAL));
}

fn examples(page: &mut Mdoc, parts: &[Parts<'_>]) {
    let all: Vec<&Example<'_>> = parts.iter().flat_map(|parts| &parts.examples).collect();
    if all.is_empty() {
        return;
    }
    page.section("EXAMPLES");
    let (explained, others): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|example| example.remark.is_some());
    for example in &explained {
        let remark = example.remark.map(upper).unwrap_or_default();
        page.prose(&inline::help(&format!("{remark}:")));
        commands(page, &example.commands);
    }
    if !explained.is_empty() && !others.is_empty() {
        page.prose(&inline::help("More examples:"));
    }
    let others: Vec<&str> = others
        .iter()
        .flat_map(|example| example.commands.clone())
        .collect();
    commands(page, &others);
}

fn commands(page: &mut Mdoc, commands: &[&str]) {
    if !commands.is_empty() {
        let lines: Vec<String> = commands
            .iter()
            .flat_map(|command| broken(command))
            .collect();
        page.literal(lines.iter().map(String::as_str));
    }
}

/// A command in lines for a terminal of 80 columns, with a backslash at the end of each but the last.
fn broken(command: &str) -> Vec<String> {
    const COLUMNS: usize = 66;
    let mut lines = vec![String::new()];
    let mut quoted = false;
    for word in command.split(' ') {
        let Some(line) = lines.last_mut() else {
            break;
        };
        let is_full = line.chars().count() + 1 + word.chars().count() > COLUMNS;
        if is_full && !quoted && !line.is_empty() {
            line.push_str(" \\");
            lines.push(format!("    {word}"));
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        quoted ^= word.matches('\'').count() % 2 == 1;
    }
    lines
}

/// The pages that `text` refers to, sorted, without `own`.
pub(crate) fn references(text: &str, own: &str) -> Vec<Piece> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for line in text.lines() {
        let mut words = line
            .split_whitespace()
            .map(|word| word.trim_start_matches('.'));
        while let Some(word) = words.next() {
            if word == "Xr"
                && let (Some(name), Some(section)) = (words.next(), words.next())
                && name != own
                && !found.contains(&(section, name))
            {
                found.push((section, name));
            }
        }
    }
    found.sort_unstable();
    let pages = found
        .iter()
        .map(|(section, name)| format!("{name}({section})"));
    pages.map(|page| Piece::Mark(Mark::Page, page)).collect()
}
