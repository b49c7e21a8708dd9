//! A reader of the kernel's BTF (<https://docs.kernel.org/bpf/btf.html>), as far as it takes to find out where a
//! field of a structure is.
//!
//! The crates for it are either under the LGPL or keep one type per name, and all of them copy some 100,000 types to answer a
//! dozen questions.

use thiserror::Error;

/// Why BTF could not be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum BtfError {
    /// It is no BTF of a version or byte order that we know.
    #[error("it does not begin like BTF of this machine")]
    Header,
    /// A type is cut off, or of a kind that we do not know.
    #[error("type {0} is malformed")]
    Type(u32),
    /// There is no such structure.
    #[error("there is no struct {0}")]
    NoStruct(String),
    /// The structure has no such field.
    #[error("struct {0} has no field {1}")]
    NoField(String, String),
}

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const RESTRICT: u32 = 11;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const FLOAT: u32 = 16;
const DECL_TAG: u32 = 17;
const TYPE_TAG: u32 = 18;
const ENUM64: u32 = 19;

/// Parsed BTF: where each type begins.
pub(crate) struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Offset of each type in `types`; type ids count from 1.
    begins: Vec<usize>,
}

/// One type: the three words that all kinds begin with, and what follows.
#[derive(Clone, Copy)]
struct Type<'a> {
    name: u32,
    kind: u32,
    /// How many entries follow.
    entries: usize,
    /// Whether member offsets carry a bit field's size in their upper 8 bits.
    bit_fields: bool,
    /// The type that is referred to (in types that do; else a size).
    reference: u32,
    rest: &'a [u8],
}

impl<'a> Btf<'a> {
    pub(crate) fn parse(data: &'a [u8]) -> Result<Self, BtfError> {
        const MAGIC: [u8; 3] = [0xeb9f_u16.to_ne_bytes()[0], 0xeb9f_u16.to_ne_bytes()[1], 1];
        let header = |word: usize| read(data, word * 4).ok_or(BtfError::Header).map(|n| n as usize);
        if !data.starts_with(&MAGIC) {
            return Err(BtfError::Header);
        }
        let (length, type_at, type_len, string_at, string_len) =
            (header(1)?, header(2)?, header(3)?, header(4)?, header(5)?);
        let section = |at: usize, len: usize| {
            let begin = length.checked_add(at)?;
            data.get(begin..begin.checked_add(len)?)
        };
        let mut btf = Self {
            types: section(type_at, type_len).ok_or(BtfError::Header)?,
            strings: section(string_at, string_len).ok_or(BtfError::Header)?,
            begins: Vec::new(),
        };
        let mut at = 0;
        while at < btf.types.len() {
            btf.begins.push(at);
            let id = u32::try_from(btf.begins.len()).unwrap_or(u32::MAX);
            at += btf.length(id).ok_or(BtfError::Type(id))?;
        }
        Ok(btf)
    }

    /// Whether there is a typedef of that name.
    pub(crate) fn has_typedef(&self, name: &str) -> bool {
        self.find(TYPEDEF, name).is_some()
    }

    /// Whether there is a function of that name.
    pub(crate) fn has_function(&self, name: &str) -> bool {
        self.find(FUNC, name).is_some()
    }

    /// Whether an enumeration has a value of that name.
    pub(crate) fn has_enumerator(&self, enumeration: &str, value: &str) -> bool {
        let values = self.find(ENUM, enumeration).and_then(|id| self.get(id));
        values.is_some_and(|values| {
            let name = |index| read(values.rest, index * 8);
            (0..values.entries).filter_map(name).any(|name| self.is_named(name, value))
        })
    }

    /// The byte offset of a field, such as `self.parent` of `cgroup`. Anonymous structures and unions in between need not be
    /// named.
    pub(crate) fn offset(&self, structure: &str, path: &str) -> Result<u64, BtfError> {
        let mut id = self.find(STRUCT, structure).ok_or_else(|| BtfError::NoStruct(structure.into()))?;
        let mut bits = 0;
        for field in path.split('.') {
            let found = self.member(self.resolve(id), field);
            let (at, of) = found.ok_or_else(|| BtfError::NoField(structure.into(), path.into()))?;
            bits += at;
            id = of;
        }
        Ok(u64::from(bits / 8))
    }

    fn find(&self, kind: u32, name: &str) -> Option<u32> {
        let ids = 1..=u32::try_from(self.begins.len()).ok()?;
        ids.into_iter()
            .find(|&id| self.get(id).is_some_and(|t| t.kind == kind && self.is_named(t.name, name)))
    }

    /// Bit offset and type of a member.
    fn member(&self, id: u32, name: &str) -> Option<(u32, u32)> {
        let structure = self.get(id).filter(|t| t.kind == STRUCT || t.kind == UNION)?;
        (0..structure.entries).find_map(|index| {
            let word = |n: usize| read(structure.rest, index * 12 + n * 4);
            let (member, of, at) = (word(0)?, word(1)?, word(2)?);
            let at = if structure.bit_fields { at & 0x00ff_ffff } else { at };
            if member == 0 {
                let (inner, of) = self.member(self.resolve(of), name)?;
                return Some((at + inner, of));
            }
            self.is_named(member, name).then_some((at, of))
        })
    }

    /// What a type is without names and qualifiers.
    fn resolve(&self, mut id: u32) -> u32 {
        // A loop of typedefs would be malformed; it must not hang us.
        for _ in 0..64 {
            match self.get(id) {
                Some(Type { kind: TYPEDEF | VOLATILE | CONST | RESTRICT | TYPE_TAG, reference, .. }) => {
                    id = reference;
                }
                _ => break,
            }
        }
        id
    }

    fn get(&self, id: u32) -> Option<Type<'a>> {
        let begin = *self.begins.get((id as usize).checked_sub(1)?)?;
        let data = self.types.get(begin..)?;
        let info = read(data, 4)?;
        Some(Type {
            name: read(data, 0)?,
            kind: (info >> 24) & 0x1f,
            entries: (info & 0xffff) as usize,
            bit_fields: info >> 31 != 0,
            reference: read(data, 8)?,
            rest: data.get(12..)?,
        })
    }

    /// Bytes that a type takes, if it is complete.
    fn length(&self, id: u32) -> Option<usize> {
        let this = self.get(id)?;
        let rest = match this.kind {
            INT | VAR | DECL_TAG => 4,
            ARRAY => 12,
            STRUCT | UNION | DATASEC | ENUM64 => this.entries * 12,
            ENUM | FUNC_PROTO => this.entries * 8,
            PTR | FWD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | FLOAT | TYPE_TAG => 0,
            _ => return None,
        };
        (this.rest.len() >= rest).then_some(12 + rest)
    }

    fn is_named(&self, at: u32, name: &str) -> bool {
        let found = self.strings.get(at as usize..);
        found.and_then(|s| s.strip_prefix(name.as_bytes())).is_some_and(|s| s.first() == Some(&0))
    }
}

fn read(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BTF of: `struct outer { int a; struct { int b; }; inner_t *p; struct inner in; }`,
    /// `struct inner { int x; int y; }`, `typedef struct inner inner_t`, `enum color { red, green }`.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0outer\0a\0b\0p\0in\0inner\0x\0y\0inner_t\0color\0red\0green\0";
        let name = |wanted: &str| {
            let all = strings.split(|b| *b == 0);
            let at = all
                .scan(0, |at, s| {
                    let this = *at;
                    *at += s.len() + 1;
                    Some((this, s))
                })
                .find(|(_, s)| *s == wanted.as_bytes());
            u32::try_from(at.expect("a name of the sample").0).expect("small")
        };
        let info = |kind: u32, entries: u32| (kind << 24) | entries;
        let types: Vec<u32> = [
            vec![name("int"), info(INT, 0), 4, 32], // 1
            vec![name("inner"), info(STRUCT, 2), 8, name("x"), 1, 0, name("y"), 1, 32], // 2
            vec![name("inner_t"), info(TYPEDEF, 0), 2], // 3
            vec![0, info(PTR, 0), 3],               // 4
            vec![0, info(STRUCT, 1), 4, name("b"), 1, 0], // 5
            vec![
                name("outer"),
                info(STRUCT, 4),
                24,
                name("a"),
                1,
                0,
                0,
                5,
                32,
                name("p"),
                4,
                64,
                name("in"),
                3,
                128,
            ], // 6
            vec![name("color"), info(ENUM, 2), 4, name("red"), 0, name("green"), 1], // 7
        ]
        .concat();
        let type_len = u32::try_from(types.len() * 4).expect("small");
        let string_len = u32::try_from(strings.len()).expect("small");
        let mut data = 0xeb9f_u16.to_ne_bytes().to_vec();
        data.extend([1, 0]);
        for word in [24, 0, type_len, type_len, string_len].into_iter().chain(types) {
            data.extend(word.to_ne_bytes());
        }
        data.extend(strings);
        data
    }

    #[test]
    fn fields_are_found_where_they_are() {
        let data = sample();
        let btf = Btf::parse(&data).expect("well-formed");
        assert_eq!(btf.offset("outer", "a"), Ok(0));
        assert_eq!(btf.offset("outer", "b"), Ok(4), "in an anonymous structure");
        assert_eq!(btf.offset("outer", "p"), Ok(8));
        assert_eq!(btf.offset("outer", "in.y"), Ok(20), "through a typedef");
        assert!(btf.has_typedef("inner_t"));
        assert!(!btf.has_typedef("inner"));
        assert!(btf.has_enumerator("color", "red") && btf.has_enumerator("color", "green"));
        assert!(!btf.has_enumerator("color", "blue") && !btf.has_enumerator("inner", "x"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let data = sample();
        let btf = Btf::parse(&data).expect("well-formed");
        assert_eq!(btf.offset("inner_t", "x"), Err(BtfError::NoStruct("inner_t".into())));
        assert_eq!(btf.offset("outer", "in.z"), Err(BtfError::NoField("outer".into(), "in.z".into())));
        assert_eq!(
            btf.offset("outer", "p.x"),
            Err(BtfError::NoField("outer".into(), "p.x".into())),
            "a pointer"
        );
    }

    #[test]
    fn anything_cut_off_or_foreign_is_refused() {
        let data = sample();
        assert!(Btf::parse(b"").is_err());
        assert!(Btf::parse(b"\x7fELF").is_err());
        for length in 0..data.len() {
            assert!(Btf::parse(&data[..length]).is_err(), "the first {length} bytes");
        }
        let mut unknown = data;
        unknown[24 + 7] = 31;
        assert!(matches!(Btf::parse(&unknown), Err(BtfError::Type(1))));
    }
}
