//! The labels, annotations and names by which the operator knows its own objects.

use std::collections::BTreeMap;

use crate::service::Service;

/// The field manager of everything the operator applies.
pub const FIELD_MANAGER: &str = "ordershop-operator";

/// The field manager of the status: a concern of its own.
pub const STATUS_MANAGER: &str = "ordershop-operator-status";

/// On every object: a hash of what was applied. It tells a field that is no longer wanted from one that another
/// manager added.
pub const APPLIED_HASH: &str = "ordershop.dev/applied-hash";

/// On every workload: a hash of its pod template, which tells whether a change rolls pods.
pub const TEMPLATE_HASH: &str = "ordershop.dev/template-hash";

/// On every pod template: a hash of the configuration and Secrets it uses, so that their change rolls the pods.
pub const CONFIG_HASH: &str = "ordershop.dev/config-hash";

/// The component that is not one of the nine services.
pub const REDIS: &str = "redis";

const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "ordershop-operator");
/// The label that names the component.
pub const COMPONENT: &str = "app.kubernetes.io/component";

const INSTANCE: &str = "app.kubernetes.io/instance";

/// The name of a component's objects.
#[must_use]
pub fn object_name(shop: &str, component: &str) -> String {
    format!("{shop}-{component}")
}

/// The component that an object's name belongs to.
#[must_use]
pub fn component<'a>(shop: &str, object: &'a str) -> &'a str {
    object.strip_prefix(shop).and_then(|rest| rest.strip_prefix('-')).unwrap_or(object)
}

/// The component that an object with these labels belongs to.
#[must_use]
pub fn component_of(labels: &BTreeMap<String, String>) -> Option<&str> {
    labels.get(COMPONENT).map(String::as_str)
}

/// All labels of a component's objects.
#[must_use]
pub fn labels(shop: &str, component: &str) -> BTreeMap<String, String> {
    let mut labels = selector(shop, component);
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    labels.insert("app.kubernetes.io/part-of".to_owned(), "ordershop".to_owned());
    labels
}

/// The labels that select a component's pods. They never change: a Deployment's selector is immutable.
#[must_use]
pub fn selector(shop: &str, component: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (COMPONENT.to_owned(), component.to_owned()),
        (INSTANCE.to_owned(), shop.to_owned()),
        ("app.kubernetes.io/name".to_owned(), "ordershop".to_owned()),
    ])
}

/// The selector of the crm pods as text, for the scale subresource.
#[must_use]
pub fn crm_selector(shop: &str) -> String {
    let labels = selector(shop, Service::Crm.name());
    labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// Selects everything that the operator made, of any shop.
#[must_use]
pub fn managed() -> String {
    format!("{}={}", MANAGED_BY.0, MANAGED_BY.1)
}

/// Selects everything that the operator made for one shop.
#[must_use]
pub fn managed_for(shop: &str) -> String {
    format!("{},{INSTANCE}={shop}", managed())
}

/// Selects what the operator made for some components of one shop.
#[must_use]
pub fn components_of(shop: &str, components: &[&str]) -> String {
    format!("{},{COMPONENT} in ({})", managed_for(shop), components.join(","))
}

/// The name of the shop that an object was made for.
#[must_use]
pub fn instance(labels: &BTreeMap<String, String>) -> Option<&str> {
    labels.get(INSTANCE).map(String::as_str)
}

/// Whether these are the labels of an object that the operator made for this shop.
#[must_use]
pub fn are_managed_for(labels: &BTreeMap<String, String>, shop: &str) -> bool {
    let has = |key, value| labels.get(key).is_some_and(|found| found == value);
    has(MANAGED_BY.0, MANAGED_BY.1) && has(INSTANCE, shop)
}
