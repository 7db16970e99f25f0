//! Request bodies, already JSON, to drafts. Every field of every item is checked before anything is
//! answered, so that nothing is half done and all mistakes are told at once.

use crate::draft::Draft;
use crate::invalid::{FieldError, Invalid};
use serde_json::{Map, Value};

/// The most items that one request may create: they are appended in one atomic step, which holds
/// up everybody else for as long.
pub const MAX_ITEMS: usize = 1_000;

/// A body with one draft or a list of them.
///
/// ```
/// use domain::{CustomerDraft, parse_list};
/// let body = serde_json::json!({"name": "Ann", "email": "ann@example.com"});
/// assert_eq!(parse_list::<CustomerDraft>(&body)?[0].name, "Ann");
/// # Ok::<(), domain::Invalid>(())
/// ```
pub fn parse_list<D: Draft>(body: &Value) -> Result<Vec<D>, Invalid> {
    match body {
        Value::Array(items) if items.len() > MAX_ITEMS => {
            let error = FieldError {
                item: None,
                field: None,
                problem: format!("has {} items", items.len()),
                expected: format!("at most {MAX_ITEMS} items"),
            };
            Err(Invalid::unprocessable(vec![error]))
        }
        Value::Array(items) => {
            let mut errors = Vec::new();
            let drafts: Vec<D> = items
                .iter()
                .enumerate()
                .filter_map(|(index, item)| read(item, Some(index), &mut errors))
                .collect();
            if errors.is_empty() { Ok(drafts) } else { Err(Invalid::unprocessable(errors)) }
        }
        item @ Value::Object(_) => one(item).map(|draft| vec![draft]),
        other => Err(Invalid::malformed(format!("is {}", kind(other)), "an object or a list of objects")),
    }
}

/// A body with exactly one draft.
pub fn parse_one<D: Draft>(body: &Value) -> Result<D, Invalid> {
    match body {
        item @ Value::Object(_) => one(item),
        other => Err(Invalid::malformed(format!("is {}", kind(other)), "an object")),
    }
}

fn one<D: Draft>(item: &Value) -> Result<D, Invalid> {
    let mut errors = Vec::new();
    read(item, None, &mut errors).ok_or_else(|| Invalid::unprocessable(errors))
}

fn read<D: Draft>(item: &Value, index: Option<usize>, errors: &mut Vec<FieldError>) -> Option<D> {
    if let Value::Object(object) = item {
        D::read(&mut Fields { object, index, errors })
    } else {
        errors.push(FieldError {
            item: index,
            field: None,
            problem: format!("is {}", kind(item)),
            expected: "an object".to_owned(),
        });
        None
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The fields of one item; collects what is wrong with them.
#[derive(Debug)]
pub struct Fields<'a> {
    object: &'a Map<String, Value>,
    index: Option<usize>,
    errors: &'a mut Vec<FieldError>,
}

/// What is wrong with a value, in words that follow the field's name.
type Wrong = String;

impl Fields<'_> {
    /// A text of 1 to `max` characters, without control characters.
    pub(crate) fn text(&mut self, name: &str, max: usize) -> Option<String> {
        self.required(name, &format!("a text of 1 to {max} characters"), |value| text(value, max))
    }

    /// The id of an entity.
    pub(crate) fn id(&mut self, name: &str) -> Option<String> {
        self.required(name, "an id", id)
    }

    /// Ids of entities, with repeats, at least one.
    pub(crate) fn ids(&mut self, name: &str, max: usize) -> Option<Vec<String>> {
        self.required(name, &format!("a list of 1 to {max} ids"), |value| match value {
            Value::Array(items) if items.is_empty() => Err("is empty".to_owned()),
            Value::Array(items) if items.len() > max => Err(format!("has {} entries", items.len())),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(at, item)| id(item).map_err(|wrong| format!("[{at}] {wrong}")))
                .collect(),
            other => Err(format!("is {}", kind(other))),
        })
    }

    /// A whole number from 0 to `max`.
    pub(crate) fn count(&mut self, name: &str, max: u64) -> Option<u64> {
        self.required(name, &format!("an integer from 0 to {max}"), |value| match value {
            Value::Number(number) => {
                number.as_u64().filter(|count| *count <= max).ok_or_else(|| format!("is {number}"))
            }
            other => Err(format!("is {}", kind(other))),
        })
    }

    /// A number from 0 to `max`.
    pub(crate) fn number(&mut self, name: &str, max: f64) -> Option<f64> {
        self.required(name, &format!("a number from 0 to {max}"), |value| number(value, max))
    }

    /// As [`Self::number`], but it may be absent: `Some(None)`.
    #[expect(clippy::option_option, reason = "the outer option says whether the field was right")]
    pub(crate) fn optional_number(&mut self, name: &str, max: f64) -> Option<Option<f64>> {
        if self.object.contains_key(name) { self.number(name, max).map(Some) } else { Some(None) }
    }

    fn required<T>(
        &mut self,
        name: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Result<T, Wrong>,
    ) -> Option<T> {
        let result = self.object.get(name).map_or_else(|| Err("is missing".to_owned()), read);
        result
            .map_err(|problem| {
                self.errors.push(FieldError {
                    item: self.index,
                    field: Some(name.to_owned()),
                    problem,
                    expected: expected.to_owned(),
                });
            })
            .ok()
    }
}

fn text(value: &Value, max: usize) -> Result<String, Wrong> {
    match value {
        Value::String(text) if text.trim().is_empty() => Err("is empty".to_owned()),
        Value::String(text) if text.chars().count() > max => {
            Err(format!("has {} characters", text.chars().count()))
        }
        // A line break in a name or an address could forge a mail's header.
        Value::String(text) if text.chars().any(char::is_control) => {
            Err("has a control character".to_owned())
        }
        Value::String(text) => Ok(text.clone()),
        other => Err(format!("is {}", kind(other))),
    }
}

fn id(value: &Value) -> Result<String, Wrong> {
    match value {
        Value::String(text) if text.is_empty() => Err("is empty".to_owned()),
        Value::String(text) if crate::is_id(text) => Ok(text.clone()),
        Value::String(_) => Err("is no id".to_owned()),
        other => Err(format!("is {}", kind(other))),
    }
}

fn number(value: &Value, max: f64) -> Result<f64, Wrong> {
    match value {
        Value::Number(number) => number
            .as_f64()
            .filter(|number| (0.0..=max).contains(number))
            // Minus zero is in the range and would print as "-0".
            .map(f64::abs)
            .ok_or_else(|| format!("is {number}")),
        other => Err(format!("is {}", kind(other))),
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
