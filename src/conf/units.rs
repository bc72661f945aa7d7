//! Values that carry a unit: durations (`250ms`), sizes (`8MiB`), rates (`1000/s`), shares (`50%`).
//!
//! A bare number is refused, because half of its readers would guess the wrong unit. Arithmetic is in exact integers:
//! nothing is rounded and nothing overflows. A message may end in a line `help: …`, which the report shows as advice.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;
use std::time;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};

use super::report::quote;

const NANOS_PER_SEC: u128 = 1_000_000_000;
/// Ten years: whoever writes more means "never", and timers need a bound.
const DURATION_SECS_MAX: u128 = 10 * 365 * 86_400;
/// More digits than any exact value within the bounds needs; keeps 128-bit products far from their end.
const DIGITS_MAX: usize = 20;
const FRACTION_DIGITS_MAX: usize = 9;

/// Unit and nanoseconds in it.
const DURATION_UNITS: [(&str, u128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", NANOS_PER_SEC),
    ("m", 60 * NANOS_PER_SEC),
    ("h", 3_600 * NANOS_PER_SEC),
    ("d", 86_400 * NANOS_PER_SEC),
];

/// Unit and bytes in it.
const SIZE_UNITS: [(&str, u128); 10] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Unit and seconds in it.
const RATE_UNITS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3_600)];

const DURATION_HELP: &str = "write a number with a unit, as in 250ms, 3s, 5m or 1h";
const SIZE_HELP: &str = "write a number with a unit, as in 512B, 64KiB, 8MiB or 1GiB";
const PERCENT_HELP: &str = "write a share in whole percent, as in 20% or 50%";
const RATE_HELP: &str = "write a count and a period, as in 1000/s, 30/m or 10/h";

/// A length of time, at most ten years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(time::Duration);

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

/// A number of events in a period; `count >= 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    count: u32,
    period_secs: u32,
}

/// A share of a whole, in whole percent; `0..=100`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Percent(u32);

/// Why a text is no such value: the message and, behind `\nhelp: `, what to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitError(String);

impl Duration {
    /// A duration made in code, as the defaults are; one beyond the bound is cut to it.
    pub fn new(value: time::Duration) -> Self {
        Self(value.min(time::Duration::from_secs(DURATION_SECS_MAX as u64)))
    }

    /// The value.
    pub fn get(self) -> time::Duration {
        self.0
    }
}

impl Size {
    /// A size made in code.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl Rate {
    /// Events in each period.
    pub const fn count(self) -> u32 {
        self.count
    }

    /// The period: a second, a minute or an hour.
    pub const fn period(self) -> time::Duration {
        time::Duration::from_secs(self.period_secs as u64)
    }
}

impl Percent {
    /// A share made in code; more than all is all.
    pub const fn new(percent: u32) -> Self {
        Self(if percent > 100 { 100 } else { percent })
    }

    /// The share in percent.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl FromStr for Percent {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refuse = |why: &str| UnitError::new("a share", text, why, PERCENT_HELP);
        let number = Number::split(text).ok_or_else(|| refuse(""))?;
        match (number.unit, number.times(1)) {
            ("%", Some(percent)) if percent <= 100 => Ok(Self(percent as u32)),
            ("%", Some(_)) => Err(refuse("more than all")),
            ("%", None) => Err(refuse("not a whole number")),
            ("", _) => Err(refuse("without a unit")),
            _ => Err(refuse("unknown unit")),
        }
    }
}

impl Display for Percent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}%", self.0)
    }
}

impl FromStr for Duration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refuse = |why: &str| UnitError::new("a duration", text, why, DURATION_HELP);
        let number = Number::split(text).ok_or_else(|| refuse(""))?;
        if number.unit.is_empty() {
            return Err(number.unitless("a duration", &["ms", "s"], DURATION_HELP));
        }
        let unit = lookup(&DURATION_UNITS, number.unit).ok_or_else(|| refuse("unknown unit"))?;
        let nanos = number.times(unit).ok_or_else(|| refuse("finer than a nanosecond"))?;
        if nanos > DURATION_SECS_MAX * NANOS_PER_SEC {
            return Err(refuse("longer than ten years"));
        }
        let (secs, rest) = (nanos / NANOS_PER_SEC, nanos % NANOS_PER_SEC);
        Ok(Self(time::Duration::new(secs as u64, rest as u32)))
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refuse = |why: &str| UnitError::new("a size", text, why, SIZE_HELP);
        let number = Number::split(text).ok_or_else(|| refuse(""))?;
        if number.unit.is_empty() {
            return Err(number.unitless("a size", &["B", "KiB"], SIZE_HELP));
        }
        let unit = lookup(&SIZE_UNITS, number.unit).ok_or_else(|| refuse("unknown unit"))?;
        let bytes = number.times(unit).ok_or_else(|| refuse("not a whole number of bytes"))?;
        u64::try_from(bytes).map(Self).map_err(|_| refuse("too large"))
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let refuse = |why: &str| UnitError::new("a rate", text, why, RATE_HELP);
        let number = Number::split(text).ok_or_else(|| refuse(""))?;
        if number.unit.is_empty() {
            return Err(number.unitless("a rate", &["/s", "/m"], RATE_HELP));
        }
        let unit = number.unit.strip_prefix('/').ok_or_else(|| refuse(""))?;
        let period = lookup(&RATE_UNITS, unit).ok_or_else(|| refuse("unknown period"))?;
        let Some(count) = number.times(1) else {
            // The same rate over a longer period may be whole: 0.5/s is 30/m.
            let whole =
                RATE_UNITS.iter().filter(|(_, longer)| *longer > period).find_map(|(name, longer)| {
                    Some(format!("write {}/{name}", number.times(u128::from(longer / period))?))
                });
            let help = whole.unwrap_or_else(|| RATE_HELP.to_owned());
            return Err(UnitError::new("a rate", text, "the count must be a whole number", &help));
        };
        match u32::try_from(count) {
            Ok(0) => Err(refuse("the count must be at least 1")),
            Ok(count) => Ok(Self { count, period_secs: period as u32 }),
            Err(_) => Err(refuse("too large")),
        }
    }
}

impl Display for Duration {
    /// The largest unit that holds it exactly.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let exact =
            DURATION_UNITS.iter().rev().find(|(name, unit)| *name != "d" && nanos.is_multiple_of(*unit));
        match exact {
            Some((name, unit)) if nanos > 0 => write!(out, "{}{name}", nanos / unit),
            _ => out.write_str("0s"),
        }
    }
}

impl Display for Size {
    /// The largest binary unit that holds it exactly.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = u128::from(self.0);
        let exact = SIZE_UNITS[1..5].iter().rev().find(|(_, unit)| bytes.is_multiple_of(*unit));
        match exact {
            Some((name, unit)) if bytes > 0 => write!(out, "{}{name}", bytes / unit),
            _ => write!(out, "{bytes}B"),
        }
    }
}

impl Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = u64::from(self.period_secs);
        let name = RATE_UNITS.iter().find(|(_, secs)| *secs == period).map_or("s", |(name, _)| name);
        write!(out, "{}/{name}", self.count)
    }
}

impl UnitError {
    fn new(what: &str, text: &str, why: &str, help: &str) -> Self {
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        Self(format!("expected {what}, found {}{why}\nhelp: {help}", quote(text)))
    }
}

impl Display for UnitError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for UnitError {}

/// `12.5` and what stands behind it, not rounded: `digits / 10^scale`.
struct Number<'a> {
    text: &'a str,
    digits: u128,
    scale: u32,
    unit: &'a str,
}

impl<'a> Number<'a> {
    fn split(text: &'a str) -> Option<Self> {
        let (number, unit) =
            text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let shape = !whole.is_empty() && !fraction.is_empty() && !fraction.contains('.');
        if !shape || whole.len() > DIGITS_MAX || fraction.len() > FRACTION_DIGITS_MAX {
            return None;
        }
        let scale = fraction.len() as u32;
        let digits = whole.parse::<u128>().ok()? * 10_u128.pow(scale) + fraction.parse::<u128>().ok()?;
        Some(Self { text: number, digits, scale, unit })
    }

    /// The number in units of one `unit`-th, when that is whole.
    fn times(&self, unit: u128) -> Option<u128> {
        let (product, divisor) = (self.digits.checked_mul(unit)?, 10_u128.pow(self.scale));
        (product % divisor == 0).then(|| product / divisor)
    }

    fn unitless(&self, what: &str, units: &[&str; 2], help: &str) -> UnitError {
        let [a, b] = units;
        let n = self.text;
        UnitError(format!(
            "expected {what}, found {} without a unit\nhelp: write {n}{a} or {n}{b}; {help}",
            quote(n)
        ))
    }
}

fn lookup<T: Copy>(units: &[(&str, T)], name: &str) -> Option<T> {
    units.iter().find(|(unit, _)| *unit == name).map(|(_, value)| *value)
}

/// Reads any of the four from text; the conf reader hands bare numbers over as text, too.
struct UnitVisitor<T>(&'static str, PhantomData<T>);

impl<T: FromStr<Err = UnitError>> Visitor<'_> for UnitVisitor<T> {
    type Value = T;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! text_value {
    ($type:ident, $expecting:literal, $pattern:literal, $example:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(UnitVisitor($expecting, PhantomData))
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                // A value from the environment is known only when the conf is read, so its place is allowed too.
                json_schema!({
                    "type": "string",
                    "description": concat!($expecting, ", for example ", $example),
                    "examples": [$example],
                    "pattern": concat!("^(", $pattern, "|.*\\$\\{.*)$"),
                })
            }
        }
    };
}

text_value!(Duration, "a duration", "[0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h|d)", "250ms");
text_value!(Size, "a size", "[0-9]+(\\.[0-9]+)?(B|[KMGT]iB|[kKMGT]B)", "8MiB");
text_value!(Percent, "a share", "(100|[0-9]{1,2})%", "50%");
text_value!(Rate, "a rate", "[0-9]+/[smh]", "1000/s");
