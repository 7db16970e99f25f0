//! Amounts of CPU, memory and storage as Kubernetes writes them (`20m`, `1.5`, `1Gi`).
//!
//! The API server rewrites them ("1000m" becomes "1"), so comparing what was applied with what is there needs
//! their value, not their letters. Values are exact: no floating point anywhere.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

/// What Kubernetes accepts as a quantity that is not negative.
const PATTERN: &str = r"^\+?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?[0-9]+))?$";

/// An amount of CPU, memory or storage as Kubernetes writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Quantity(String);

/// The text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a quantity such as 20m, 1.5, 64Mi or 1Gi")]
pub struct InvalidQuantity(pub String);

impl Quantity {
    pub(crate) fn literal(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text as the user wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The value in billionths.
    pub fn nanos(&self) -> Result<i128, InvalidQuantity> {
        parse_nanos(&self.0).ok_or_else(|| InvalidQuantity(self.0.clone()))
    }
}

/// Whether two texts are the same quantity.
pub(crate) fn same_quantity(left: &str, right: &str) -> bool {
    parse_nanos(left).is_some_and(|value| parse_nanos(right) == Some(value))
}

/// The value in billionths; rounded up, as Kubernetes does, where it is finer. `None` when the text is not a
/// quantity or does not fit.
fn parse_nanos(text: &str) -> Option<i128> {
    let unsigned = text.strip_prefix('+').unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let decimals = i32::try_from(fraction.len()).ok()?;
    let (binary, exponent) = scale(suffix)?;
    let scaled = digits.checked_mul(1_i128.checked_shl(binary)?)?;
    let shift = exponent + 9 - decimals;
    let power = 10_i128.checked_pow(shift.unsigned_abs())?;
    if shift >= 0 {
        scaled.checked_mul(power)
    } else {
        scaled.checked_add(power - 1).map(|value| value / power)
    }
}

/// The suffix as a power of two and a power of ten.
fn scale(suffix: &str) -> Option<(u32, i32)> {
    Some(match suffix {
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "" => (0, 0),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        other => (0, other.strip_prefix(['e', 'E'])?.parse::<i8>().ok()?.into()),
    })
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// `cpu: 1` is as common as `cpu: "1"`.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Whole(i64),
        }
        Ok(Self(match Written::deserialize(deserializer)? {
            Written::Text(text) => text,
            Written::Whole(number) => number.to_string(),
        }))
    }
}

impl JsonSchema for Quantity {
    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": PATTERN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_has_the_value_kubernetes_gives_it() {
        for (text, nanos) in [
            ("0", 0),
            ("1", 1_000_000_000),
            ("20m", 20_000_000),
            ("0.5", 500_000_000),
            (".5", 500_000_000),
            ("1.", 1_000_000_000),
            ("+2", 2_000_000_000),
            ("1n", 1),
            ("0.1n", 1),
            ("1e3", 1_000_000_000_000),
            ("1Ki", 1_024_000_000_000),
            ("1.5Gi", 1_610_612_736_000_000_000),
            ("1E", 1_000_000_000_000_000_000_000_000_000),
        ] {
            assert_eq!(Quantity::literal(text).nanos(), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_quantity_is_refused_with_its_text() {
        for text in ["", ".", "1.2.3", "m", "1Qi", "one", "-1", "1 Gi"] {
            assert_eq!(Quantity::literal(text).nanos(), Err(InvalidQuantity(text.to_owned())));
        }
    }

    #[test]
    fn quantities_are_compared_by_value_because_the_api_server_rewrites_them() {
        assert!(same_quantity("1000m", "1"));
        assert!(same_quantity("1024Mi", "1Gi"));
        assert!(!same_quantity("1G", "1Gi"));
        assert!(!same_quantity("yes", "yes"));
    }

    #[test]
    fn a_whole_number_without_quotes_is_a_quantity() {
        let quantity: Quantity = serde_json::from_value(serde_json::json!(2)).unwrap();
        assert_eq!(quantity.as_str(), "2");
    }
}
