//! A value of whatever type serde asks for, made of nothing.
//!
//! It stands in for a value that is missing or wrong, so that the rest of its struct can be looked at and all mistakes
//! are found at once. What is made of it is thrown away; it must never reach a conf that is used.

use serde::de::value::{MapDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, VariantAccess, Visitor};

use super::decode::Fail;

/// Texts tried one after the other, so that one of them suits whatever type reads itself from text.
const BLANKS: [&str; BLANKS_MAX] = ["x", "127.0.0.1:1", "1s", "1MiB", "1/s", "/", "1"];
/// How many blanks are worth trying.
pub(super) const BLANKS_MAX: usize = 7;
/// Blanks within blanks, for types that hold themselves.
const DEPTH_MAX: usize = 32;

/// Methods of a deserializer that all do the same.
macro_rules! forward {
    ($to:ident: $($method:ident)*) => {
        $(fn $method<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fail> {
            self.$to(visitor)
        })*
    };
}

pub(super) use forward;

/// The blank of number `n`.
#[derive(Clone, Copy)]
pub(super) struct Blank {
    n: usize,
    depth: usize,
}

impl Blank {
    pub(super) fn new(n: usize) -> Self {
        Self { n, depth: 0 }
    }

    fn deeper(self) -> Result<Self, Fail> {
        if self.depth < DEPTH_MAX { Ok(Self { depth: self.depth + 1, ..self }) } else { Err(Fail::Noted) }
    }

    #[expect(clippy::unused_self, reason = "called as a deserializer's method")]
    fn one<'n, V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_u64(1)
    }

    #[expect(clippy::unused_self, reason = "called as a deserializer's method")]
    fn empty_seq<'n, V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_seq(SeqDeserializer::<_, Fail>::new(std::iter::empty::<u8>()))
    }
}

impl<'n> Deserializer<'n> for Blank {
    type Error = Fail;

    forward!(one: deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128);
    forward!(one: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128);
    forward!(one: deserialize_f32 deserialize_f64);
    forward!(empty_seq: deserialize_seq);

    fn deserialize_any<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_str(BLANKS[self.n % BLANKS.len()])
    }

    fn deserialize_bool<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_bool(false)
    }

    fn deserialize_option<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_none()
    }

    fn deserialize_unit<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'n>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'n>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fail> {
        visitor.visit_newtype_struct(self.deeper()?)
    }

    fn deserialize_tuple<V: Visitor<'n>>(self, len: usize, visitor: V) -> Result<V::Value, Fail> {
        let items = vec![self.deeper()?; len.min(64)];
        visitor.visit_seq(SeqDeserializer::new(items.into_iter()))
    }

    fn deserialize_tuple_struct<V: Visitor<'n>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Fail> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'n>>(self, visitor: V) -> Result<V::Value, Fail> {
        visitor.visit_map(MapDeserializer::<_, Fail>::new(std::iter::empty::<(u8, u8)>()))
    }

    fn deserialize_struct<V: Visitor<'n>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fail> {
        let inner = self.deeper()?;
        visitor.visit_map(MapDeserializer::new(fields.iter().map(|field| (*field, inner))))
    }

    fn deserialize_enum<V: Visitor<'n>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fail> {
        let name = *variants.get(self.n % variants.len().max(1)).ok_or(Fail::Noted)?;
        visitor.visit_enum(BlankChoice { name, content: self.deeper()? })
    }

    serde::forward_to_deserialize_any! { <V: Visitor<'n>> char str string bytes byte_buf identifier ignored_any }
}

impl IntoDeserializer<'_, Fail> for Blank {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

struct BlankChoice {
    name: &'static str,
    content: Blank,
}

impl<'n> EnumAccess<'n> for BlankChoice {
    type Error = Fail;
    type Variant = Blank;

    fn variant_seed<S: DeserializeSeed<'n>>(self, seed: S) -> Result<(S::Value, Blank), Fail> {
        let name: StrDeserializer<'_, Fail> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self.content))
    }
}

impl<'n> VariantAccess<'n> for Blank {
    type Error = Fail;

    fn unit_variant(self) -> Result<(), Fail> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'n>>(self, seed: S) -> Result<S::Value, Fail> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'n>>(self, len: usize, visitor: V) -> Result<V::Value, Fail> {
        self.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'n>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fail> {
        self.deserialize_struct("", fields, visitor)
    }
}
