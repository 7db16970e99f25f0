//! Where the operator looks for OrderShops: in the whole cluster, or in some namespaces only.
//!
//! In some namespaces it asks for nothing beyond them, so that Roles there are all it needs. What a
//! reconciliation does within a namespace is the same either way.

use std::{collections::BTreeSet, fmt};

use kube::{Api, Client, Resource, core::NamespaceResourceScope};

/// Where the operator looks for OrderShops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In the whole cluster.
    Cluster,
    /// In these namespaces only, at least one.
    Namespaces(BTreeSet<String>),
}

impl Scope {
    /// These namespaces, or the whole cluster when none is named. Empty names count for nothing, since that is
    /// what an environment variable without a value gives.
    #[must_use]
    pub fn of(namespaces: &[String]) -> Self {
        let named: BTreeSet<_> =
            namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty()).collect();
        if named.is_empty() {
            return Self::Cluster;
        }
        Self::Namespaces(named.into_iter().map(str::to_owned).collect())
    }

    /// The namespace of the Lease when nobody says otherwise: the first of those watched, so that two operators
    /// that were given the same namespaces exclude each other wherever they run. `None`: the operator's own.
    #[must_use]
    pub fn lease_namespace(&self) -> Option<&str> {
        match self {
            Self::Cluster => None,
            Self::Namespaces(names) => names.first().map(String::as_str),
        }
    }

    /// What is watched by itself: the cluster, or each namespace.
    #[must_use]
    pub fn parts(&self) -> Vec<Part> {
        match self {
            Self::Cluster => vec![Part(None)],
            Self::Namespaces(names) => names.iter().cloned().map(Some).map(Part).collect(),
        }
    }
}

/// The whole cluster, or one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part(Option<String>);

impl Part {
    /// The API of a kind in this part.
    #[must_use]
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.0 {
            None => Api::all(client.clone()),
            Some(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("of the whole cluster"),
            Some(namespace) => write!(f, "of namespace {namespace}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_name_it_is_the_whole_cluster_and_a_name_counts_once() {
        let of = |names: &[&str]| Scope::of(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        for nothing in [&[][..], &[""], &[" ", ""]] {
            assert_eq!(of(nothing), Scope::Cluster);
        }
        let two = of(&["b", " a", "b", ""]);
        assert_eq!(two, Scope::Namespaces(BTreeSet::from(["a".to_owned(), "b".to_owned()])));
        assert_eq!(two.lease_namespace(), Some("a"));
        assert_eq!(two.parts(), [Part(Some("a".to_owned())), Part(Some("b".to_owned()))]);
        assert_eq!(Scope::Cluster.lease_namespace(), None);
    }
}
