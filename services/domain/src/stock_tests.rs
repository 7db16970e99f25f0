use super::*;
use crate::order::tests::{content, order};
use proptest::prelude::*;

fn stock(id: &str, product: &str, amount: u64) -> Versioned<Inventory> {
    let value = Inventory { id: id.into(), product_id: product.into(), amount };
    Versioned { value, version: 3 }
}

fn wanted(order: &str, revision: u32, products: &[&str]) -> Wanted {
    let product_ids = products.iter().map(ToString::to_string).collect();
    Wanted { order_id: order.into(), revision, product_ids }
}

fn held(order: &str, revision: u32, lines: &[(&str, &str, u64)]) -> Versioned<Reservation> {
    let line = |(inventory, product, amount): &(&str, &str, u64)| Line {
        inventory_id: (*inventory).into(),
        product_id: (*product).into(),
        amount: *amount,
    };
    let value = Reservation {
        id: order.into(),
        order_id: order.into(),
        revision,
        lines: lines.iter().map(line).collect(),
        short: vec![],
        released: false,
    };
    Versioned { value, version: 5 }
}

fn amounts(plan: &Plan) -> Vec<(&str, u64)> {
    plan.inventories.iter().map(|stock| (stock.value.id.as_str(), stock.value.amount)).collect()
}

fn lines(plan: &Plan, at: usize) -> Vec<(&str, u64)> {
    let (reservation, ..) = &plan.reservations[at];
    reservation.lines.iter().map(|line| (line.inventory_id.as_str(), line.amount)).collect()
}

#[test]
fn an_order_takes_each_piece_and_touches_nothing_else() {
    let demand = Demand::Reserve(vec![wanted("o", 1, &["x", "y", "x"])]);
    let plan =
        decide(&demand, vec![stock("i", "x", 5), stock("j", "y", 1), stock("k", "z", 9)], &[]).unwrap();
    assert_eq!(amounts(&plan), [("i", 3), ("j", 0)]);
    assert_eq!(lines(&plan, 0), [("i", 2), ("j", 1)]);
    assert_eq!((plan.reservations[0].1, plan.reservations[0].2), (Verdict::Reserved, None));
    assert_eq!(plan.inventories[0].version, 3);
}

#[test]
fn an_order_spreads_over_several_inventories_of_a_product() {
    let demand = Demand::Reserve(vec![wanted("o", 1, &["x", "x", "x"])]);
    let plan =
        decide(&demand, vec![stock("b", "x", 2), stock("a", "x", 1), stock("c", "x", 2)], &[]).unwrap();
    assert_eq!(amounts(&plan), [("a", 0), ("b", 0)]);
}

#[test]
fn an_order_that_is_short_takes_nothing_and_says_what_is_missing() {
    let demand = Demand::Reserve(vec![wanted("o", 1, &["x", "y", "y", "q"])]);
    let plan = decide(&demand, vec![stock("i", "x", 5), stock("j", "y", 1)], &[]).unwrap();
    let (reservation, verdict, _) = &plan.reservations[0];
    assert_eq!((*verdict, plan.inventories.len(), reservation.lines.len()), (Verdict::Rejected, 0, 0));
    let short = |product: &str, wanted, available| Short { product_id: product.into(), wanted, available };
    assert_eq!(reservation.short, [short("q", 1, 0), short("y", 2, 1)]);
}

#[test]
fn orders_of_a_list_are_counted_together_and_take_nothing_when_the_sum_is_short() {
    let list = |last: &[&str]| Demand::Reserve(vec![wanted("a", 1, &["x", "x"]), wanted("b", 1, last)]);
    let plan = decide(&list(&["x", "x"]), vec![stock("i", "x", 3)], &[]).unwrap();
    assert!(plan.inventories.is_empty());
    for (reservation, verdict, _) in &plan.reservations {
        assert_eq!(*verdict, Verdict::Rejected);
        assert_eq!(reservation.short, [Short { product_id: "x".into(), wanted: 4, available: 3 }]);
        assert!(reservation.lines.is_empty());
    }
    let plan = decide(&list(&["x"]), vec![stock("i", "x", 3)], &[]).unwrap();
    assert_eq!(
        (amounts(&plan), lines(&plan, 0), lines(&plan, 1)),
        (vec![("i", 0)], vec![("i", 2)], vec![("i", 1)])
    );
}

#[test]
fn an_order_of_a_list_that_was_deleted_before_the_decision_is_left_out() {
    let mut gone = held("b", 1, &[]);
    gone.value.released = true;
    let demand = Demand::Reserve(vec![wanted("a", 1, &["x"]), wanted("b", 1, &["x"])]);
    let plan = decide(&demand, vec![stock("i", "x", 1)], &[gone]).unwrap();
    assert_eq!(plan.reservations.len(), 1);
    assert_eq!(lines(&plan, 0), [("i", 1)]);
}

#[test]
fn a_change_keeps_what_it_can_gives_back_what_it_must_and_takes_the_rest() {
    let before = held("o", 1, &[("i", "x", 2), ("j", "y", 1)]);
    let demand = Demand::Reserve(vec![wanted("o", 2, &["x", "z"])]);
    let inventories = vec![stock("i", "x", 0), stock("j", "y", 7), stock("k", "z", 1)];
    let plan = decide(&demand, inventories, &[before]).unwrap();
    assert_eq!(amounts(&plan), [("i", 1), ("j", 8), ("k", 0)]);
    assert_eq!(lines(&plan, 0), [("i", 1), ("k", 1)]);
    assert_eq!(plan.reservations[0].2, Some(5));
}

#[test]
fn a_change_to_the_same_takes_nothing_even_from_an_empty_shelf() {
    let demand = Demand::Reserve(vec![wanted("o", 2, &["x"])]);
    let plan = decide(&demand, vec![stock("i", "x", 0)], &[held("o", 1, &[("i", "x", 1)])]).unwrap();
    assert_eq!(plan.reservations[0].1, Verdict::Reserved);
    assert!(plan.inventories.is_empty());
    assert_eq!(lines(&plan, 0), [("i", 1)]);
}

#[test]
fn a_rejected_change_still_holds_what_it_held() {
    let demand = Demand::Reserve(vec![wanted("o", 2, &["y", "y"])]);
    let plan =
        decide(&demand, vec![stock("i", "x", 0), stock("j", "y", 1)], &[held("o", 1, &[("i", "x", 1)])]);
    let plan = plan.unwrap();
    assert_eq!((plan.reservations[0].1, lines(&plan, 0)), (Verdict::Rejected, vec![("i", 1)]));
    assert!(plan.inventories.is_empty());
}

#[test]
fn a_release_gives_back_adding_and_leaves_a_tombstone() {
    let demand = Demand::Release(wanted("o", 1, &[]));
    let plan = decide(&demand, vec![stock("i", "x", 4)], &[held("o", 1, &[("i", "x", 2)])]).unwrap();
    assert_eq!(amounts(&plan), [("i", 6)]);
    assert!(plan.reservations[0].0.released && lines(&plan, 0).is_empty());
    // An order that never got a decision leaves one too.
    assert!(decide(&demand, vec![], &[]).unwrap().reservations[0].0.released);
}

#[test]
fn what_is_decided_is_not_decided_again() {
    let order = || held("o", 2, &[("i", "x", 1)]);
    for revision in [1, 2] {
        let demand = Demand::Reserve(vec![wanted("o", revision, &["x"])]);
        assert_eq!(decide(&demand, vec![stock("i", "x", 1)], &[order()]), None);
    }
    let mut released = order();
    released.value.released = true;
    let released = [released];
    assert_eq!(decide(&Demand::Release(wanted("o", 2, &[])), vec![], &released), None);
    assert_eq!(
        decide(&Demand::Reserve(vec![wanted("o", 3, &["x"])]), vec![stock("i", "x", 1)], &released),
        None
    );
}

#[test]
fn pieces_of_a_deleted_inventory_stay_held_and_go_with_it_when_given_back() {
    let order = || held("o", 1, &[("gone", "x", 2)]);
    let plan = decide(&Demand::Reserve(vec![wanted("o", 2, &["x", "x"])]), vec![], &[order()]).unwrap();
    assert_eq!((plan.reservations[0].1, lines(&plan, 0)), (Verdict::Reserved, vec![("gone", 2)]));
    let plan = decide(&Demand::Release(wanted("o", 1, &[])), vec![stock("i", "x", 4)], &[order()]).unwrap();
    assert!(plan.inventories.is_empty());
}

#[test]
fn only_events_of_the_user_ask_something_of_the_stock() {
    let pending = order(Status::Pending);
    let reserve = Ok(Demand::Reserve(vec![wanted("o", 1, &["x", "y"])]));
    let release = Ok(Demand::Release(wanted("o", 1, &[])));
    let with = |status, change| Order { status, change, ..pending.clone() };
    assert_eq!(Demand::of(&pending), reserve);
    assert_eq!(Demand::of(&with(Status::Pending, Change::Changed)), reserve);
    assert_eq!(Demand::of(&with(Status::Pending, Change::Deleted)), release);
    assert_eq!(Demand::of(&with(Status::Confirmed, Change::Deleted)), release);
    for change in [Change::Confirmed, Change::Rejected, Change::Billed, Change::Unbilled] {
        assert!(Demand::of(&with(Status::Confirmed, change)).is_err(), "{change:?}");
    }
    assert!(Demand::of(&with(Status::Pending, Change::Billed)).is_err());
    let list = Order::place_list(vec!["a".into(), "b".into()], vec![content(&["x"]), content(&["y"])]);
    let both = vec![wanted("a", 1, &["x"]), wanted("b", 1, &["y"])];
    assert_eq!(Demand::of(&list[0]), Ok(Demand::Reserve(both)));
    assert!(Demand::of(&list[1]).is_err());
}

/// Everything there is: three inventories of two products, and the orders' reservations.
#[derive(Clone, Debug)]
struct World {
    inventories: BTreeMap<String, Versioned<Inventory>>,
    reservations: BTreeMap<String, Versioned<Reservation>>,
}

impl World {
    fn new(amounts: [u64; 3]) -> Self {
        let all = [("a", "x"), ("b", "x"), ("c", "y")].into_iter().zip(amounts);
        let inventories = all.map(|((id, product), amount)| (id.to_owned(), stock(id, product, amount)));
        Self { inventories: inventories.collect(), reservations: BTreeMap::new() }
    }

    /// Per product what is on hand plus what is held.
    fn total(&self) -> BTreeMap<String, u64> {
        let on_hand = self.inventories.values().map(|i| (&i.value.product_id, i.value.amount));
        let lines = self.reservations.values().flat_map(|r| &r.value.lines);
        let mut total = BTreeMap::new();
        for (product, amount) in on_hand.chain(lines.map(|line| (&line.product_id, line.amount))) {
            *total.entry(product.clone()).or_insert(0) += amount;
        }
        total
    }

    fn decide(&self, demand: &Demand) -> Option<Plan> {
        let reservations: Vec<_> = self.reservations.values().cloned().collect();
        decide(demand, self.inventories.values().cloned().collect(), &reservations)
    }

    fn apply(&mut self, plan: &Plan) {
        for stock in &plan.inventories {
            let next = Versioned { version: stock.version + 1, ..stock.clone() };
            self.inventories.insert(stock.value.id.clone(), next);
        }
        for (reservation, _, version) in &plan.reservations {
            let next = Versioned { value: reservation.clone(), version: version.unwrap_or(0) + 1 };
            self.reservations.insert(reservation.id.clone(), next);
        }
    }
}

fn any_demand() -> impl Strategy<Value = (bool, Vec<(usize, Vec<bool>)>)> {
    let order = (0..6_usize, prop::collection::vec(any::<bool>(), 1..6));
    (prop::bool::weighted(0.25), prop::collection::vec(order, 1..4))
}

proptest! {
    #[test]
    fn stock_plus_held_is_constant_and_orders_get_all_or_nothing(
        amounts in prop::array::uniform3(0..12_u64),
        demands in prop::collection::vec(any_demand(), 1..40),
    ) {
        let mut world = World::new(amounts);
        let total = world.total();
        for (revision, (is_release, orders)) in (1..).zip(demands) {
            let mut seen = BTreeSet::new();
            let wanted: Vec<Wanted> = orders
                .iter()
                .filter(|(order, _)| seen.insert(*order))
                .map(|(order, products)| {
                    let products: Vec<&str> = products.iter().map(|x| if *x { "x" } else { "y" }).collect();
                    super::tests::wanted(&format!("o{order}"), revision, &products)
                })
                .collect();
            let demand =
                if is_release { Demand::Release(wanted[0].clone()) } else { Demand::Reserve(wanted.clone()) };
            let Some(plan) = world.decide(&demand) else { continue };
            let before = world.clone();
            world.apply(&plan);
            prop_assert_eq!(world.total(), total.clone());
            for (reservation, verdict, _) in &plan.reservations {
                let pieces: u64 = reservation.lines.iter().map(|line| line.amount).sum();
                let asked = wanted.iter().find(|w| w.order_id == reservation.id).unwrap();
                match verdict {
                    Verdict::Reserved if reservation.released => prop_assert_eq!(pieces, 0),
                    Verdict::Reserved => prop_assert_eq!(pieces, asked.product_ids.len() as u64),
                    Verdict::Rejected => {
                        let held = before.reservations.get(&reservation.id);
                        let held = held.map(|r| r.value.lines.clone()).unwrap_or_default();
                        prop_assert_eq!(&reservation.lines, &held);
                        prop_assert!(plan.inventories.is_empty());
                        prop_assert!(reservation.short.iter().all(|short| short.available < short.wanted));
                        prop_assert!(!reservation.short.is_empty());
                    }
                }
            }
        }
    }
}
