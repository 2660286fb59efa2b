//! The text after the options in `livecore VERB --help`, divided into parts of a manual page.
//!
//! The text consists of blocks between empty lines. A block that starts with `Example` lists commands,
//! each with a remark after three spaces or more. A block that starts with `Exits with` or `Exit
//! codes` is about exit codes. In other blocks, an indented line is printed as it is.

/// A part of a description.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Block<'a> {
    /// Sentences.
    Paragraph(&'a str),
    /// Lines that are printed as they are.
    Literal(Vec<&'a str>),
}

/// An example.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Example<'a> {
    /// What it does.
    pub(crate) remark: Option<&'a str>,
    /// Commands, in order.
    pub(crate) commands: Vec<&'a str>,
}

/// The parts of a text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    /// The description.
    pub(crate) description: Vec<Block<'a>>,
    /// Examples.
    pub(crate) examples: Vec<Example<'a>>,
    /// Paragraphs on exit codes.
    pub(crate) exit: Vec<&'a str>,
}

impl<'a> Parts<'a> {
    /// Divides `text`.
    pub(crate) fn of(text: &'a str) -> Self {
        let mut parts = Self::default();
        for block in text.split("\n\n") {
            let mut lines = block.lines().peekable();
            let first = lines.peek().copied().unwrap_or_default();
            if matches!(first, "Example:" | "Examples:") {
                lines.skip(1).for_each(|line| parts.example(line));
            } else if first.starts_with("Exits with ") || first.starts_with("Exit codes") {
                parts.exit.push(block);
            } else {
                lines.for_each(|line| parts.line(line));
            }
        }
        parts
    }

    fn line(&mut self, line: &'a str) {
        let Some(literal) = line.strip_prefix("  ") else {
            if !line.is_empty() {
                self.description.push(Block::Paragraph(line));
            }
            return;
        };
        match self.description.last_mut() {
            Some(Block::Literal(lines)) => lines.push(literal),
            _ => self.description.push(Block::Literal(vec![literal])),
        }
    }

    fn example(&mut self, line: &'a str) {
        let line = line.strip_prefix("  ").unwrap_or(line);
        let is_continuation = line.starts_with(' ');
        let mut fields = line.trim().splitn(2, "   ").map(str::trim);
        let mut command = fields.next();
        let mut remark = fields.next();
        if is_continuation {
            remark = command.take();
        } else {
            self.examples.push(Example::default());
        }
        let Some(example) = self.examples.last_mut() else {
            return;
        };
        example.commands.extend(command);
        match remark.and_then(|remark| remark.strip_prefix("then: ")) {
            Some(next) => example.commands.push(next),
            None => {
                let remark = remark
                    .map(|remark| remark.trim_matches(['(', ')']))
                    .or(example.remark);
                example.remark = remark;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_divided_into_description_examples_and_exit_codes() {
        let parts = Parts::of(
            "Examples:\n  a b   what it does\n  c\n        then: d\n\nText:\n  as is\nMore.\n\nExits with 1.",
        );
        let expected = Parts {
            description: vec![
                Block::Paragraph("Text:"),
                Block::Literal(vec!["as is"]),
                Block::Paragraph("More."),
            ],
            examples: vec![
                Example {
                    remark: Some("what it does"),
                    commands: vec!["a b"],
                },
                Example {
                    remark: None,
                    commands: vec!["c", "d"],
                },
            ],
            exit: vec!["Exits with 1."],
        };
        assert_eq!(parts, expected);
    }
}
