//! The Secret of Redis: its users with their rights, and for each service the URL with which it connects.
//!
//! Redis reads hashes only; a password stands in the URL of its user and nowhere else.

use std::{collections::BTreeMap, fmt::Write};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt;

use super::{metadata, redis::PORT};
use crate::{
    controller::{
        hash, labels,
        passwords::{self, EDITION, Edition, Passwords, ROTATION},
        validate::ValidShop,
    },
    rights::{self, ADMIN, NOBODY},
    service::Service,
};

/// The key of the ACL file.
pub(super) const ACL: &str = "acl";

/// The Secret of a Redis of the shop's own.
pub(in crate::controller) fn secrets(shop: &ValidShop) -> Vec<Secret> {
    if shop.redis_url.is_some() {
        return Vec::new();
    }
    let Passwords { rotation, newest, old } = &shop.passwords;
    let host = format!("{}:{PORT}", labels::object_name(&shop.owner.name, labels::REDIS));
    let url = |user: &str, password: &str| ByteString(passwords::value(user, password, &host).into_bytes());
    let entries = |edition: &Edition| -> BTreeMap<String, ByteString> {
        let one =
            |(user, password): (&String, &String)| (passwords::key(user, &edition.id), url(user, password));
        edition.passwords.iter().map(one).collect()
    };
    let mut data = entries(newest);
    data.extend(old.iter().flat_map(entries));
    data.insert(ACL.to_owned(), ByteString(acl(&shop.passwords).into_bytes()));
    // People find theirs without knowing the edition.
    data.extend(newest.passwords.get(ADMIN).map(|password| (ADMIN.to_owned(), url(ADMIN, password))));

    let mut secret =
        Secret { metadata: metadata(&shop.owner, labels::REDIS), data: Some(data), ..Secret::default() };
    secret.annotations_mut().insert(EDITION.to_owned(), newest.id.clone());
    secret.annotations_mut().insert(ROTATION.to_owned(), rotation.clone());
    vec![secret]
}

/// The users of Redis, one per line: each of its passwords is valid.
pub(super) fn acl(passwords: &Passwords) -> String {
    let of_services =
        Service::ALL.into_iter().filter_map(|service| Some((service.name(), rights::of_service(service)?)));
    let of_people = rights::of_people().map(|(user, rules)| (user, rules.to_owned()));
    of_services.chain(of_people).fold(format!("{NOBODY}\n"), |mut file, (user, rules)| {
        let editions = [Some(&passwords.newest), passwords.old.as_ref()];
        let hashes: Vec<_> = editions
            .into_iter()
            .flatten()
            .filter_map(|edition| edition.passwords.get(user))
            .map(|password| format!("#{}", hash::whole(password.as_bytes())))
            .collect();
        // Writing to a String cannot fail.
        let _ = writeln!(file, "user {user} reset on {} {rules}", hashes.join(" "));
        file
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::{
        build::tests::{defaults, shop},
        sources::Sources,
        validate::validate,
    };

    /// The Secret of a shop whose passwords are `0`, `1`, … of 64 letters.
    fn secret(there: Option<Passwords>, rotation: &str) -> (Passwords, BTreeMap<String, String>) {
        let mut valid = validate(&shop("{}"), &defaults(), &Sources::default()).unwrap();
        let mut count = if there.is_some() { 100 } else { 0 };
        valid.passwords = passwords::next(there, rotation, false, || {
            count += 1;
            format!("{count:064}").chars().rev().collect()
        });
        let data = secrets(&valid).remove(0).data.unwrap().into_iter();
        let text = |value: ByteString| String::from_utf8(value.0).unwrap();
        (valid.passwords, data.map(|(key, value)| (key, text(value))).collect())
    }

    #[test]
    fn each_service_has_a_url_and_redis_sees_hashes_only() {
        let (passwords, data) = secret(None, "");
        let Edition { id, passwords: of } = &passwords.newest;
        assert_eq!(data[&format!("crm.{id}")], format!("redis://crm:{}@shop-redis:6379", of["crm"]));
        assert_eq!(data["admin"], format!("redis://admin:{}@shop-redis:6379", of["admin"]));
        assert!(!data.contains_key(&format!("gateway.{id}")));
        assert_eq!(data[ACL].lines().count(), 11);
        assert!(
            data[ACL].starts_with("user default reset ") && !NOBODY.contains(" on "),
            "nobody is `default`"
        );
        for (user, password) in of {
            assert!(!data[ACL].contains(password.as_str()), "{user}");
            assert!(data[ACL].contains(&hash::whole(password.as_bytes())), "{user}");
        }
    }

    #[test]
    fn during_a_rotation_both_editions_are_there() {
        let (first, before) = secret(None, "");
        let (both, data) = secret(Some(first), "1");
        assert_eq!(both.old.as_ref().unwrap().passwords.len(), 10);
        for (key, value) in before.iter().filter(|(key, _)| key.contains('.')) {
            assert_eq!(&data[key], value, "a pod of the old edition may still start");
        }
        assert_ne!(data[ADMIN], before[ADMIN], "people get the newest one");
    }

    #[test]
    fn what_was_written_is_read_again() {
        let (first, _) = secret(None, "");
        let mut valid = validate(&shop("{}"), &defaults(), &Sources::default()).unwrap();
        valid.passwords = passwords::next(Some(first), "1", false, || "x".repeat(64));
        let read = passwords::read(&secrets(&valid)[0], &valid.owner);
        assert_eq!(read, Some(valid.passwords));
    }
}
