//! The passwords of Redis' users, pure: which there are, and what to do when new ones are asked for.
//!
//! Passwords come in editions. A Secret holds one edition, or two while a rotation is under way: both are then
//! valid in Redis, so services of the old and of the new edition run side by side. An edition never changes under
//! its name, so a pod that starts late finds the passwords its template names.
//!
//! | there are | asked for | services | then |
//! |---|---|---|---|
//! | none | | | the first edition is made; Redis starts with it |
//! | one | the same | | nothing |
//! | one | others | | a second edition is added; Redis rolls, then the services |
//! | two | | some on the old one | nothing: they roll |
//! | two | | all on the new one | the old one is removed; Redis rolls |
//!
//! It never writes, and never prints a password.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{PodTemplateSpec, Secret},
};

use super::{
    children::named,
    labels,
    plan::{self, Ownership},
    rollout::Rollout,
    validate::Owner,
};
use crate::{
    rights::{ADMIN, READER},
    service::Service,
};

/// On the Secret and on every pod that uses it: the edition.
pub const EDITION: &str = "ordershop.dev/redis-passwords";

/// On the Secret: what `spec.redis.passwordRotation` was when its newest edition was made.
pub const ROTATION: &str = "ordershop.dev/redis-password-rotation";

/// Passwords that are made together.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Edition {
    /// Its name, a few random letters.
    pub id: String,
    /// Per user.
    pub passwords: BTreeMap<String, String>,
}

impl fmt::Debug for Edition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Edition").field("id", &self.id).finish_non_exhaustive()
    }
}

/// All passwords that are valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passwords {
    /// What the newest edition was made for.
    pub rotation: String,
    /// What is used from now on.
    pub newest: Edition,
    /// What is valid until nobody uses it any more.
    pub old: Option<Edition>,
}

/// What to do about the passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// There are none yet.
    Begin,
    /// Nothing.
    Keep,
    /// Others are asked for.
    Add,
    /// Nobody uses the old ones any more.
    Remove,
}

/// `there`: what the newest edition was made for, and whether there is an old one. `settled`: whether all services
/// use the newest edition.
fn step(there: Option<(&str, bool)>, wanted: &str, settled: bool) -> Step {
    match there {
        None => Step::Begin,
        Some((_, true)) if settled => Step::Remove,
        Some((_, true)) => Step::Keep,
        Some((made_for, false)) if made_for == wanted => Step::Keep,
        Some(_) => Step::Add,
    }
}

/// All users of Redis.
pub fn users() -> impl Iterator<Item = &'static str> {
    services().map(Service::name).chain([ADMIN, READER])
}

fn services() -> impl Iterator<Item = Service> {
    Service::ALL.into_iter().filter(|service| service.uses_redis())
}

/// What the passwords are to be. `random`: gives 64 unpredictable letters, others at each call.
pub fn next(
    there: Option<Passwords>,
    wanted: &str,
    settled: bool,
    mut random: impl FnMut() -> String,
) -> Passwords {
    let mut passwords = there.unwrap_or_default();
    let known =
        (!passwords.newest.id.is_empty()).then_some((passwords.rotation.as_str(), passwords.old.is_some()));
    match step(known, wanted, settled) {
        Step::Keep => {}
        Step::Remove => passwords.old = None,
        step @ (Step::Begin | Step::Add) => {
            let id = random().chars().take(8).collect();
            let newest = Edition { id, passwords: BTreeMap::new() };
            let old = std::mem::replace(&mut passwords.newest, newest);
            passwords.old = (step == Step::Add).then_some(old);
            wanted.clone_into(&mut passwords.rotation);
        }
    }
    // A user that an older operator did not know, or whose password was removed by hand.
    for user in users() {
        passwords.newest.passwords.entry(user.to_owned()).or_insert_with(&mut random);
    }
    passwords
}

/// The passwords in a Secret that belongs to this shop.
#[must_use]
pub fn read(secret: &Secret, owner: &Owner) -> Option<Passwords> {
    if plan::ownership(&secret.metadata, owner) == Ownership::Foreign {
        return None;
    }
    let annotation = |name| secret.metadata.annotations.as_ref()?.get(name).cloned();
    let mut editions: BTreeMap<String, Edition> = BTreeMap::new();
    for (key, value) in secret.data.iter().flatten() {
        let Some((user, id)) = key.rsplit_once('.') else { continue };
        let Some(password) = password(user, &String::from_utf8_lossy(&value.0)) else { continue };
        let edition = editions.entry(id.to_owned()).or_default();
        id.clone_into(&mut edition.id);
        edition.passwords.insert(user.to_owned(), password);
    }
    let newest = editions.remove(&annotation(EDITION)?)?;
    Some(Passwords {
        rotation: annotation(ROTATION).unwrap_or_default(),
        newest,
        old: editions.into_values().next(),
    })
}

/// The key of a user's URL, or of the reader's password.
#[must_use]
pub fn key(user: &str, edition: &str) -> String {
    format!("{user}.{edition}")
}

/// What stands there: the URL with which the user connects; for the reader, who is on the same machine, the
/// password alone.
#[must_use]
pub fn value(user: &str, password: &str, host: &str) -> String {
    if user == READER { password.to_owned() } else { format!("redis://{user}:{password}@{host}") }
}

fn password(user: &str, value: &str) -> Option<String> {
    let password = if user == READER {
        value
    } else {
        value.strip_prefix("redis://")?.strip_prefix(user)?.strip_prefix(':')?.split_once('@')?.0
    };
    // Others could not stand in a URL: somebody wrote it.
    password.bytes().all(|byte| byte.is_ascii_alphanumeric()).then(|| password.to_owned())
}

/// Marks a pod that uses the newest edition.
pub fn mark(template: &mut PodTemplateSpec, passwords: &Passwords) {
    let metadata = template.metadata.get_or_insert_default();
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(EDITION.to_owned(), passwords.newest.id.clone());
}

/// Whether every service that talks to Redis runs with this edition, all of its pods.
#[must_use]
pub fn settled(owner: &Owner, edition: &str, deployments: &[Deployment]) -> bool {
    services().all(|service| {
        let name = labels::object_name(&owner.name, service.name());
        named(deployments, &name).is_some_and(|deployment| {
            let template = deployment.spec.as_ref().and_then(|spec| spec.template.metadata.as_ref());
            let annotations = template.and_then(|metadata| metadata.annotations.as_ref());
            let found = annotations.and_then(|annotations| annotations.get(EDITION));
            found.is_some_and(|found| found == edition) && Rollout::from(deployment).is_complete()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts instead of being random.
    fn counting() -> impl FnMut() -> String {
        let mut count = 0;
        move || {
            count += 1;
            format!("{count:08}{}", "f".repeat(56))
        }
    }

    fn first() -> Passwords {
        next(None, "", false, counting())
    }

    #[test]
    fn a_rotation_adds_an_edition_and_removes_the_old_one_when_nobody_uses_it() {
        for (case, there, wanted, settled, expected) in [
            ("no Secret", None, "", false, Step::Begin),
            ("no Secret, and pods of a lost one", None, "", true, Step::Begin),
            ("as it is", Some(("", false)), "", true, Step::Keep),
            ("as it is while pods roll", Some(("", false)), "", false, Step::Keep),
            ("asked for", Some(("", false)), "1", true, Step::Add),
            ("asked for while pods roll", Some(("", false)), "1", false, Step::Add),
            ("under way", Some(("1", true)), "1", false, Step::Keep),
            ("asked for again while under way", Some(("1", true)), "2", false, Step::Keep),
            ("done", Some(("1", true)), "1", true, Step::Remove),
            ("done, and asked for again", Some(("1", true)), "2", true, Step::Remove),
            ("taken back", Some(("1", false)), "", true, Step::Add),
        ] {
            assert_eq!(step(there, wanted, settled), expected, "{case}");
        }
    }

    #[test]
    fn every_user_has_a_password_of_its_own() {
        let Passwords { newest, old, .. } = first();
        assert_eq!(newest.passwords.len(), 10);
        let different: std::collections::BTreeSet<_> = newest.passwords.values().collect();
        assert_eq!(different.len(), 10);
        assert_eq!(old, None);
    }

    #[test]
    fn what_is_there_stays_to_the_letter_until_it_is_rotated() {
        let none = || panic!("nothing new is made");
        assert_eq!(next(Some(first()), "", true, none), first());

        let both = next(Some(first()), "2", true, counting());
        assert_eq!(both.old, Some(first().newest));
        assert_eq!(next(Some(both.clone()), "3", false, none), both, "one rotation after the other");
        let done = next(Some(both.clone()), "2", true, none);
        assert_eq!(done, Passwords { old: None, ..both });
    }

    #[test]
    fn a_user_that_was_not_known_yet_gets_a_password_and_the_others_keep_theirs() {
        let mut there = first();
        let lost = there.newest.passwords.remove("order").unwrap();
        let now = next(Some(there.clone()), "", true, || "n".repeat(64));
        assert_eq!(now.newest.id, there.newest.id);
        assert_eq!(now.newest.passwords["crm"], there.newest.passwords["crm"]);
        assert_ne!(now.newest.passwords["order"], lost);
    }

    #[test]
    fn no_password_is_printed() {
        let text = format!("{:?}", first());
        assert!(
            first().newest.passwords.values().all(|password| !text.contains(password.as_str())),
            "{text}"
        );
    }
}
