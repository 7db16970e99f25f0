//! Kinds of entities on the command line. Programs declare theirs in their sources; what compares or
//! writes caches must be told the same.

use event_store::{InvalidName, Kind};

/// `account`, `account:lists=tags:indexes=owner,branch`, or `account/mandate` for a kind whose events
/// stand in the streams of another.
pub(crate) fn parse(text: &str) -> Result<Kind, String> {
    let wrong =
        || format!("{text:?} is no kind: account, account/mandate, account:lists=tags:indexes=owner,branch");
    let because = |e: InvalidName| format!("{}; {e}", wrong());
    let mut parts = text.split(':');
    let name = parts.next().unwrap_or_default();
    let mut kind = match name.split_once('/') {
        Some((family, name)) => Kind::try_within(family, name),
        None => Kind::try_new(name),
    }
    .map_err(because)?;
    for part in parts {
        let (what, fields) = part.split_once('=').ok_or_else(wrong)?;
        let fields: Vec<&str> = fields.split(',').collect();
        kind = match what {
            "lists" => kind.try_lists(&fields),
            "indexes" => kind.try_indexes(&fields),
            _ => return Err(wrong()),
        }
        .map_err(because)?;
    }
    Ok(kind)
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
        for wrong in [
            "",
            "a b",
            "account:tags",
            "account:lists=",
            "account:keys=a",
            "/a",
            "a:b:c",
            "a_b",
            "a:lists=entity",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
