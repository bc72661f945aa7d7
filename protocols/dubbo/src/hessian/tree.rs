//! A Hessian 2.0 value, built: for the few answers that the house itself asks for.
//!
//! Calls that are carried are never built; see [`super`]. Nodes lie in one list and name each other by their place in it, so a
//! reference costs nothing and a value that holds itself does no harm. The bounds are those of the walk; it must never keep
//! more nodes than [`NODES_MAX`], nor expand a reference.
//! Source: `Hessian2Input.readObject` of Apache Dubbo's hessian-lite 4.

use outrigger_codec::Malformed;

use super::{
    CHUNK, DEFINITION, DEFINITIONS_MAX, END, NO_DEFINITION, NO_REF, NO_STRING, NO_VALUE, NULL,
    TOO_MANY_DEFINITIONS, Walker,
};
use crate::values::{DEPTH_MAX, REFS_MAX, TOO_DEEP, TOO_MANY, TOO_MANY_REFS, TRUNCATED};

/// Nodes of one tree.
pub const NODES_MAX: usize = 1 << 19;

/// A value and all that is in it.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    classes: Vec<Class>,
    root: usize,
}

/// A node; other nodes by their place.
#[derive(Debug)]
enum Node {
    Null,
    Bool(bool),
    Number(i64),
    Text(String),
    List(Vec<usize>),
    Map(Vec<(usize, usize)>),
    /// The class by its place, and a value for each of its fields.
    Object(usize, Vec<usize>),
    /// A number with a point, a date, bytes: nobody asks for one.
    Other,
}

#[derive(Debug)]
struct Class {
    name: String,
    fields: Vec<String>,
}

/// A value in a tree.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    tree: &'a Tree,
    at: usize,
}

impl Tree {
    /// Builds the next value of a walk, which no value that a reference could point to may stand before.
    pub fn read(walker: &mut Walker<'_>) -> Result<Self, Malformed> {
        let tree = Self { nodes: Vec::new(), classes: Vec::new(), root: 0 };
        let mut build = Build { walker, tree, slots: Vec::new() };
        let root = build.value(0)?;
        Ok(Self { root, ..build.tree })
    }

    /// The value itself.
    pub const fn root(&self) -> Seen<'_> {
        Seen { tree: self, at: self.root }
    }
}

impl<'a> Seen<'a> {
    fn node(self) -> Option<&'a Node> {
        self.tree.nodes.get(self.at)
    }

    const fn other(self, at: usize) -> Self {
        Self { tree: self.tree, at }
    }

    /// Whether it is null.
    pub fn is_null(self) -> bool {
        matches!(self.node(), Some(Node::Null))
    }

    /// The truth, if it is one.
    pub fn truth(self) -> Option<bool> {
        if let Some(Node::Bool(truth)) = self.node() { Some(*truth) } else { None }
    }

    /// The whole number, if it is one.
    pub fn number(self) -> Option<i64> {
        if let Some(Node::Number(number)) = self.node() { Some(*number) } else { None }
    }

    /// The text, if it is one.
    pub fn text(self) -> Option<&'a str> {
        if let Some(Node::Text(text)) = self.node() { Some(text) } else { None }
    }

    /// The name of its class, if it is an object.
    pub fn class(self) -> Option<&'a str> {
        let Some(Node::Object(class, _)) = self.node() else { return None };
        self.tree.classes.get(*class).map(|class| class.name.as_str())
    }

    /// The value of a field, if it is an object that has it.
    pub fn field(self, name: &str) -> Option<Self> {
        let Some(Node::Object(class, values)) = self.node() else { return None };
        let names = &self.tree.classes.get(*class)?.fields;
        let at = names.iter().position(|field| field == name)?;
        values.get(at).map(|at| self.other(*at))
    }

    /// The values of a list; of anything else there are none.
    pub fn items(self) -> impl Iterator<Item = Self> {
        let items = if let Some(Node::List(items)) = self.node() { items.as_slice() } else { &[] };
        items.iter().map(move |at| self.other(*at))
    }

    /// The keys and values of a map; of anything else there are none.
    pub fn entries(self) -> impl Iterator<Item = (Self, Self)> {
        let entries = if let Some(Node::Map(entries)) = self.node() { entries.as_slice() } else { &[] };
        entries.iter().map(move |(key, value)| (self.other(*key), self.other(*value)))
    }
}

struct Build<'w, 'a> {
    walker: &'w mut Walker<'a>,
    tree: Tree,
    /// The node of each list, map and object begun so far: what a reference may point to.
    slots: Vec<usize>,
}

impl Build<'_, '_> {
    fn push(&mut self, node: Node) -> Result<usize, Malformed> {
        let at = self.tree.nodes.len();
        if at >= NODES_MAX {
            return Err(TOO_MANY);
        }
        self.tree.nodes.push(node);
        Ok(at)
    }

    /// Builds one value, which is inside of so many others. This calls itself, as deep as [`DEPTH_MAX`].
    fn value(&mut self, depth: usize) -> Result<usize, Malformed> {
        while self.peek()? == DEFINITION {
            self.define()?;
        }
        self.walker.element()?;
        let lead = self.walker.cursor.u8()?;
        let node = match lead {
            NULL => Node::Null,
            0x54 => Node::Bool(true),
            0x46 => Node::Bool(false),
            0x38..=0x3f | 0x49 | 0x4c | 0x59 | 0x80..=0xff => Node::Number(self.walker.number(lead)?),
            0x00..=0x1f | 0x30..=0x33 | 0x52 | 0x53 => Node::Text(self.text(lead)?),
            0x20..=0x2f | 0x34..=0x37 | 0x41 | 0x42 => {
                self.walker.binary(lead)?;
                Node::Other
            }
            0x44 | 0x4a => self.opaque(8)?,
            0x4b | 0x5f => self.opaque(4)?,
            0x5b | 0x5c => Node::Other,
            0x5d => self.opaque(1)?,
            0x5e => self.opaque(2)?,
            0x51 => return self.reference(),
            _ => return self.container(lead, depth),
        };
        self.push(node)
    }

    fn peek(&self) -> Result<u8, Malformed> {
        self.walker.cursor.peek().ok_or(TRUNCATED)
    }

    fn opaque(&mut self, len: usize) -> Result<Node, Malformed> {
        self.walker.cursor.take(len).map(|_| Node::Other)
    }

    /// Builds a list, a map or an object. It has its place before what is in it, which may refer to it.
    fn container(&mut self, lead: u8, depth: usize) -> Result<usize, Malformed> {
        if depth >= DEPTH_MAX {
            return Err(TOO_DEEP);
        }
        if matches!(lead, 0x4d | 0x55 | 0x56 | 0x70..=0x77) {
            self.walker.type_name()?;
        }
        let at = self.push(Node::Null)?;
        self.slots.push(at);
        let within = depth.saturating_add(1);
        let node = match lead {
            0x48 | 0x4d => {
                let mut entries = Vec::new();
                while self.peek()? != END {
                    entries.push((self.value(within)?, self.value(within)?));
                }
                self.walker.cursor.take(1)?;
                Node::Map(entries)
            }
            0x55 | 0x57 => {
                let mut items = Vec::new();
                while self.peek()? != END {
                    items.push(self.value(within)?);
                }
                self.walker.cursor.take(1)?;
                Node::List(items)
            }
            0x56 | 0x58 => {
                let count = self.walker.declared()?;
                Node::List(self.values(count, within)?)
            }
            0x70..=0x7f => Node::List(self.values(u32::from(lead & 7), within)?),
            0x4f => {
                let class = self.walker.int()?;
                self.object(class, within)?
            }
            0x60..=0x6f => self.object(i64::from(lead & 0xf), within)?,
            _ => return Err(NO_VALUE),
        };
        if let Some(place) = self.tree.nodes.get_mut(at) {
            *place = node;
        }
        Ok(at)
    }

    fn values(&mut self, count: u32, depth: usize) -> Result<Vec<usize>, Malformed> {
        (0..count).map(|_| self.value(depth)).collect()
    }

    fn object(&mut self, class: i64, depth: usize) -> Result<Node, Malformed> {
        let class = usize::try_from(class).map_err(|_| NO_DEFINITION)?;
        let fields = self.tree.classes.get(class).ok_or(NO_DEFINITION)?.fields.len();
        let count = self.walker.cursor.count(fields as i64)?;
        Ok(Node::Object(class, self.values(count, depth)?))
    }

    fn reference(&mut self) -> Result<usize, Malformed> {
        self.walker.refs = self.walker.refs.saturating_add(1);
        if self.walker.refs > REFS_MAX {
            return Err(TOO_MANY_REFS);
        }
        let index = usize::try_from(self.walker.int()?).map_err(|_| NO_REF)?;
        self.slots.get(index).copied().ok_or(NO_REF)
    }

    /// A class definition: a name, a number of fields, their names.
    fn define(&mut self) -> Result<(), Malformed> {
        if self.tree.classes.len() >= DEFINITIONS_MAX {
            return Err(TOO_MANY_DEFINITIONS);
        }
        self.walker.cursor.take(1)?;
        let name = self.string()?;
        let count = self.walker.declared()?;
        let mut fields = Vec::new();
        for _ in 0..count {
            self.walker.element()?;
            fields.push(self.string()?);
        }
        self.tree.classes.push(Class { name, fields });
        self.walker.definitions.push(count)
    }

    fn string(&mut self) -> Result<String, Malformed> {
        let lead = self.walker.cursor.u8()?;
        self.text(lead)
    }

    /// A string in any number of chunks. A pair of surrogates may stand on both sides of a cut.
    fn text(&mut self, mut lead: u8) -> Result<String, Malformed> {
        let mut units = Vec::new();
        loop {
            let count = match lead {
                0x00..=0x1f => usize::from(lead),
                0x30..=0x33 => usize::from(u16::from_be_bytes([lead & 3, self.walker.cursor.u8()?])),
                0x52 | 0x53 => usize::from(self.walker.cursor.u16()?),
                _ => return Err(NO_STRING),
            };
            let before = self.walker.cursor.rest();
            let from = self.walker.at();
            self.walker.characters(count)?;
            let len = self.walker.at().saturating_sub(from);
            decode(before.get(..len).unwrap_or_default(), &mut units);
            if lead != CHUNK {
                return Ok(String::from_utf16_lossy(&units));
            }
            lead = self.walker.cursor.u8()?;
        }
    }
}

/// UTF-16 out of characters of one, two or three bytes, which were stepped over before.
fn decode(mut bytes: &[u8], units: &mut Vec<u16>) {
    while let Some((first, rest)) = bytes.split_first() {
        let low = |at: usize| u16::from(rest.get(at).copied().unwrap_or_default() & 0x3f);
        let first = u16::from(*first);
        let (unit, len) = match first {
            0x00..=0x7f => (first, 0),
            0x80..=0xdf => ((first & 0x1f) << 6 | low(0), 1),
            _ => ((first & 0x0f) << 12 | low(0) << 6 | low(1), 2),
        };
        units.push(unit);
        bytes = rest.get(len..).unwrap_or_default();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test is the point")]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Tree, Malformed> {
        Tree::read(&mut Walker::new(bytes, 0))
    }

    fn text(bytes: &[u8]) -> String {
        read(bytes).unwrap().root().text().unwrap().to_owned()
    }

    #[test]
    fn text_is_read_in_whatever_pieces_it_comes() {
        assert_eq!(text(b"\x02h\xc3\xa9"), "h\u{e9}");
        assert_eq!(text(b"\x52\0\x02ab\x52\0\0\x53\0\x01c"), "abc");
        let emoji = [0x02, 0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80];
        assert_eq!(text(&emoji), "\u{1f600}");
        let cut = [0x52, 0, 1, 0xed, 0xa0, 0xbd, 0x01, 0xed, 0xb8, 0x80];
        assert_eq!(text(&cut), "\u{1f600}", "a pair on both sides of a cut");
        assert_eq!(text(&[0x01, 0xed, 0xa0, 0xbd]), "\u{fffd}", "half a pair is no character");
        assert_eq!(text(&[0x01, 0xe4, 0xbd, 0xa0]), "\u{4f60}");
    }

    #[test]
    fn an_object_has_its_fields_by_name() {
        let bytes = b"\x43\x01A\x92\x01x\x01y\x60\x91\x79\x60\x54\x4e";
        let tree = read(bytes).unwrap();
        let root = tree.root();
        assert_eq!(root.class(), Some("A"));
        assert_eq!(root.field("x").unwrap().number(), Some(1));
        let inner = root.field("y").unwrap().items().next().unwrap();
        assert_eq!(inner.field("x").unwrap().truth(), Some(true));
        assert!(inner.field("y").unwrap().is_null());
        assert!(root.field("z").is_none() && inner.field("y").unwrap().field("x").is_none());
    }

    #[test]
    fn a_map_may_hold_itself() {
        let tree = read(b"\x48\x01k\x51\x90\x01l\x79\x51\x90\x5a").unwrap();
        let root = tree.root();
        let (key, value) = root.entries().next().unwrap();
        assert_eq!(key.text(), Some("k"));
        assert_eq!(value.entries().count(), 2, "it is the map again");
        let (_, list) = root.entries().nth(1).unwrap();
        assert_eq!(list.items().next().unwrap().entries().count(), 2);
    }

    #[test]
    fn what_nobody_asks_for_is_stepped_over() {
        let bytes = b"\x57\x5b\x5c\x5d\x01\x5e\0\x01\x5f\0\0\0\x01\x44\0\0\0\0\0\0\0\0\x4a\0\0\0\0\0\0\0\0\x4b\0\0\0\0\x22ab\x91\x5a";
        let tree = read(bytes).unwrap();
        let items: Vec<_> = tree.root().items().collect();
        assert_eq!(items.len(), 10);
        assert_eq!(items[9].number(), Some(1));
        assert!(
            items[..9].iter().all(|item| !item.is_null() && item.number().is_none() && item.text().is_none())
        );
    }

    #[test]
    fn what_would_hurt_is_refused() {
        assert_eq!(read(&[0x79; 10_000]).unwrap_err(), TOO_DEEP);
        assert_eq!(read(&[0x57; 10_000]).unwrap_err(), TOO_DEEP);
        assert_eq!(read(&[0x48; 10_000]).unwrap_err(), TOO_DEEP);
        assert!(read(&[vec![0x79; DEPTH_MAX], vec![0x90]].concat()).is_ok(), "as deep as allowed");
        let list = |item: &[u8], count: u32| {
            [b"\x58\x49", &count.to_be_bytes()[..], &item.repeat(count as usize)].concat()
        };
        assert_eq!(read(&list(b"\x90", NODES_MAX as u32)).unwrap_err(), TOO_MANY);
        assert_eq!(read(&list(b"\x51\x90", REFS_MAX + 1)).unwrap_err(), TOO_MANY_REFS);
        assert_eq!(read(&b"\x43\x01A\x90".repeat(DEFINITIONS_MAX + 1)).unwrap_err(), TOO_MANY_DEFINITIONS);
        for (bytes, why) in [
            (&b""[..], TRUNCATED),
            (b"\x48\x01k", TRUNCATED),
            (b"\x48\x01k\x5a", NO_VALUE),
            (b"\x57", TRUNCATED),
            (b"\x60", NO_DEFINITION),
            (b"\x4f\x49\xff\xff\xff\xff", NO_DEFINITION),
            (b"\x51\x90", NO_REF),
            (b"\x79\x51\x91", NO_REF),
            (b"\x40", NO_VALUE),
            (b"\x58\x49\x7f\xff\xff\xff", crate::values::BAD_COUNT),
            (b"\x52\0\x01a\x4e", NO_STRING),
        ] {
            assert_eq!(read(bytes).unwrap_err(), why, "{bytes:x?}");
        }
    }
}
