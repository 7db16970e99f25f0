//! The table of the chart's values in its README: written from the comments in `values.yaml`, so that a value is
//! described in one place, and one without a description does not pass.

use crate::tools;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::path::PathBuf;

const CHART: &str = "charts/ordershop-operator";
/// What stands before and after the table.
const BEGIN: &str = "<!-- Written by `cargo xtask generate` from values.yaml. -->\n";
const END: &str = "<!-- The end of what is written. -->\n";

/// Writes the table again.
pub(super) fn write() -> Result<PathBuf> {
    let file = tools::clone().join(CHART).join("README.md");
    std::fs::write(&file, current()?).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// The table is what the comments say today.
pub(super) fn check() -> Result<()> {
    let is = read("README.md")?;
    ensure!(is == current()?, "the chart's README is old: run `cargo xtask generate`");
    Ok(())
}

fn current() -> Result<String> {
    with_table(&read("README.md")?, &table(&rows(&read("values.yaml")?)?))
}

fn read(name: &str) -> Result<String> {
    let file = tools::root().join(CHART).join(name);
    std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
}

/// The document with this table between the marks.
fn with_table(document: &str, table: &str) -> Result<String> {
    let marked = document.split_once(BEGIN).and_then(|(before, rest)| {
        let (_, after) = rest.split_once(END)?;
        Some(format!("{before}{BEGIN}{table}{END}{after}"))
    });
    marked.context("the chart's README has no marks for the table of values")
}

/// A value that has a description.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    path: String,
    default: String,
    text: String,
}

fn table(rows: &[Row]) -> String {
    let line = |row: &Row| {
        let Row { path, default, text } = row;
        format!("| `{path}` | `{default}` | {} |\n", text.replace('|', "\\|"))
    };
    let head = "| value | default | what it does |\n|---|---|---|\n".to_owned();
    head + &rows.iter().map(line).collect::<String>()
}

/// A key of the file with the comment above it.
struct Key {
    path: String,
    comment: Option<String>,
}

/// Every described value. What is described as a whole is one row; a group whose members are described by
/// themselves is none. A value that nothing describes is an error.
fn rows(text: &str) -> Result<Vec<Row>> {
    let defaults: Value = serde_norway::from_str(text).context("values.yaml")?;
    let keys = keys(text);
    let below = |key: &Key, above: &Key| key.path.starts_with(&format!("{}.", above.path));
    let is_row = |key: &Key| {
        key.comment.is_some() && !keys.iter().any(|other| other.comment.is_some() && below(other, key))
    };
    let is_leaf = |key: &Key| !keys.iter().any(|other| below(other, key));
    let (described, rest): (Vec<&Key>, Vec<&Key>) = keys.iter().partition(|key| is_row(key));
    let bare = rest
        .iter()
        .find(|key| is_leaf(key) && !described.iter().any(|above| below(key, above)))
        .map(|key| key.path.as_str());
    if let Some(path) = bare {
        bail!("values.yaml: {path} has no description");
    }
    let row = |key: &Key| {
        let pointer = format!("/{}", key.path.replace('.', "/"));
        let default = defaults.pointer(&pointer).with_context(|| format!("values.yaml: {}", key.path))?;
        let text = key.comment.clone().unwrap_or_default();
        Ok(Row { path: key.path.clone(), default: default.to_string(), text })
    };
    described.into_iter().map(row).collect()
}

/// The keys of maps in the order of the file, with the comment that stands directly above each.
fn keys(text: &str) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut above: Vec<(usize, &str)> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in text.lines() {
        let content = line.trim_start();
        if let Some(words) = content.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        let said = std::mem::take(&mut comment);
        let is_name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric());
        let Some((name, _)) = content.split_once(':').filter(|(name, _)| is_name(name)) else { continue };
        let indent = line.len() - content.len();
        above.retain(|(outer, _)| *outer < indent);
        above.push((indent, name));
        let path = above.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(".");
        keys.push(Key { path, comment: (!said.is_empty()).then(|| said.join(" ")) });
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(path: &str, default: &str, text: &str) -> Row {
        Row { path: path.to_owned(), default: default.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_value_is_described_by_the_comment_above_it() {
        let text = "# About the file.\n\n# A group.\nimage:\n  # Which\n  # one.\n  tag: \"\"\n\n# Both.\nresources:\n  \
                    requests:\n    cpu: 10m\n";
        let expected = [
            row("image.tag", "\"\"", "Which one."),
            row("resources", r#"{"requests":{"cpu":"10m"}}"#, "Both."),
        ];
        assert_eq!(rows(text).unwrap(), expected);
    }

    #[test]
    fn a_value_without_a_description_is_refused_by_its_name() {
        let error = rows("# Said.\na: 1\nb:\n  # Said.\n  c: 1\n  d: 1\n").unwrap_err();
        assert_eq!(error.to_string(), "values.yaml: b.d has no description");
    }

    #[test]
    fn only_what_stands_between_the_marks_is_written() {
        let document = format!("before\n{BEGIN}old\n{END}after\n");
        assert_eq!(with_table(&document, "new\n").unwrap(), format!("before\n{BEGIN}new\n{END}after\n"));
        assert!(with_table("no marks", "new\n").is_err());
    }

    /// Every object of the schema is closed and knows the very keys that `values.yaml` has.
    fn compare(path: &str, schema: &Value, definitions: &Value, values: &Value) {
        let schema = match schema["$ref"].as_str() {
            Some(name) => &definitions[name.trim_start_matches("#/definitions/")],
            None => schema,
        };
        assert!(schema["type"].is_string() || schema["enum"].is_array(), "{path}: any type is allowed");
        let Some(properties) = schema["properties"].as_object() else {
            let typed = schema["type"] != "object" || schema["additionalProperties"].is_object();
            assert!(typed || path == ".global", "{path}: any key is allowed");
            return;
        };
        assert_eq!(schema["additionalProperties"], false, "{path}: a key that is misspelt is not noticed");
        let Some(values) = values.as_object() else { return };
        for name in values.keys() {
            assert!(properties.contains_key(name), "{path}.{name} is not in the schema");
        }
        for (name, property) in properties.iter().filter(|_| !values.is_empty()) {
            let inner = format!("{path}.{name}");
            let value = values.get(name);
            assert!(value.is_some() || inner == ".global", "{inner} is not in values.yaml");
            compare(&inner, property, definitions, value.unwrap_or(&Value::Null));
        }
    }

    #[test]
    fn the_schema_knows_every_value_and_nothing_else() {
        let schema: Value = serde_json::from_str(&read("values.schema.json").unwrap()).unwrap();
        let values: Value = serde_norway::from_str(&read("values.yaml").unwrap()).unwrap();
        compare("", &schema, &schema["definitions"], &values);
    }
}
