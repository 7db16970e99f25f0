//! An identity of its own for each component, without a token: nothing in a shop talks to Kubernetes.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::{components, metadata};
use crate::controller::validate::ValidShop;

/// One per component.
pub(in crate::controller) fn service_accounts(shop: &ValidShop) -> Vec<ServiceAccount> {
    components(shop)
        .map(|component| ServiceAccount {
            metadata: metadata(&shop.owner, component),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        })
        .collect()
}
