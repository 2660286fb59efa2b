//! Parser of recipes.

use super::arch::Arch;
use super::content::Content;
use super::cursor::Cursor;
use super::encryption;
use super::error::{BuildError, Result};
use super::recipe::{
    Change, Codec, Container, Edit, Garbage, Info, Key, Kind, Mapping, Protection, RawEntry,
    Recipe, Set, Stage, Value,
};

/// The most pages of one statement.
const MAX_RUN: u64 = 1 << 20;

/// Parses a recipe.
pub(crate) fn parse(text: &str) -> Result<Recipe> {
    let empty = super::cursor::Names::new();
    let mut recipe: Option<Recipe> = None;
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        if Cursor::new(line_number, line, &empty).is_empty() {
            continue;
        }
        match &mut recipe {
            None => recipe = Some(first(&mut Cursor::new(line_number, line, &empty))?),
            Some(recipe) => {
                let names = recipe.names.clone();
                statement(recipe, &mut Cursor::new(line_number, line, &names))?;
            }
        }
    }
    recipe.ok_or_else(|| Cursor::new(0, "", &empty).expected("minidump, fulldump, textdump or raw"))
}

fn first(cursor: &mut Cursor<'_>) -> Result<Recipe> {
    let line = cursor.line;
    let word = cursor.word("minidump, fulldump, textdump or raw")?;
    let name = cursor.word("an architecture")?;
    let arch = Arch::named(name).ok_or_else(|| BuildError::UnknownName {
        line,
        kind: "architecture",
        name: name.to_owned(),
    })?;
    let kind = match word {
        "minidump" => {
            let found = cursor.number()?;
            let version = u32::try_from(found)
                .ok()
                .filter(|v| (1..=arch.newest).contains(v));
            Kind::Minidump(
                arch,
                version.ok_or_else(|| BuildError::Value {
                    line,
                    what: "version",
                    found,
                    expected: format!("1 to {}", arch.newest),
                })?,
            )
        }
        "fulldump" => Kind::Full(arch),
        "textdump" => Kind::Text(arch),
        "raw" => Kind::Raw(arch),
        _ => {
            return Err(BuildError::UnknownName {
                line,
                kind: "dump",
                name: word.to_owned(),
            });
        }
    };
    cursor.end()?;
    Ok(Recipe::new(kind))
}

fn statement(recipe: &mut Recipe, cursor: &mut Cursor<'_>) -> Result<()> {
    let line = cursor.line;
    let word = cursor.word("a statement")?;
    match word {
        "let" => {
            let name = cursor.word("a name")?.to_owned();
            cursor.symbol('=', "=")?;
            let value = cursor.number()?;
            recipe.names.insert(name, value);
        }
        "pagesize" => recipe.page_size = power_of_two(cursor, "page size", 0x1000, 0x1_0000)?,
        "avail" => {
            let range = (cursor.number()?, cursor.number()?);
            let last = recipe.avail.last().map_or(0, |pair| pair.1);
            if range.0 < last || range.1 <= range.0 {
                let expected = format!("ascending from {last:#x}");
                return Err(BuildError::Value {
                    line,
                    what: "range start",
                    found: range.0,
                    expected,
                });
            }
            recipe.avail.push(range);
        }
        "delta" => {
            recipe.delta = Some((cursor.number()?, cursor.number()?, cursor.number()?));
        }
        "page" => {
            let pa = cursor.number()?;
            fill(recipe, cursor, pa, 1)?;
        }
        "pages" => {
            let pa = cursor.number()?;
            let count = bounded(cursor, "page count", MAX_RUN)?;
            fill(recipe, cursor, pa, count)?;
        }
        "put" => put(recipe, cursor)?,
        "map" => map(recipe, cursor)?,
        "table" => {
            let (va, pa) = (cursor.number()?, cursor.number()?);
            aligned(line, "table", pa, recipe.page_size)?;
            recipe.leaf_tables.insert(va >> 21, (line, pa));
        }
        "pte" | "pde" => {
            let va = cursor.number()?;
            cursor.symbol('=', "=")?;
            let value = cursor.number()?;
            recipe.entries.push(RawEntry {
                line,
                leaf: word == "pte",
                va,
                value,
            });
        }
        "nodump" => {
            let start = cursor.number()?;
            let end = if cursor.is_empty() {
                start + recipe.page_size
            } else {
                cursor.number()?
            };
            recipe.nodump.push((start, end));
        }
        "garbage" => {
            let (from, to) = (cursor.number()?, cursor.number()?);
            if to.saturating_sub(from) > MAX_RUN {
                return Err(too_big(line, "garbage bits", to, MAX_RUN));
            }
            recipe.garbage.push(Garbage {
                line,
                from,
                to,
                pages: cursor.eat("pages"),
            });
        }
        "kernbase" => recipe.kernbase = Some(cursor.number()?),
        "kernend" => recipe.kernend = Some(cursor.number()?),
        "dmap" => recipe.dmap = (cursor.number()?, cursor.number()?),
        "dmapphys" => recipe.dmapphys = Some(cursor.number()?),
        "startkernel" => recipe.startkernel = cursor.number()?,
        // Entries omit 11 bits of the page number, which at least 2048 groups imply.
        "groups" => recipe.hash_groups = power_of_two(cursor, "hash groups", 2048, 1 << 16)?,
        "radix" => recipe.radix = true,
        "msgbuf" => msgbuf(recipe, cursor)?,
        "bytes" => {
            let at = recipe.raw.len() as u64;
            let big = recipe.big();
            recipe
                .raw
                .extend(Content::parse(cursor)?.bytes(at, big, &recipe.names)?);
        }
        "member" => {
            let name = text(cursor)?;
            let content = Content::parse(cursor)?.bytes(0, recipe.big(), &recipe.names)?;
            recipe.members.push((name, content));
        }
        "set" => set(recipe, cursor)?,
        "length" => {
            let section = cursor.word("a section")?.to_owned();
            cursor.symbol('=', "=")?;
            recipe.lengths.push((line, section, cursor.expr()?));
        }
        "patch" | "flip" | "truncate" | "append" => edit(recipe, cursor, word)?,
        "container" => {
            recipe.container = match cursor.word("saved, live, device or sealed")? {
                "saved" => Container::Saved,
                "live" => Container::Live,
                "device" => Container::Device,
                "sealed" => Container::Sealed,
                _ => return Err(cursor.expected("saved, live, device or sealed")),
            }
        }
        "device_size" => recipe.device_size = Some(cursor.expr()?),
        "sector" => recipe.sector = power_of_two(cursor, "sector", 512, 0x1_0000)?,
        "frame" => {
            recipe.frame_size = cursor.number()?;
            let fits = (1..=64 << 20).contains(&recipe.frame_size);
            if !fits {
                return Err(too_big(line, "frame size", recipe.frame_size, 64 << 20));
            }
        }
        "stale" => recipe.stale = Some(cursor.number()?),
        "compress" => compress(recipe, cursor)?,
        "kdh" => {
            if !cursor.eat("version") {
                return Err(cursor.expected("version"));
            }
            // 4 is the newest version; `set kdh.version` writes any other number.
            recipe.kdh_version = bounded(cursor, "kerneldumpheader version", 4)?.max(1) as u32;
        }
        "key" => {
            let algorithm = match cursor.word("aes or chacha20")? {
                "aes" => encryption::AES,
                "chacha20" => encryption::CHACHA20,
                _ => return Err(cursor.expected("aes or chacha20")),
            };
            recipe.key = Some(Key {
                algorithm,
                wrapped: bounded(cursor, "wrapped key", 0x1_0000)?,
                pkcs1: cursor.eat("pkcs1"),
            });
        }
        "cleared" => recipe.cleared = true,
        "info" => info(recipe, cursor)?,
        "reword" => {
            let words = (line, text(cursor)?, text(cursor)?);
            let info = recipe.info.as_mut();
            let what = "reword needs an info statement before it";
            info.ok_or(BuildError::Invalid { line, what })?
                .rewords
                .push(words);
        }
        _ => {
            return Err(BuildError::UnknownName {
                line,
                kind: "statement",
                name: word.to_owned(),
            });
        }
    }
    cursor.end()
}

fn text(cursor: &mut Cursor<'_>) -> Result<String> {
    let bytes = cursor.string()?;
    String::from_utf8(bytes).map_err(|_| cursor.expected("text in UTF-8"))
}

fn too_big(line: usize, what: &'static str, found: u64, most: u64) -> BuildError {
    BuildError::Value {
        line,
        what,
        found,
        expected: format!("at most {most:#x}"),
    }
}

fn bounded(cursor: &mut Cursor<'_>, what: &'static str, most: u64) -> Result<u64> {
    let found = cursor.number()?;
    if found > most {
        Err(too_big(cursor.line, what, found, most))
    } else {
        Ok(found)
    }
}

fn power_of_two(cursor: &mut Cursor<'_>, what: &'static str, low: u64, high: u64) -> Result<u64> {
    let found = cursor.number()?;
    if found.is_power_of_two() && (low..=high).contains(&found) {
        return Ok(found);
    }
    let expected = format!("a power of two from {low:#x} to {high:#x}");
    Err(BuildError::Value {
        line: cursor.line,
        what,
        found,
        expected,
    })
}

/// Checks that an address is a multiple of `to`.
pub(crate) fn aligned(line: usize, what: &'static str, found: u64, to: u64) -> Result<()> {
    if found.is_multiple_of(to) {
        return Ok(());
    }
    Err(BuildError::Value {
        line,
        what,
        found,
        expected: format!("a multiple of {to:#x}"),
    })
}

fn fill(recipe: &mut Recipe, cursor: &mut Cursor<'_>, pa: u64, count: u64) -> Result<()> {
    let size = recipe.page_size;
    aligned(cursor.line, "page", pa, size)?;
    let content = Content::parse(cursor)?;
    for i in 0..count {
        let at = pa
            .checked_add(i * size)
            .ok_or(BuildError::Arithmetic { line: cursor.line })?;
        let bytes = content.next(i).page(size as usize, at, recipe.big())?;
        if recipe.pages.insert(at, bytes).is_some() {
            return Err(BuildError::Conflict {
                line: cursor.line,
                what: "page",
                at,
            });
        }
    }
    Ok(())
}

fn put(recipe: &mut Recipe, cursor: &mut Cursor<'_>) -> Result<()> {
    let line = cursor.line;
    let is_virtual = cursor.eat("va");
    let at = cursor.number()?;
    let bytes = Content::parse(cursor)?.bytes(at, recipe.big(), &recipe.names)?;
    for (i, byte) in bytes.iter().enumerate() {
        let at = at
            .checked_add(i as u64)
            .ok_or(BuildError::Arithmetic { line })?;
        let pa = if is_virtual {
            recipe.translate(at).ok_or_else(|| BuildError::Value {
                line,
                what: "virtual address",
                found: at,
                expected: "an address mapped so far".to_owned(),
            })?
        } else {
            at
        };
        let size = recipe.page_size;
        let page = recipe
            .pages
            .entry(pa / size * size)
            .or_insert_with(|| vec![0; size as usize]);
        page[(pa % size) as usize] = *byte;
    }
    Ok(())
}

fn map(recipe: &mut Recipe, cursor: &mut Cursor<'_>) -> Result<()> {
    let line = cursor.line;
    let (va, pa, size) = (cursor.number()?, cursor.number()?, cursor.number()?);
    let prot = match cursor.word("r, rw, rx or rwx")? {
        "r" => Protection {
            write: false,
            execute: false,
        },
        "rw" => Protection {
            write: true,
            execute: false,
        },
        "rx" => Protection {
            write: false,
            execute: true,
        },
        "rwx" => Protection {
            write: true,
            execute: true,
        },
        _ => return Err(cursor.expected("r, rw, rx or rwx")),
    };
    let times = if cursor.eat("times") {
        bounded(cursor, "run", MAX_RUN)?
    } else {
        1
    };
    if !size.is_power_of_two() {
        let expected = "a power of two".to_owned();
        return Err(BuildError::Value {
            line,
            what: "size",
            found: size,
            expected,
        });
    }
    aligned(line, "virtual address", va, size)?;
    aligned(line, "physical address", pa, size)?;
    for i in 0..times {
        let step = i.checked_mul(size);
        let next = |base: u64| step.and_then(|step| base.checked_add(step));
        let (Some(va), Some(pa)) = (next(va), next(pa)) else {
            return Err(BuildError::Arithmetic { line });
        };
        recipe.maps.push(Mapping {
            line,
            va,
            pa,
            size,
            prot,
        });
    }
    Ok(())
}

fn msgbuf(recipe: &mut Recipe, cursor: &mut Cursor<'_>) -> Result<()> {
    match cursor.word("size, text, start, rseq, at or tail")? {
        "size" => recipe.msgbuf.size = Some(bounded(cursor, "message buffer", 1 << 28)?),
        "text" => recipe.msgbuf.text.extend(cursor.string()?),
        "start" => recipe.msgbuf.start = cursor.number()?,
        "rseq" => recipe.msgbuf.rseq = cursor.number()?,
        "at" => recipe.msgbuf.at = Some(cursor.number()?),
        "tail" => recipe.msgbuf.tail = Some(Content::parse(cursor)?),
        _ => return Err(cursor.expected("size, text, start, rseq, at or tail")),
    }
    Ok(())
}

fn set(recipe: &mut Recipe, cursor: &mut Cursor<'_>) -> Result<()> {
    let line = cursor.line;
    let target = cursor.word("area.field")?;
    let (area, field) = target
        .split_once('.')
        .ok_or_else(|| cursor.expected("area.field"))?;
    let known = [
        "header",
        "msgbuf",
        "dump_avail",
        "kdh",
        "leading",
        "trailing",
        "seal",
        "attachment",
    ];
    if !known.contains(&area) {
        return Err(BuildError::UnknownName {
            line,
            kind: "area",
            name: area.to_owned(),
        });
    }
    let (area, field) = (area.to_owned(), field.to_owned());
    cursor.symbol('=', "=")?;
    let value = if cursor.at_string() {
        Value::Text(cursor.string()?)
    } else {
        Value::Number(cursor.expr()?)
    };
    recipe.sets.push(Set {
        line,
        area,
        field,
        value,
    });
    Ok(())
}

fn edit(recipe: &mut Recipe, cursor: &mut Cursor<'_>, word: &str) -> Result<()> {
    let stage = match cursor.word("payload, stream or file")? {
        "payload" => Stage::Payload,
        "stream" => Stage::Stream,
        "file" => Stage::File,
        _ => return Err(cursor.expected("payload, stream or file")),
    };
    let change = match word {
        "patch" => {
            let at = cursor.expr()?;
            cursor.symbol('=', "=")?;
            Change::Patch(at, Content::parse(cursor)?)
        }
        "flip" => {
            let at = cursor.expr()?;
            let bit = if cursor.eat("bit") {
                bounded(cursor, "bit", 7)?
            } else {
                0
            };
            Change::Flip(at, bit as u32)
        }
        "truncate" => Change::Truncate(cursor.expr()?),
        _ => Change::Append(Content::parse(cursor)?),
    };
    recipe.edits.push(Edit {
        line: cursor.line,
        stage,
        change,
    });
    Ok(())
}

fn compress(recipe: &mut Recipe, cursor: &mut Cursor<'_>) -> Result<()> {
    recipe.codec = match cursor.word("none, gzip, pigz or zstd")? {
        "none" => Codec::None,
        "pigz" => Codec::Pigz,
        "gzip" if cursor.eat("members") => Codec::GzipMembers(piece(cursor)?),
        "gzip" => Codec::Gzip,
        "zstd" if cursor.eat("frames") => Codec::ZstdFrames(piece(cursor)?),
        "zstd" if cursor.eat("sized") => Codec::ZstdSized,
        "zstd" if cursor.eat("unchecked") => Codec::ZstdUnchecked,
        "zstd" => Codec::Zstd,
        _ => return Err(cursor.expected("none, gzip, pigz or zstd")),
    };
    if cursor.eat("level") {
        recipe.level = bounded(cursor, "level", 19)? as i32;
    }
    Ok(())
}

fn piece(cursor: &mut Cursor<'_>) -> Result<u64> {
    let found = cursor.number()?;
    if (1..=1 << 28).contains(&found) {
        return Ok(found);
    }
    let expected = "1 to 256 MiB".to_owned();
    Err(BuildError::Value {
        line: cursor.line,
        what: "bytes per piece",
        found,
        expected,
    })
}

fn info(recipe: &mut Recipe, cursor: &mut Cursor<'_>) -> Result<()> {
    let device = text(cursor)?;
    let mut info = Info {
        device,
        bounds: 0,
        status: "good".to_owned(),
        ctime: false,
        rewords: Vec::new(),
    };
    while !cursor.is_empty() {
        match cursor.word("bounds, status or ctime")? {
            "bounds" => info.bounds = cursor.number()?,
            "status" => info.status = cursor.word("good, bad or unknown")?.to_owned(),
            "ctime" => info.ctime = true,
            _ => return Err(cursor.expected("bounds, status or ctime")),
        }
    }
    recipe.info = Some(info);
    Ok(())
}
