//! `off` in the place of a map: what a default, or the build itself, would do there is not done.
//!
//! A field that takes the word names [`or_off`] or [`optional_or_off`] as its reader and [`OrOff`] as its schema. The word
//! becomes a value that means "not at all" where it is read, so that nothing behind this knows of it. The map itself is
//! read by its own struct, which is still asked for as a struct: mistakes in it are told as they are everywhere.

use std::{borrow::Cow, cell::Cell, fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Unexpected, Visitor};

const WORD: &str = "off";

/// What can be switched off.
pub trait Off: Sized {
    /// The value that does nothing; `None`: there is nothing at all then.
    fn off() -> Option<Self>;
}

/// Reads a map or `off`.
pub fn or_off<'de, D: Deserializer<'de>, T: Off + Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(read(from)?.unwrap_or_default())
}

/// Reads a map, `off`, or nothing.
pub fn optional_or_off<'de, D: Deserializer<'de>, T: Off + Deserialize<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    struct Optional<T>(PhantomData<T>);

    impl<'de, T: Off + Deserialize<'de>> Visitor<'de> for Optional<T> {
        type Value = Option<T>;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("a map or `off`")
        }

        fn visit_none<E: de::Error>(self) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_unit<E: de::Error>(self) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Option<T>, D::Error> {
            read(from)
        }
    }

    from.deserialize_option(Optional(PhantomData))
}

fn read<'de, D: Deserializer<'de>, T: Off + Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    let off = Cell::new(false);
    match T::deserialize(Either { inner: from, off: &off }) {
        // Whoever made the value could only fail on the word.
        Err(_) if off.get() => Ok(T::off()),
        read => read.map(Some),
    }
}

/// A deserializer whose struct may also be the word.
struct Either<'c, D> {
    inner: D,
    off: &'c Cell<bool>,
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Either<'_, D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_struct(name, fields, MapOrWord { visitor, off: self.off })
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct MapOrWord<'c, V> {
    visitor: V,
    off: &'c Cell<bool>,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for MapOrWord<'_, V> {
    type Value = V::Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a map or `off`")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(map)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<V::Value, E> {
        self.off.set(text == WORD);
        Err(E::invalid_type(Unexpected::Str(text), &self))
    }
}

/// The schema of a map that may also be `off`.
pub enum OrOff<T> {
    /// Never made.
    #[doc(hidden)]
    Never(std::convert::Infallible, PhantomData<T>),
}

impl<T: JsonSchema> JsonSchema for OrOff<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("OrOff_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut map = T::json_schema(generator);
        // What it must have may be said by a default.
        map.remove("required");
        json_schema!({ "anyOf": [map, { "type": "string", "const": WORD }] })
    }
}
