//! Kinds of entities on the command line. Programs declare theirs in their sources; what compares or
//! writes caches must be told the same.

use event_store::Kind;

/// `account`, `account:lists=tags:indexes=owner,branch`, or `account/mandate` for a kind whose events
/// stand in the streams of another.
pub(crate) fn parse(text: &str) -> Result<Kind, String> {
    let wrong =
        || format!("{text:?} is no kind: account, account/mandate, account:lists=tags:indexes=owner,branch");
    let mut parts = text.split(':');
    let name = parts.next().unwrap_or_default();
    let mut kind = match name.split_once('/') {
        Some((family, name)) => {
            Kind::within(named(family).ok_or_else(wrong)?, named(name).ok_or_else(wrong)?)
        }
        None => Kind::new(named(name).ok_or_else(wrong)?),
    };
    for part in parts {
        let (what, fields) = part.split_once('=').ok_or_else(wrong)?;
        let fields: Option<Vec<&'static str>> = fields.split(',').map(named).collect();
        let fields: &'static [&'static str] = fields.ok_or_else(wrong)?.leak();
        kind = match what {
            "lists" => kind.lists(fields),
            "indexes" => kind.indexes(fields),
            _ => return Err(wrong()),
        };
    }
    Ok(kind)
}

/// A name that lives as long as the program, as those in a program's sources do.
fn named(text: &str) -> Option<&'static str> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    (!text.is_empty() && text.chars().all(fits)).then(|| &*text.to_owned().leak())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_written_as_programs_declare_it() {
        assert_eq!(parse("account"), Ok(Kind::new("account")));
        assert_eq!(parse("account/mandate"), Ok(Kind::within("account", "mandate")));
        let whole = Kind::new("account").lists(&["tags"]).indexes(&["owner", "branch"]);
        assert_eq!(parse("account:lists=tags:indexes=owner,branch"), Ok(whole));
        for wrong in ["", "a b", "account:tags", "account:lists=", "account:keys=a", "/a", "a:b:c"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
