//! JSON as it is taken from an application: one value, in which no name stands twice.
//!
//! Of two members of one name, readers differ in which they believe; whoever wrote such a text means nothing that could be
//! trusted. Depth is bounded by the parser, size by whoever read the text.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// Reads a text; the error is for whoever sent it.
pub(super) fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let strict: Strict = serde_json::from_slice(text).map_err(|error| format!("no good JSON: {error}"))?;
    T::deserialize(strict.0).map_err(|error| error.to_string())
}

/// A value, all of whose objects have each name once.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some((name, Strict(value))) = members.next_entry::<String, Strict>()? {
            if all.contains_key(&name) {
                return Err(A::Error::custom(format_args!("{name:?} stands twice in one object")));
            }
            all.insert(name, value);
        }
        Ok(Value::Object(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_twice_is_refused_at_every_depth() {
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"x":{"a":1,"b":2,"a":3}}"#,
            r#"[{"a":1},{"a":1,"\u0061":2}]"#,
            r#"{"a":1} {"a":2}"#,
            r#"{"a":1"#,
            "",
            "a",
            "\u{0}",
        ] {
            assert!(read::<Value>(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(read::<Value>(b"\xff").is_err());
        assert!(read::<Value>("[".repeat(100_000).as_bytes()).is_err(), "there is an end to depth");
    }

    #[test]
    fn everything_else_is_read_as_it_stands() {
        let text = r#"{"a":[1,-2,0.5,"x\n",true,null],"b":{"a":{}}}"#;
        assert_eq!(read::<Value>(text.as_bytes()).unwrap().to_string(), text);
    }
}
