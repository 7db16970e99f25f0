//! What must not leave the cluster is taken out of everything that a report holds. Pure.
//!
//! Three nets, each for what the others let through: every value of the namespace's Secrets, wherever it stands and as
//! base64 too; whatever stands before an `@` in a URL; environment variables whose names say that they are secret.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;
use std::collections::BTreeSet;

const HIDDEN: &str = "***";
/// Shorter ones (`yes`, `5432`) would be found in every other word.
const SHORTEST: usize = 6;
/// Of a value of many lines, a certificate for one, each line is a value, too, if it is as long as this.
const SHORTEST_LINE: usize = 20;
const NAMES: [&str; 6] = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIAL", "APIKEY"];

/// What is taken out.
pub(super) struct Redaction {
    /// The longest first: one that holds another goes as a whole.
    known: Vec<String>,
}

impl Redaction {
    /// Knows the values of these Secrets.
    pub(super) fn of(secrets: &[Secret]) -> Self {
        let mut known = BTreeSet::new();
        for (_, value) in secrets.iter().flat_map(|secret| secret.data.iter().flatten()) {
            add(value, &mut known);
        }
        let mut known: Vec<String> = known.into_iter().collect();
        known.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self { known }
    }

    /// The text without them.
    pub(super) fn text(&self, text: &str) -> String {
        let text = self.known.iter().fold(text.to_owned(), |text, value| text.replace(value, HIDDEN));
        without_users(&text)
    }

    /// An object of Kubernetes without them, and without what repeats it.
    pub(super) fn object(&self, mut object: Value) -> Value {
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
            if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
            }
        }
        self.walk(&mut object);
        object
    }

    fn walk(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.walk(item)),
            Value::Object(fields) => {
                let named_secret = fields.get("name").and_then(Value::as_str).is_some_and(is_secret);
                for (key, value) in fields.iter_mut() {
                    // `{name: X_TOKEN, value: …}` of an environment, `X_TOKEN: …` of a ConfigMap.
                    if value.is_string() && (is_secret(key) || (named_secret && key == "value")) {
                        *value = Value::from(HIDDEN);
                    } else {
                        self.walk(value);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

fn add(value: &ByteString, known: &mut BTreeSet<String>) {
    if value.0.len() < SHORTEST {
        return;
    }
    // As Kubernetes writes it, in quotes.
    if let Ok(Value::String(encoded)) = serde_json::to_value(value) {
        known.insert(encoded);
    }
    let Ok(text) = std::str::from_utf8(&value.0) else { return };
    known.insert(text.trim().to_owned());
    known.extend(text.lines().map(str::trim).filter(|line| line.len() >= SHORTEST_LINE).map(str::to_owned));
    if let Ok(url) = url::Url::parse(text.trim())
        && let Some(password) = url.password().filter(|password| password.len() >= SHORTEST)
    {
        known.insert(password.to_owned());
    }
    known.retain(|value| value.len() >= SHORTEST);
}

/// Whether the name of an environment variable says that its value is secret. Fields of Kubernetes (`secretName`)
/// are not written in capitals.
fn is_secret(name: &str) -> bool {
    name.chars().all(|c| !c.is_ascii_lowercase())
        && NAMES.iter().any(|word| name.replace(['_', '-'], "").contains(word))
}

/// `redis://user:password@host` becomes `redis://***@host`, wherever it stands.
fn without_users(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        safe.push_str(before);
        let ends = |c: char| {
            c.is_whitespace() || matches!(c, '/' | '?' | '#' | '"' | '\'' | '`' | '<' | '>' | ',' | ')')
        };
        let authority = &after[..after.find(ends).unwrap_or(after.len())];
        if let Some(end) = authority.rfind('@') {
            safe.push_str(HIDDEN);
            rest = &after[end..];
        } else {
            rest = after;
        }
    }
    safe.push_str(rest);
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(key: &str, value: &str) -> Secret {
        let data = [(key.to_owned(), ByteString(value.as_bytes().to_vec()))];
        Secret { data: Some(data.into()), ..Secret::default() }
    }

    #[test]
    fn a_secrets_value_is_nowhere_left_as_text_base64_or_part_of_a_url() {
        let redaction =
            Redaction::of(&[secret("admin", "redis://admin:hunter22@shop-redis:6379"), secret("b", "short")]);
        let log = "connecting as hunter22 to redis://admin:hunter22@shop-redis:6379, \
                   cmVkaXM6Ly9hZG1pbjpodW50ZXIyMkBzaG9wLXJlZGlzOjYzNzk=, short";
        let safe = redaction.text(log);
        assert!(!safe.contains("hunter22") && !safe.contains("cmVkaXM6Ly9"), "{safe}");
        assert!(safe.ends_with("short"), "values that are words stay: {safe}");
    }

    #[test]
    fn every_line_of_a_long_value_is_known() {
        let redaction =
            Redaction::of(&[secret("key", "-----BEGIN-----\nMIIEvQIBADANBgkqhkiG9w0B\n-----END-----\n")]);
        assert_eq!(redaction.text("key MIIEvQIBADANBgkqhkiG9w0B"), "key ***");
    }

    #[test]
    fn a_user_in_a_url_is_hidden_without_knowing_it() {
        let redaction = Redaction::of(&[]);
        for (text, safe) in [
            ("redis://u:p@h:1/0 and http://h/a@b", "redis://***@h:1/0 and http://h/a@b"),
            ("\"smtp://u:p%40@mail:587\"", "\"smtp://***@mail:587\""),
            ("x://a:p@ss@host y", "x://***@host y"),
            ("nothing :// here", "nothing :// here"),
        ] {
            assert_eq!(redaction.text(text), safe);
        }
    }

    #[test]
    fn an_environment_is_judged_by_its_names_and_kubernetes_fields_stay() {
        let pod = json!({
            "metadata": {"name": "p", "managedFields": [1],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"}},
            "spec": {
                "env": [{"name": "API_TOKEN", "value": "abc"}, {"name": "LOG", "value": "info"}],
                "data": {"SMTP_PASSWORD": "x", "PORT": "1"},
                "volumes": [{"name": "users", "secret": {"secretName": "shop-redis"}}],
            },
        });
        let expected = json!({
            "metadata": {"name": "p", "annotations": {"a": "b"}},
            "spec": {
                "env": [{"name": "API_TOKEN", "value": "***"}, {"name": "LOG", "value": "info"}],
                "data": {"SMTP_PASSWORD": "***", "PORT": "1"},
                "volumes": [{"name": "users", "secret": {"secretName": "shop-redis"}}],
            },
        });
        assert_eq!(Redaction::of(&[]).object(pod), expected);
    }
}
