//! What Redis' own client answers. The commands are the article's; the answers are read as JSON.

use crate::classic::ReceivedMail;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Where redis-cli runs: on this machine, or in the pod of a shop's Redis.
pub trait Cli {
    /// The text that `redis-cli` with these arguments writes.
    fn run(&self, args: &[&str]) -> impl Future<Output = Result<String>>;

    /// The answer to a command.
    fn json(&self, command: &[&str]) -> impl Future<Output = Result<Value>> {
        async move {
            let args = [&["--json"], command].concat();
            let text = self.run(&args).await.with_context(|| command.join(" "))?;
            let answer: Value =
                serde_json::from_str(&text).with_context(|| format!("{}: {text}", command.join(" ")))?;
            if let Some(error) = answer.get("error").and_then(Value::as_str) {
                bail!("{}: {error}", command.join(" "));
            }
            Ok(answer)
        }
    }

    /// The entities of all entries of a stream, oldest first.
    fn entities(&self, stream: &str) -> impl Future<Output = Result<Vec<Value>>> {
        async move {
            let answer = self.json(&["XRANGE", stream, "-", "+"]).await?;
            let entries = answer.as_array().with_context(|| format!("XRANGE {stream}: {answer}"))?;
            entries.iter().map(entity).collect()
        }
    }

    /// The mails that were sent, in the order of their sending.
    fn sent_mails(&self) -> impl Future<Output = Result<Vec<ReceivedMail>>> {
        async move {
            let entities = self.entities("events:mail_sent").await?;
            entities.into_iter().map(|entity| serde_json::from_value(entity).context("a mail")).collect()
        }
    }
}

/// An entry is `[id, [field, value, …]]`; the entity is JSON in a field.
fn entity(entry: &Value) -> Result<Value> {
    let fields = entry[1].as_array().with_context(|| format!("no entry of a stream: {entry}"))?;
    ensure!(fields.first() == Some(&"event_id".into()), "the first field is no event_id: {entry}");
    let mut pairs = fields.chunks(2);
    let text = pairs.find(|pair| pair[0] == "entity").and_then(|pair| pair.get(1)?.as_str());
    let text = text.with_context(|| format!("an entry without an entity: {entry}"))?;
    serde_json::from_str(text).with_context(|| format!("an entity that is no JSON: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_entity_is_found_among_the_fields() {
        let entry = json!(["1-0", ["event_id", "e", "entity", "{\"id\":\"x\"}", "version", "1"]]);
        assert_eq!(entity(&entry).unwrap(), json!({"id": "x"}));
    }

    #[test]
    fn an_entry_without_an_entity_is_an_error() {
        assert!(entity(&json!(["1-0", ["event_id", "e"]])).is_err());
    }
}
