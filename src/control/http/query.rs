//! Query strings as types: a name that comes several times is a list, an unknown one is an error.

use serde::de::value::{Error, MapDeserializer, SeqDeserializer};
use serde::de::{Deserialize, Deserializer, Error as _, IntoDeserializer, Visitor};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

/// Reads a query string as a `T`, whose fields are texts, numbers, booleans, options and lists of those.
pub(super) fn parse<'de, T: Deserialize<'de>>(query: &str) -> Result<T, Error> {
    let mut parts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        parts.entry(decode(name)?).or_default().push(decode(value)?);
    }
    T::deserialize(MapDeserializer::new(parts.into_iter().map(|(name, values)| (name, Values(values)))))
}

/// A part of a query string as it was meant.
fn decode(part: &str) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                let both = (digit(rest.next()), digit(rest.next()));
                let (Some(high), Some(low)) = both else {
                    return Err(Error::custom("has a wrong % sequence"));
                };
                // Two hexadecimal digits are at most 255.
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| Error::custom("is not UTF-8"))
}

/// What one name was given.
struct Values(Vec<String>);

impl Values {
    fn one(mut self) -> Result<String, Error> {
        match (self.0.pop(), self.0.is_empty()) {
            (Some(value), true) => Ok(value),
            _ => Err(Error::custom("is there more than once")),
        }
    }

    fn parsed<T: FromStr<Err: Display>>(self, expected: &str) -> Result<T, Error> {
        let text = self.one()?;
        text.parse().map_err(|_| Error::custom(format!("is not {expected}")))
    }
}

impl IntoDeserializer<'_> for Values {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $expected:literal,)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.$visit(self.parsed($expected)?)
        })*
    };
}

impl<'de> Deserializer<'de> for Values {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_string(self.one()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_seq(SeqDeserializer::new(self.0.into_iter().map(|value| Values(vec![value]))))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_enum(self.one()?.into_deserializer())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    numbers! {
        deserialize_bool visit_bool "true or false",
        deserialize_u16 visit_u16 "a number",
        deserialize_u32 visit_u32 "a number",
        deserialize_u64 visit_u64 "a number",
        deserialize_i64 visit_i64 "a number",
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct
        identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nanorelay_actors::report::DeliveryState;

    #[derive(Debug, PartialEq, Eq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Query {
        #[serde(default)]
        state: Vec<DeliveryState>,
        q: Option<String>,
        #[serde(default)]
        blocked: bool,
        minutes: Option<u32>,
    }

    #[test]
    fn names_that_come_several_times_are_lists() {
        let query: Query = parse("state=dead&q=a%2Bb+c%C3%A9&state=held&blocked=true&minutes=5").unwrap();
        let expected = Query {
            state: vec![DeliveryState::Dead, DeliveryState::Held],
            q: Some("a+b cé".to_owned()),
            blocked: true,
            minutes: Some(5),
        };
        assert_eq!(query, expected);
        let nothing = Query { state: Vec::new(), q: None, blocked: false, minutes: None };
        assert_eq!(parse::<Query>("").unwrap(), nothing);
    }

    #[test]
    fn what_is_unknown_or_malformed_is_refused_in_words() {
        for (query, words) in [
            ("colour=red", "unknown field `colour`"),
            ("state=angry", "unknown variant `angry`"),
            ("q=a&q=b", "is there more than once"),
            ("minutes=-1", "is not a number"),
            ("minutes=", "is not a number"),
            ("blocked=yes", "is not true or false"),
            ("q=%zz", "has a wrong % sequence"),
            ("q=%f", "has a wrong % sequence"),
            ("q=%ff", "is not UTF-8"),
        ] {
            let error = parse::<Query>(query).unwrap_err().to_string();
            assert!(error.contains(words), "{query}: {error}");
        }
    }
}
