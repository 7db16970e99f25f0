//! The state that an event carries: JSON, kept as the text that was written. It is checked when the event is read and
//! becomes a tree when somebody looks into it; most handlers take a type of their own out of it and need none.
//! Never changes what was written.

use serde::de::{DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::fmt;
use std::ops::Deref;
use std::sync::OnceLock;

/// The JSON of an event's state. It is used as the [`serde_json::Value`] that it holds.
#[derive(Clone)]
pub struct Body {
    text: Box<str>,
    /// The same, once somebody has looked into it.
    tree: OnceLock<Value>,
}

impl Body {
    /// Takes a text that is JSON, and says which text stands as `id` in it.
    pub(crate) fn checked(text: String) -> Result<(Self, Option<String>), serde_json::Error> {
        let mut json = serde_json::Deserializer::from_str(&text);
        let id = Outermost.deserialize(&mut json)?;
        json.end()?;
        Ok((Self { text: text.into(), tree: OnceLock::new() }, id))
    }

    /// Stands for a state that is not held in memory.
    pub(crate) fn left_out() -> Self {
        Self { text: "null".into(), tree: OnceLock::new() }
    }

    /// The JSON as it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The JSON as a tree.
    #[must_use]
    pub fn value(&self) -> &Value {
        self.tree.get_or_init(|| self.parsed())
    }

    /// The tree by itself.
    #[must_use]
    pub fn into_value(mut self) -> Value {
        self.tree.take().unwrap_or_else(|| self.parsed())
    }

    fn parsed(&self) -> Value {
        // It was found to be JSON when it was taken.
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// A type of the caller's, taken out of the text without a tree between.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_str(&self.text)
    }
}

impl Deref for Body {
    type Target = Value;

    fn deref(&self) -> &Value {
        self.value()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value().fmt(f)
    }
}

impl Serialize for Body {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

/// Walks over everything as the tree's own reading does, so that what passes here becomes a tree there. Of an
/// object it answers the text that stands as `id`; of two the last.
struct Outermost;

impl<'de> DeserializeSeed<'de> for Outermost {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<String>, D::Error> {
        json.deserialize_any(self)
    }
}

macro_rules! passes_over {
    ($($visit:ident($of:ty))*) => {
        $(fn $visit<E>(self, _: $of) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        })*
    };
}

macro_rules! passes_over_all_but_texts_and_objects {
    () => {
        passes_over! { visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
            while items.next_element::<Walked>()?.is_some() {}
            Ok(Self::Value::default())
        }

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }
    };
}

impl<'de> Visitor<'de> for Outermost {
    type Value = Option<String>;

    passes_over_all_but_texts_and_objects! {}
    passes_over! { visit_str(&str) }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Option<String>, A::Error> {
        let mut id = None;
        while let Some(IsId(is_id)) = fields.next_key()? {
            if is_id {
                id = fields.next_value::<Text>()?.0;
            } else {
                fields.next_value::<Walked>()?;
            }
        }
        Ok(id)
    }
}

/// Anything.
#[derive(Default)]
struct Walked;

impl<'de> Deserialize<'de> for Walked {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Walked {
    type Value = Self;

    passes_over_all_but_texts_and_objects! {}
    passes_over! { visit_str(&str) }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self, A::Error> {
        // A field's name is a text: there is nothing more to find in it.
        while fields.next_key::<IgnoredAny>()?.is_some() {
            fields.next_value::<Walked>()?;
        }
        Ok(Self)
    }
}

/// Is a field's name `id`?
struct IsId(bool);

impl<'de> Deserialize<'de> for IsId {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Name;

        impl Visitor<'_> for Name {
            type Value = IsId;

            fn visit_str<E>(self, name: &str) -> Result<IsId, E> {
                Ok(IsId(name == "id"))
            }

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }
        }

        json.deserialize_str(Name)
    }
}

/// A text, or anything else.
#[derive(Default)]
struct Text(Option<String>);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(Self(None))
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Self;

    passes_over_all_but_texts_and_objects! {}

    fn visit_str<E>(self, text: &str) -> Result<Self, E> {
        Ok(Self(Some(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self, A::Error> {
        Walked.visit_map(fields).map(|_| Self(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn checked(text: &str) -> Result<(Body, Option<String>), serde_json::Error> {
        Body::checked(text.to_owned())
    }

    #[test]
    fn the_text_stays_as_it_was_written_and_the_tree_is_what_it_says() {
        let text = "{ \"z\": 1.0, \"id\": \"7\", \"a\": [null, true] }";
        let (body, id) = checked(text).unwrap();
        assert_eq!((body.text(), id.as_deref()), (text, Some("7")));
        assert_eq!(body["a"], json!([null, true]));
        assert_eq!(body.to_string(), serde_json::from_str::<Value>(text).unwrap().to_string());
        assert_eq!(body.clone().into_value(), json!({ "z": 1.0, "id": "7", "a": [null, true] }));
    }

    #[test]
    fn the_id_is_the_outermost_text_of_that_name_and_of_two_the_last() {
        for (text, id) in [
            (r#"{"id":"7"}"#, Some("7")),
            (r#"{"id":"7","id":"8"}"#, Some("8")),
            (r#"{"id":"7","id":8}"#, None),
            (r#"{"id":{"id":"7"}}"#, None),
            (r#"{"a":{"id":"7"}}"#, None),
            (r#"{"\u0069d":"\u0037"}"#, Some("7")),
            (r#"[{"id":"7"}]"#, None),
            (r#""id""#, None),
            ("7", None),
        ] {
            assert_eq!(checked(text).unwrap().1.as_deref(), id, "{text}");
        }
    }

    #[test]
    fn what_would_become_no_tree_is_refused() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        let texts = [
            "",
            "{",
            "{} {}",
            "nul",
            "1e999",
            "{\"a\":1e999}",
            "[\"\\ud800\"]",
            "{\"\\ud800\":1}",
            "\"\t\"",
            &deep,
        ];
        for text in texts {
            assert!(serde_json::from_str::<Value>(text).is_err() && checked(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn it_takes_what_the_tree_takes_and_nothing_else(text in "[\\[\\]{}\":,0-9eid\\\\u.+ -]{0,24}") {
            prop_assert_eq!(checked(&text).is_ok(), serde_json::from_str::<Value>(&text).is_ok(), "{}", text);
        }
    }
}
