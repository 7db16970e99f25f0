//! Sums of money: prices are added as they are and the sum is rounded to cents once.

use crate::order::Item;

/// The sum of the items' prices in euros, rounded to cents.
#[must_use]
pub fn sum(items: &[Item]) -> f64 {
    let exact: f64 = items.iter().map(|item| item.price).sum();
    // An empty sum of floats is -0.0.
    (exact * 100.0).round().abs() / 100.0
}

/// As it stands in mails: `€ 12.50`.
#[must_use]
pub fn text(euros: f64) -> String {
    format!("€ {euros:.2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn given(prices: &[f64], expected: &str) {
        let item = |price: &f64| Item { product_id: "p".into(), name: "P".into(), price: *price };
        let items: Vec<Item> = prices.iter().map(item).collect();
        assert_eq!(text(sum(&items)), expected);
    }

    #[test]
    fn sums_have_two_decimals_and_are_rounded_once() {
        given(&[], "€ 0.00");
        given(&[12.5], "€ 12.50");
        given(&[0.1, 0.2], "€ 0.30");
        given(&[0.333, 0.333, 0.333], "€ 1.00");
        given(&[1e9, 0.01], "€ 1000000000.01");
        given(&[0.1; 1000], "€ 100.00");
    }
}
