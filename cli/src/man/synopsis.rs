//! The SYNOPSIS of a command, from the usage line of `--help`, and the terms of its options.

use clap::{Arg, ArgGroup, Command};

use super::inline::Mark;
use super::mdoc::{Mdoc, marked};

/// Writes the usage of `command`.
pub(crate) fn write(page: &mut Mdoc, command: &Command) {
    let name = command
        .get_bin_name()
        .unwrap_or(command.get_name())
        .to_owned();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:");
    let lines = usage.lines().filter(|line| !line.trim().is_empty());
    // The other lines of a command with operations name these, which have lines of their own.
    let count = match command.has_subcommands() {
        true => 1,
        false => usize::MAX,
    };
    for line in lines.take(count) {
        let line = line.trim();
        let operands = line.strip_prefix(&name).unwrap_or(line);
        page.raw(".Nm livecore");
        let verb = name.split(' ').skip(1).collect::<Vec<_>>();
        page.line("Cm", &verb);
        for token in tokens(operands) {
            match &*token {
                "OPTIONS" => options(page, command, usage),
                _ => page.raw(&format!(".{}", element(&token))),
            }
        }
    }
}

/// The elements of a usage line. `[OPTIONS]` is one of them.
fn tokens(line: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    for word in line.replace("[OPTIONS]", "OPTIONS").split_whitespace() {
        let core = word.trim_start_matches('[');
        tokens.extend(word[..word.len() - core.len()].chars().map(String::from));
        let core = core.replace(['<', '>'], "");
        // `[DATA]...` and `[DEVICE...]` end differently. A name such as `ADDRESS[:PORT]` has brackets
        // of its own.
        let (core, repeats) = match core.strip_suffix("]...") {
            Some(core) => (format!("{core}]"), true),
            None => (core, false),
        };
        let open = core.matches('[').count();
        let unopened = core.matches(']').count().saturating_sub(open);
        let (core, closing) = core.split_at(core.len() - unopened);
        for (index, alternative) in core.split('|').enumerate() {
            if index > 0 {
                tokens.push("|".into());
            }
            tokens.push(alternative.to_owned());
        }
        tokens.extend(closing.chars().map(String::from));
        tokens.extend(repeats.then(|| "...".to_owned()));
    }
    tokens
}

/// An element as a macro.
fn element(token: &str) -> String {
    match token {
        "[" => "Oo".into(),
        "]" => "Oc".into(),
        "|" => "No \\&|".into(),
        "..." => "No ...".into(),
        _ => match token.strip_suffix("...") {
            Some(name) => format!("{} ...", marked(Mark::Value, name)),
            None if token.starts_with('-') => marked(Mark::Option, token),
            None => marked(Mark::Value, token),
        },
    }
}

/// The options that are not in the usage line: letters first, then options of which one can be given.
fn options(page: &mut Mdoc, command: &Command, usage: &str) {
    let own: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !arg.is_positional() && !arg.is_hide_set() && !arg.is_global_set())
        .filter(|arg| arg.get_id() != "help" && !is_in(usage, arg))
        .collect();
    let groups: Vec<&ArgGroup> = command
        .get_groups()
        .filter(|group| !(*group).clone().is_multiple())
        .collect();
    let group_of = |arg: &Arg| {
        groups
            .iter()
            .find(|group| group.get_args().any(|id| id == arg.get_id()))
    };
    let is_letter = |arg: &Arg| {
        arg.get_short().is_some() && !arg.get_action().takes_values() && group_of(arg).is_none()
    };
    let letters: String = own
        .iter()
        .filter(|arg| is_letter(arg))
        .filter_map(|arg| arg.get_short())
        .collect();
    if !letters.is_empty() {
        page.raw(&format!(".Op Fl {letters}"));
    }
    let mut done: Vec<&str> = Vec::new();
    for arg in own.iter().filter(|arg| !is_letter(arg)) {
        let Some(group) = group_of(arg) else {
            page.raw(&format!(".Op {}", short(arg)));
            continue;
        };
        if done.contains(&group.get_id().as_str()) {
            continue;
        }
        done.push(group.get_id().as_str());
        let members = own
            .iter()
            .filter(|arg| group.get_args().any(|id| id == arg.get_id()));
        let members: Vec<String> = members.map(|arg| short(arg)).collect();
        page.raw(&format!(".Op {}", members.join(" | ")));
    }
}

fn is_in(usage: &str, arg: &Arg) -> bool {
    let long = arg.get_long().map(|long| format!("--{long}"));
    let short = arg.get_short().map(|short| format!("-{short}"));
    let mut words = usage.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    words.any(|word| {
        !word.is_empty() && (Some(word) == long.as_deref() || Some(word) == short.as_deref())
    })
}

/// An option by its shortest name, with its value.
fn short(arg: &Arg) -> String {
    let name = match (arg.get_short(), arg.get_long()) {
        (Some(short), _) => format!("-{short}"),
        (None, Some(long)) => format!("--{long}"),
        (None, None) => return operand(arg),
    };
    option(arg, &name)
}

/// An option by `name`, with its value.
fn option(arg: &Arg, name: &str) -> String {
    let flag = marked(Mark::Option, name);
    if !arg.get_action().takes_values() {
        return flag;
    }
    let value = values(arg);
    let is_optional = arg
        .get_num_args()
        .is_some_and(|range| range.min_values() == 0);
    match (is_optional, arg.is_require_equals_set()) {
        (true, _) => format!("{flag} Ns Oo = Ns {value} Oc"),
        (false, true) => format!("{flag} Ns = Ns {value}"),
        (false, false) => format!("{flag} {value}"),
    }
}

fn values(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let names: Vec<_> = names.iter().map(|name| marked(Mark::Value, name)).collect();
    names.join(" ")
}

/// An operand. A name such as `DIR] [DEVICE` denotes two.
fn operand(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let names = names.iter().flat_map(|name| name.split("] ["));
    let names: Vec<_> = names.map(|name| marked(Mark::Value, name)).collect();
    names.join(" ")
}

/// All names of an argument, as the term of its explanation.
pub(crate) fn term(arg: &Arg) -> String {
    if arg.is_positional() {
        return operand(arg);
    }
    let mut names: Vec<String> = Vec::new();
    let letters = arg.get_short_and_visible_aliases().unwrap_or_default();
    names.extend(letters.iter().map(|letter| format!("-{letter}")));
    let words = arg.get_long_and_visible_aliases().unwrap_or_default();
    names.extend(words.iter().map(|word| format!("--{word}")));
    let Some(last) = names.pop() else {
        return operand(arg);
    };
    let mut terms: Vec<String> = names
        .iter()
        .map(|name| marked(Mark::Option, name))
        .collect();
    terms.push(option(arg, &last));
    terms.join(" , ")
}
