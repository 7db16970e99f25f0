//! An entity's state as its writer's JSON: the fields in the writer's order, each as the writer's own
//! text. Never builds a tree of it, which would sort the fields and change their numbers.

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;

/// The fields of a JSON object in their order.
#[derive(Debug)]
pub(crate) struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Fields<'a> {
    /// The fields of this text, which must be an object.
    pub(crate) fn of(text: &'a str) -> serde_json::Result<Self> {
        serde_json::from_str(text)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| *value)
    }
}

/// A value as the cache shows it: a text without quotes, nothing for null, JSON for the rest.
pub(crate) fn plain(value: &RawValue) -> Option<Cow<'_, str>> {
    let json = value.get();
    match json.as_bytes().first() {
        Some(b'n') => None,
        Some(b'"') if !json.contains('\\') => Some(Cow::Borrowed(&json[1..json.len() - 1])),
        Some(b'"') => serde_json::from_str(json).ok().map(Cow::Owned),
        _ => Some(Cow::Borrowed(json)),
    }
}

/// The elements of an array as the cache shows them, null as an empty text; `None` when it is no array.
pub(crate) fn items(value: &RawValue) -> Option<Vec<Cow<'_, str>>> {
    let items: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
    Some(items.into_iter().map(|item| plain(item).unwrap_or_default()).collect())
}

/// A field's name; borrowed where it holds no escape.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::with_capacity(8);
                while let Some((Name(name), value)) = map.next_entry()? {
                    // A name that comes twice means its last value, as in any JSON reader.
                    match fields.iter_mut().find(|(n, _)| *n == name) {
                        Some(field) => field.1 = value,
                        None => fields.push((name, value)),
                    }
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_writers_order_and_text() {
        let text = r#"{"z":"a","a":1.50,"n":null,"m":{"z":1,"a":2},"q":"a\"b","z":"last"}"#;
        let fields = Fields::of(text).unwrap();
        let shown: Vec<_> = fields.iter().map(|(n, v)| (n, plain(v).map(Cow::into_owned))).collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            shown,
            [
                ("z", some("last")),
                ("a", some("1.50")),
                ("n", None),
                ("m", some(r#"{"z":1,"a":2}"#)),
                ("q", some("a\"b"))
            ]
        );
        assert_eq!(fields.get("a").map(RawValue::get), Some("1.50"));
        assert!(fields.get("b").is_none());
    }

    #[test]
    fn what_is_no_object_is_refused_and_lists_are_arrays() {
        for text in ["[]", "3", "null", "\"a\"", "{", "{\"a\":}"] {
            assert!(Fields::of(text).is_err(), "{text}");
        }
        let fields = Fields::of(r#"{"a":["x",1,null],"b":3}"#).unwrap();
        assert_eq!(items(fields.get("a").unwrap()).unwrap(), ["x", "1", ""]);
        assert!(items(fields.get("b").unwrap()).is_none());
    }
}
