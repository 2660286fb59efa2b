//! Types from CTF.

use livecore_minidump::{Error, KernelElf};

use super::{Id, Isf, MEMBERS, Member, Node, Types};
use crate::ctf::{self, Ctf};

/// Adds the types of the kernel. Returns whether there are any.
pub(super) fn read(elf: &KernelElf, isf: &mut Isf) -> Result<bool, Error> {
    let Some(ctf) = ctf::open(elf)? else {
        return Ok(false);
    };
    for id in 1..=ctf.count() {
        isf.define(&ctf, id)?;
    }
    Ok(true)
}

impl Types for Ctf {
    fn node(&self, id: Id) -> Option<Node> {
        let ty = self.by_number(id)?;
        let name = || {
            self.name(ty.name)
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
        };
        let of = Some(ty.size).filter(|of| *of != 0);
        Some(match ty.kind {
            ctf::CTF_K_INTEGER => {
                let integer = self.integer(&ty)?;
                let kind = match () {
                    () if integer.is_bool => "bool",
                    () if integer.is_char => "char",
                    () => "int",
                };
                let mut name = name()?;
                if integer.bits != ty.size.saturating_mul(8) {
                    // The type of a bit-field has the name of the whole type.
                    name += &format!(":{}", integer.bits);
                }
                Node::Base {
                    name,
                    size: ty.size,
                    kind,
                    signed: integer.is_signed,
                }
            }
            ctf::CTF_K_FLOAT => Node::Base {
                name: name()?,
                size: ty.size,
                kind: "float",
                signed: true,
            },
            ctf::CTF_K_POINTER => Node::Pointer(of),
            ctf::CTF_K_ARRAY => {
                let (contents, count) = self.array(&ty)?;
                Node::Array(Some(contents), vec![count])
            }
            ctf::CTF_K_FUNCTION => Node::Function,
            ctf::CTF_K_STRUCT => Node::Composite {
                kind: "struct",
                name: name(),
                size: Some(ty.size),
            },
            ctf::CTF_K_UNION => Node::Composite {
                kind: "union",
                name: name(),
                size: Some(ty.size),
            },
            ctf::CTF_K_ENUM => Node::Enum {
                name: name(),
                size: ty.size,
            },
            ctf::CTF_K_FORWARD => Node::Composite {
                kind: "struct",
                name: name(),
                size: None,
            },
            ctf::CTF_K_TYPEDEF..=ctf::CTF_K_RESTRICT => Node::Alias(of),
            _ => Node::Void,
        })
    }

    fn members(&self, id: Id) -> Vec<Member> {
        let Some(ty) = self.by_number(id) else {
            return Vec::new();
        };
        let entries = self.entries(&ty).take(MEMBERS);
        let member = entries.map(|(name, ty, at)| {
            let integer = self
                .resolve(ty)
                .and_then(|ty| Some((self.integer(&ty)?, ty.size)));
            let bits = integer.filter(|(integer, size)| integer.bits != size.saturating_mul(8));
            Member {
                name: Some(name.to_owned()).filter(|name| !name.is_empty()),
                at,
                bits: bits.map(|(integer, _)| integer.bits),
                ty: Some(ty),
            }
        });
        member.collect()
    }

    fn constants(&self, id: Id) -> Vec<(String, i64)> {
        let Some(ty) = self.by_number(id) else {
            return Vec::new();
        };
        let named = self.enumerators(&ty).take(MEMBERS);
        named
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    fn size(&self, id: Id) -> Option<u64> {
        Some(self.size_of(id, 0)).filter(|size| *size > 0)
    }
}
