//! Fits a tree to the structs of the conf by serde, and reports every mistake, not only the first.
//!
//! A value that fails is noted at its exact place, then the structs are filled again with a blank in its stead (or, in
//! lists and maps, without it), until all is filled or nothing new is learnt. What follows from a noted mistake is not
//! a mistake of its own and must not be reported. Unknown keys are always refused.
//!
//! What the structs may use: plain structs, `Option`, lists, maps with text keys, externally tagged enums, and types
//! that read themselves by `deserialize_str` (which hands scalars over as text, but lists and maps as what they are).
//! `tag`, `untagged` and `flatten` lose the place and must not be used.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display};
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected,
    IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::blank::{BLANKS_MAX, Blank, forward};
use super::report::{Problem, Report, Span, listing, near, quote};
use super::yaml::{self, Int, Kind, Lookup, Node, Scalar, Tree, boolean, float, integer};

/// Most problems reported at once.
pub const PROBLEMS_MAX: usize = 1_000;
/// Most values visited over all passes; the first pass always ends.
const VISITS_MAX: usize = 20_000_000;

/// Bytes of a file to structs, or everything that is wrong with them. `file` is the name to show.
pub fn load<T: DeserializeOwned>(file: &str, bytes: &[u8], lookup: &Lookup<'_>) -> Result<T, Report> {
    load_with(file, bytes, lookup, |value, _| (value, Vec::new()))
}

/// Bytes of a file to structs, and on to what they mean, or everything that is wrong with either.
///
/// `meaning` is asked also when the structs hold blanks instead of what could not be read; what it finds wrong where
/// something is reported already only follows from that, and is left out.
pub fn load_with<T: DeserializeOwned, M>(
    file: &str,
    bytes: &[u8],
    lookup: &Lookup<'_>,
    meaning: impl FnOnce(T, &Node) -> (M, Vec<Problem>),
) -> Result<M, Report> {
    load_tree(file, yaml::read(bytes, lookup), meaning)
}

/// The same from a tree that was read already.
pub fn load_tree<T: DeserializeOwned, M>(
    file: &str,
    tree: Tree,
    meaning: impl FnOnce(T, &Node) -> (M, Vec<Problem>),
) -> Result<M, Report> {
    let mut problems = tree.problems;
    let (value, more) = decode_partly(&tree.root);
    problems.extend(more);
    if let Some(value) = value {
        let (meant, more) = meaning(value, &tree.root);
        let apart = |found: &Problem, known: &Problem| {
            found.span.end < known.span.start || known.span.end < found.span.start
        };
        let new: Vec<_> =
            more.into_iter().filter(|found| problems.iter().all(|known| apart(found, known))).collect();
        if problems.is_empty() && new.is_empty() {
            return Ok(meant);
        }
        problems.extend(new);
    }
    Err(Report::new(file, tree.source, problems))
}

/// A tree to structs, or all problems sorted by place. The list is empty when the tree itself was broken.
pub fn decode<T: DeserializeOwned>(root: &Node) -> Result<T, Vec<Problem>> {
    match decode_partly(root) {
        (Some(value), problems) if problems.is_empty() => Ok(value),
        (_, problems) => Err(problems),
    }
}

/// A tree to structs, with blanks where there are problems; `None` when not even that can be made.
fn decode_partly<T: DeserializeOwned>(root: &Node) -> (Option<T>, Vec<Problem>) {
    let mut state = State::default();
    loop {
        let known = (state.problems.len(), state.repairs_made);
        let outcome = T::deserialize(Value { state: &mut state, node: root, key: None });
        let mut partial = None;
        let ended = match outcome {
            Ok(value) => {
                partial = Some(value);
                true
            }
            Err(Fail::Noted) => true,
            Err(Fail::Said(said)) => {
                state.note_unless_dirty(root, said);
                true
            }
            Err(Fail::Retry) => false,
        };
        let learnt = known != (state.problems.len(), state.repairs_made);
        let full = state.problems.len() >= PROBLEMS_MAX || state.visits >= VISITS_MAX;
        if ended || !learnt || full {
            let mut problems = state.problems;
            problems.sort();
            if full {
                problems.push(Problem::new(root.span, "too many errors; the rest is not shown"));
            }
            return (partial, problems);
        }
    }
}

// === failing ========================================================================================================

/// Why a value could not be made.
#[derive(Debug)]
pub(super) enum Fail {
    /// A type's complaint, not yet placed.
    Said(Said),
    /// Reported already (or not worth it); whoever holds the value has to do without.
    Noted,
    /// A repair was made further down: fill the structs again.
    Retry,
}

#[derive(Debug, Default)]
pub(super) struct Said {
    message: String,
    help: Option<String>,
    /// Set when a key is missing, which a blank can stand in for.
    missing: Option<&'static str>,
}

impl Display for Fail {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fail::Said(said) => out.write_str(&said.message),
            Fail::Noted | Fail::Retry => out.write_str("reported elsewhere"),
        }
    }
}

impl std::error::Error for Fail {}

impl Fail {
    fn said(message: impl Into<String>, help: Option<String>) -> Self {
        Fail::Said(Said { message: message.into(), help, missing: None })
    }

    fn unknown(what: &str, name: &str, expected: &[&str]) -> Self {
        let message = match expected {
            [] => format!("unknown {what} {}, expected none", quote(name)),
            [one] => format!("unknown {what} {}, expected `{one}`", quote(name)),
            _ => format!("unknown {what} {}, expected one of {}", quote(name), listing(expected)),
        };
        Self::said(
            message,
            near(name, expected.iter().copied()).map(|near| format!("did you mean `{near}`?")),
        )
    }
}

impl de::Error for Fail {
    fn custom<T: Display>(message: T) -> Self {
        let text = message.to_string();
        match text.split_once("\nhelp: ") {
            Some((message, help)) => Self::said(message, Some(help.to_owned())),
            None => Self::said(text, None),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = in_words(&expected.to_string());
        let help = match found {
            Unexpected::Str("yes" | "no" | "on" | "off" | "True" | "False")
                if expected == "`true` or `false`" =>
            {
                Some("write true or false".to_owned())
            }
            Unexpected::Unit if expected == "a list" => Some("write [] for an empty list".to_owned()),
            Unexpected::Unit if expected == "a map" => Some("write {} for an empty map".to_owned()),
            _ => None,
        };
        Self::said(format!("expected {expected}, found {}", found_in_words(found)), help)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn invalid_length(len: usize, expected: &dyn Expected) -> Self {
        Self::said(format!("expected {expected}, found {len}"), None)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::unknown("value", variant, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Self::unknown("key", field, expected)
    }

    fn missing_field(field: &'static str) -> Self {
        Fail::Said(Said { message: format!("missing key `{field}`"), help: None, missing: Some(field) })
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::said(format!("`{field}` is given twice, under two names"), None)
    }
}

/// What serde expects, in the words of somebody who writes a conf.
fn in_words(expected: &str) -> Cow<'static, str> {
    match expected {
        "u8" => "a whole number from 0 to 255".into(),
        "u16" => "a whole number from 0 to 65535".into(),
        "u32" => "a whole number from 0 to 4294967295".into(),
        "u64" | "usize" | "u128" => "a whole number, 0 or more".into(),
        "i8" | "i16" | "i32" | "i64" | "isize" | "i128" => "a whole number".into(),
        "f32" | "f64" => "a number".into(),
        "a boolean" => "`true` or `false`".into(),
        "a string" => "text".into(),
        "a sequence" => "a list".into(),
        other if other.starts_with("struct ") => "a map".into(),
        other if other.starts_with("a nonzero ") => "a whole number, 1 or more".into(),
        other => other.to_owned().into(),
    }
}

fn found_in_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("`{value}`"),
        Unexpected::Signed(value) => format!("`{value}`"),
        Unexpected::Float(value) => format!("`{value}`"),
        Unexpected::Char(value) => quote(value.encode_utf8(&mut [0; 4])),
        Unexpected::Str("") => "empty text".to_owned(),
        Unexpected::Str(value) => quote(value),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a map".to_owned(),
        other => other.to_string(),
    }
}

// === what is known so far ===========================================================================================

/// Nodes do not move while they are decoded, so their addresses name them.
type Id = usize;

fn id(node: &Node) -> Id {
    std::ptr::from_ref(node).addr()
}

/// What to do about a value that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repair {
    /// Fill in a blank, by this number.
    Blank(usize),
    /// Leave it out.
    Out,
}

impl Repair {
    fn next(self) -> Self {
        match self {
            Repair::Blank(n) if n + 1 < BLANKS_MAX => Repair::Blank(n + 1),
            _ => Repair::Out,
        }
    }
}

#[derive(Default)]
struct State {
    problems: Vec<Problem>,
    reported: HashSet<Problem>,
    /// By collection and position in it.
    repairs: HashMap<(Id, usize), Repair>,
    /// Keys that a map lacks.
    absent: HashMap<Id, Vec<(&'static str, Repair)>>,
    repairs_made: usize,
    /// Nodes with a noted problem in them: what they complain about afterwards may only follow from it.
    dirty: HashSet<Id>,
    path: Vec<String>,
    visits: usize,
}

impl State {
    fn note(&mut self, span: Span, said: Said) {
        let problem = Problem { span, message: said.message, help: said.help };
        if self.problems.len() < PROBLEMS_MAX && self.reported.insert(problem.clone()) {
            self.problems.push(problem);
        }
    }

    fn note_unless_dirty(&mut self, node: &Node, mut said: Said) {
        if matches!(node.kind, Kind::Broken) || self.dirty.contains(&id(node)) {
            return;
        }
        if let Kind::Scalar(Scalar { text, expanded: true, .. }) = &node.kind {
            // Variables may hold secrets, and messages go to logs.
            for text in [quote(text), format!("`{text}`"), format!("{text:?}")] {
                said.message = said.message.replace(&text, "another value of the variable");
            }
            said.help = said.help.filter(|help| text.is_empty() || !help.contains(&**text));
        }
        self.note(node.span, said);
    }

    fn repair(&mut self, holder: &Node, index: usize, repair: Repair) {
        self.repairs_made += 1;
        self.repairs.insert((id(holder), index), repair);
        self.dirty.insert(id(holder));
    }

    /// Handles the failure of a value that `holder` can do without.
    fn excuse(&mut self, holder: &Node, index: usize, value: &Node, fail: Fail, repair: Repair) -> Fail {
        match fail {
            Fail::Said(said) => {
                self.note_unless_dirty(value, said);
                self.repair(holder, index, repair);
            }
            Fail::Noted => self.repair(holder, index, repair),
            Fail::Retry => {
                self.dirty.insert(id(value));
            }
        }
        Fail::Retry
    }

    /// Handles a map's own failure: a missing key gets a blank; the rest is the business of its holder.
    fn settle(&mut self, map: &Node, fail: Fail) -> Fail {
        let Fail::Said(said) = fail else { return fail };
        let Some(name) = said.missing else { return Fail::Said(said) };
        let Kind::Map(entries) = &map.kind else { return Fail::Said(said) };
        let left_out = entries.iter().enumerate().any(|(index, (_, value))| {
            matches!(value.kind, Kind::Broken) || self.repairs.get(&(id(map), index)) == Some(&Repair::Out)
        });
        let tried =
            self.absent.get(&id(map)).is_some_and(|absent| absent.iter().any(|(key, _)| *key == name));
        if left_out || tried {
            return Fail::Noted;
        }
        let mut message = said.message;
        if !self.path.is_empty() {
            message = format!("{message} in `{}`", self.path.concat().trim_start_matches('.'));
        }
        self.note(map.span, Said { message, ..Said::default() });
        self.absent.entry(id(map)).or_default().push((name, Repair::Blank(0)));
        self.repairs_made += 1;
        self.dirty.insert(id(map));
        Fail::Retry
    }
}

// === values =========================================================================================================

struct Value<'a, 'n> {
    state: &'a mut State,
    node: &'n Node,
    /// The key it stands under, to be blamed when nobody wants the value.
    key: Option<&'n Node>,
}

impl<'n> Value<'_, 'n> {
    /// Counts the visit; a broken value ends here, without a second report.
    fn kind(&mut self) -> Result<&'n Kind, Fail> {
        self.state.visits += 1;
        if matches!(self.node.kind, Kind::Broken) { Err(Fail::Noted) } else { Ok(&self.node.kind) }
    }

    /// Anything but a scalar goes to the visitor as what it is, which then says what it wanted.
    fn structure<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fail> {
        let Self { state, node, .. } = self;
        match &node.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Scalar(scalar) => visitor.visit_str(&scalar.text),
            Kind::Seq(items) => {
                let mut seq = Seq { state, node, items, next: 0 };
                let value = visitor.visit_seq(&mut seq)?;
                let (read, len) = (seq.next, items.len());
                if read < len {
                    Err(Fail::said(format!("expected {read} items, found {len}"), None))
                } else {
                    Ok(value)
                }
            }
            Kind::Map(entries) => {
                let map = Map::new(&mut *state, node, entries, None);
                visitor.visit_map(map).map_err(|fail| state.settle(node, fail))
            }
            Kind::Broken => Err(Fail::Noted),
        }
    }

    fn number<V: Visitor<'n>>(mut self, visitor: V) -> Result<V::Value, Fail> {
        let Kind::Scalar(scalar) = self.kind()? else { return self.structure(visitor) };
        // Variables count as plain even in quotes: JSON and flow style leave no other way to write them.
        if !scalar.plain && !scalar.expanded {
            let mut fail = visitor.visit_str(&scalar.text);
            if let (Err(Fail::Said(said)), true) = (&mut fail, integer(&scalar.text).is_some()) {
                said.help = Some("write the number without quotes".to_owned());
            }
            return fail;
        }
        match integer(&scalar.text) {
            Some(Int::Unsigned(value)) => visitor.visit_u64(value),
            Some(Int::Signed(value)) => visitor.visit_i64(value),
            Some(Int::TooLarge) | None => visitor.visit_str(&scalar.text),
        }
    }

    fn float<V: Visitor<'n>>(mut self, visitor: V) -> Result<V::Value, Fail> {
        match self.kind()? {
            Kind::Scalar(scalar) if scalar.plain || scalar.expanded => match float(&scalar.text) {
                Some(value) => visitor.visit_f64(value),
                None => visitor.visit_str(&scalar.text),
            },
            _ => self.structure(visitor),
        }
    }
}

impl<'n> Deserializer<'n> for Value<'_, 'n> {
    type Error = Fail;

    forward!(number: deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128);
    forward!(number: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128);
    forward!(float: deserialize_f32 deserialize_f64);
    forward!(deserialize_str: deserialize_string deserialize_char deserialize_bytes deserialize_byte_buf);
    forward!(deserialize_str: deserialize_identifier deserialize_seq deserialize_map deserialize_unit);

    fn deserialize_any<V: Visitor<'n>>(mut self, visitor: V) -> Result<V::Value, Fail> {
        match self.kind()? {
            Kind::Scalar(scalar) if scalar.plain => match (boolean(&scalar.text), integer(&scalar.text)) {
                (Some(value), _) => visitor.visit_bool(value),
                (None, Some(_)) => self.number(visitor),
                (None, None) => self.float(visitor),
            },
            _ => self.structure(visitor),
        }
    }

    /// Scalars as written: `version: 1.0` is the text `1.0` where text is wanted.
    fn deserialize_str<V: Visitor<'n>>(mut self, visitor: V) -> Result<V::Value, Fail> {
        self.kind()?;
        self.structure(visitor)
    }

    fn deserialize_bool<V: Visitor<'n>>(mut self, visitor: V) -> Result<V::Value, Fail> {
        match self.kind()? {
            Kind::Scalar(scalar) if scalar.plain || scalar.expanded => match boolean(&scalar.text) {
                Some(value) => visitor.visit_bool(value),
                None => visitor.visit_str(&scalar.text),
            },
            _ => self.structure(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'n>>(mut self, visitor: V) -> Result<V::Value, Fail> {
        match self.kind()? {
            Kind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fail> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit_struct<V: Visitor<'n>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fail> {
        self.deserialize_str(visitor)
    }

    fn deserialize_tuple<V: Visitor<'n>>(self, _: usize, visitor: V) -> Result<V::Value, Fail> {
        self.deserialize_str(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'n>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fail> {
        self.deserialize_str(visitor)
    }

    fn deserialize_struct<V: Visitor<'n>>(
        mut self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fail> {
        let entries = match self.kind()? {
            Kind::Map(entries) => entries,
            // Serde would take a list for the fields in their order, which nobody means.
            Kind::Seq(_) => return Err(Fail::said("expected a map, found a list", None)),
            _ => return self.structure(visitor),
        };
        let map = Map::new(&mut *self.state, self.node, entries, Some(fields));
        visitor.visit_map(map).map_err(|fail| self.state.settle(self.node, fail))
    }

    fn deserialize_enum<V: Visitor<'n>>(
        mut self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fail> {
        let (name, value) = match self.kind()? {
            Kind::Scalar(_) => (self.node, None),
            Kind::Map(entries) if entries.len() == 1 => (&entries[0].0, Some(&entries[0].1)),
            other => {
                let found = match other {
                    Kind::Null => "nothing",
                    Kind::Seq(_) => "a list",
                    _ => "a map that has not exactly one key",
                };
                return Err(Fail::said(
                    format!("expected one of {}, found {found}", listing(variants)),
                    None,
                ));
            }
        };
        let text = name.text().unwrap_or_default();
        if !variants.contains(&text) {
            if let Fail::Said(said) = Fail::unknown("value", text, variants) {
                self.state.note_unless_dirty(name, said);
            }
            return Err(Fail::Noted);
        }
        visitor.visit_enum(Choice { state: self.state, node: self.node, name: text, value })
    }

    /// Serde ignores what it does not know; here that is a mistake.
    fn deserialize_ignored_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fail> {
        if let Some(key) = self.key {
            let text = key.text().unwrap_or_default();
            self.state
                .note(key.span, Said { message: format!("unknown key {}", quote(text)), ..Said::default() });
        }
        visitor.visit_unit()
    }
}

// === lists and maps =================================================================================================

struct Seq<'a, 'n> {
    state: &'a mut State,
    node: &'n Node,
    items: &'n [Node],
    next: usize,
}

impl<'n> SeqAccess<'n> for &mut Seq<'_, 'n> {
    type Error = Fail;

    fn next_element_seed<S: DeserializeSeed<'n>>(&mut self, seed: S) -> Result<Option<S::Value>, Fail> {
        let left_out = |index: usize| {
            let broken = matches!(self.items[index].kind, Kind::Broken);
            broken || self.state.repairs.contains_key(&(id(self.node), index))
        };
        let found = (self.next..self.items.len()).find(|index| !left_out(*index));
        // Passing over what was left out is work too: it counts, or many mistakes would take quadratic time.
        self.state.visits += found.unwrap_or(self.items.len()) - self.next;
        let Some(index) = found else {
            self.next = self.items.len();
            return Ok(None);
        };
        self.next = index + 1;
        let node = &self.items[index];
        self.state.path.push(format!("[{index}]"));
        let result = seed.deserialize(Value { state: &mut *self.state, node, key: None });
        self.state.path.pop();
        result.map(Some).map_err(|fail| self.state.excuse(self.node, index, node, fail, Repair::Out))
    }

    fn size_hint(&self) -> Option<usize> {
        // Serde allocates by it at once, so it is not allowed to promise much.
        Some((self.items.len() - self.next).min(1_024))
    }
}

struct Map<'a, 'n> {
    state: &'a mut State,
    node: &'n Node,
    entries: &'n [(Node, Node)],
    /// The keys that are known, when it is a struct.
    fields: Option<&'static [&'static str]>,
    /// Known keys that misspelt ones were taken for.
    taken: Vec<&'static str>,
    next: usize,
    next_absent: usize,
    current: Current,
}

/// What the last key promised.
#[derive(Clone, Copy)]
enum Current {
    Entry(usize),
    Absent(usize),
}

impl<'a, 'n> Map<'a, 'n> {
    fn new(
        state: &'a mut State,
        node: &'n Node,
        entries: &'n [(Node, Node)],
        fields: Option<&'static [&'static str]>,
    ) -> Self {
        Self {
            state,
            node,
            entries,
            fields,
            taken: Vec::new(),
            next: 0,
            next_absent: 0,
            current: Current::Entry(0),
        }
    }

    /// The name a key is taken for. An unknown one is noted, and read as the known one it was probably meant to be,
    /// so that mistakes below it are found and the known one is not called missing.
    fn known_name(&mut self, key: &'n Node, value: &Node) -> Option<&'n str> {
        let text = key.text()?;
        let Some(fields) = self.fields.filter(|fields| !fields.contains(&text)) else { return Some(text) };
        if let Fail::Said(said) = Fail::unknown("key", text, fields) {
            self.state.note(key.span, said);
        }
        let meant = *fields.iter().find(|field| near(text, fields.iter().copied()) == Some(field))?;
        if self.node.get(meant).is_some() || self.taken.contains(&meant) {
            return None;
        }
        self.taken.push(meant);
        self.state.dirty.insert(id(value));
        Some(meant)
    }
}

impl<'n> MapAccess<'n> for Map<'_, 'n> {
    type Error = Fail;

    fn next_key_seed<S: DeserializeSeed<'n>>(&mut self, seed: S) -> Result<Option<S::Value>, Fail> {
        while let Some((key, value)) = self.entries.get(self.next) {
            let index = self.next;
            self.next += 1;
            self.state.visits += 1;
            let out = self.state.repairs.get(&(id(self.node), index)) == Some(&Repair::Out);
            if out || self.fields.is_none() && matches!(value.kind, Kind::Broken) {
                continue;
            }
            let Some(name) = self.known_name(key, value) else { continue };
            self.current = Current::Entry(index);
            let result = seed.deserialize(Key { name });
            return result
                .map(Some)
                .map_err(|fail| self.state.excuse(self.node, index, key, fail, Repair::Out));
        }
        while let Some((name, repair)) =
            self.state.absent.get(&id(self.node)).and_then(|absent| absent.get(self.next_absent)).copied()
        {
            self.current = Current::Absent(self.next_absent);
            self.next_absent += 1;
            if repair != Repair::Out {
                return seed.deserialize(Key { name }).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<S: DeserializeSeed<'n>>(&mut self, seed: S) -> Result<S::Value, Fail> {
        let map = id(self.node);
        let repair = match self.current {
            Current::Entry(index) => self.state.repairs.get(&(map, index)).copied(),
            Current::Absent(index) => {
                self.state.absent.get(&map).and_then(|absent| absent.get(index)).map(|(_, repair)| *repair)
            }
        };
        if let Some(Repair::Blank(n)) = repair {
            return seed.deserialize(Blank::new(n)).map_err(|_| {
                let next = Repair::Blank(n).next();
                match self.current {
                    Current::Entry(index) => self.state.repair(self.node, index, next),
                    Current::Absent(index) => {
                        self.state.repairs_made += 1;
                        if let Some(slot) = self.state.absent.get_mut(&map).and_then(|a| a.get_mut(index)) {
                            slot.1 = next;
                        }
                    }
                }
                Fail::Retry
            });
        }
        let Current::Entry(index) = self.current else { return Err(Fail::Noted) };
        let (key, node) = &self.entries[index];
        self.state.path.push(format!(".{}", key.text().unwrap_or_default()));
        let result = seed.deserialize(Value { state: &mut *self.state, node, key: Some(key) });
        self.state.path.pop();
        let repair = if self.fields.is_some() { Repair::Blank(0) } else { Repair::Out };
        result.map_err(|fail| self.state.excuse(self.node, index, node, fail, repair))
    }
}

/// A key, which is text unless a number is asked for.
struct Key<'n> {
    name: &'n str,
}

impl Key<'_> {
    fn number<'n, V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fail> {
        match integer(self.name) {
            Some(Int::Unsigned(value)) => visitor.visit_u64(value),
            Some(Int::Signed(value)) => visitor.visit_i64(value),
            _ => visitor.visit_str(self.name),
        }
    }
}

impl<'n> Deserializer<'n> for Key<'_> {
    type Error = Fail;

    forward!(number: deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_i32 deserialize_i64);

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_str(self.name)
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fail> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'n>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fail> {
        visitor.visit_enum(self.name.into_deserializer())
    }

    serde::forward_to_deserialize_any! {
        <V: Visitor<'n>>
        bool i8 i16 i128 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple tuple_struct
        map struct identifier ignored_any
    }
}

// === enums ==========================================================================================================

struct Choice<'a, 'n> {
    state: &'a mut State,
    node: &'n Node,
    name: &'n str,
    value: Option<&'n Node>,
}

impl<'n> Choice<'_, 'n> {
    fn content<T>(self, read: impl FnOnce(Value<'_, 'n>) -> Result<T, Fail>) -> Result<T, Fail> {
        let name = self.name;
        let Some(node) = self.value else {
            let help = format!("write {name}: and its value below or behind it");
            return Err(Fail::said(format!("`{name}` needs a value"), Some(help)));
        };
        self.state.path.push(format!(".{name}"));
        let result = read(Value { state: &mut *self.state, node, key: None });
        self.state.path.pop();
        result.map_err(|fail| match fail {
            Fail::Said(said) => {
                self.state.note_unless_dirty(node, said);
                self.state.dirty.insert(id(self.node));
                Fail::Noted
            }
            other => other,
        })
    }
}

impl<'n> EnumAccess<'n> for Choice<'_, 'n> {
    type Error = Fail;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'n>>(self, seed: S) -> Result<(S::Value, Self), Fail> {
        let name: StrDeserializer<'_, Fail> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'n> VariantAccess<'n> for Choice<'_, 'n> {
    type Error = Fail;

    fn unit_variant(self) -> Result<(), Fail> {
        match self.value.map(|node| &node.kind) {
            None | Some(Kind::Null) => Ok(()),
            Some(Kind::Broken) => Err(Fail::Noted),
            Some(_) => Err(Fail::said(
                format!("`{}` takes no value", self.name),
                Some(format!("write {} alone, without a colon", self.name)),
            )),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'n>>(self, seed: S) -> Result<S::Value, Fail> {
        self.content(|value| seed.deserialize(value))
    }

    fn tuple_variant<V: Visitor<'n>>(self, len: usize, visitor: V) -> Result<V::Value, Fail> {
        self.content(|value| value.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'n>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fail> {
        self.content(|value| value.deserialize_struct("", fields, visitor))
    }
}

// === one or many ====================================================================================================

/// One value or a list of them: `protocol: bolt` or `protocol: [bolt, dubbo]`. One value has to be a scalar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = Vec<T>;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("one value or a list")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
                Ok(vec![T::deserialize(text.into_deserializer())?])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(items)
            }
        }

        deserializer.deserialize_str(Either(PhantomData)).map(Self)
    }
}

impl<T: Serialize> Serialize for OneOrMany<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &*self.0 {
            [one] => one.serialize(serializer),
            many => many.serialize(serializer),
        }
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}
