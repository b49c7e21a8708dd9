//! Policies for property tests, with the feature `proptest`: everything that the host lets through to a formatter.
//!
//! ```
//! use gadget_sdk::testing::strategies;
//! use proptest::prelude::*;
//!
//! proptest!(|(policy in strategies::policy())| {
//!     prop_assert!(!policy.rules.is_empty());
//! });
//! ```

use proptest::{collection, option, prelude::*, sample::subsequence};

use crate::{Action, Architecture, Argument, Comparison, Policy, Rule};

/// Every action, with every number that it may have.
pub fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        Just(Action::Allow),
        option::of(0..=4095_u16).prop_map(Action::Errno),
        Just(Action::KillProcess),
        Just(Action::KillThread),
        Just(Action::Trap),
        Just(Action::Log),
        option::of(any::<u16>()).prop_map(Action::Trace),
        Just(Action::Notify),
    ]
}

/// A condition on an argument.
pub fn argument() -> impl Strategy<Value = Argument> {
    let op = prop_oneof![
        Just(Comparison::NotEqual),
        Just(Comparison::Less),
        Just(Comparison::LessOrEqual),
        Just(Comparison::Equal),
        Just(Comparison::GreaterOrEqual),
        Just(Comparison::Greater),
        Just(Comparison::MaskedEqual),
    ];
    (0..6_u32, op, any::<u64>(), any::<u64>()).prop_map(|(index, op, value, value_two)| Argument {
        index,
        op,
        value,
        // The contract: 0 for every other comparison.
        value_two: if op == Comparison::MaskedEqual { value_two } else { 0 },
    })
}

/// A policy that the host accepts: no name stands in it twice.
pub fn policy() -> impl Strategy<Value = Policy> {
    let all = Architecture::ALL;
    let architectures = subsequence(all.to_vec(), 1..=all.len());
    let names = collection::btree_set("[a-z_][a-z0-9_]{0,20}", 1..20);
    let rules = collection::vec((names, action(), collection::vec(argument(), 0..4)), 1..6);
    (action(), architectures, rules).prop_map(|(default_action, architectures, rules)| {
        let rules = rules.into_iter().enumerate().map(|(index, (names, action, args))| {
            // With the rule's number behind it, a name is no other rule's.
            let names = names.into_iter().map(|name| format!("{name}_{index}")).collect();
            Rule { names, action, args }
        });
        Policy { default_action, architectures, rules: rules.collect() }
    })
}
