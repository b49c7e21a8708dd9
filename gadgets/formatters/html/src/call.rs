//! One system call, with all that is known of it.

use std::collections::BTreeMap;

use gadget_sdk::{Abi, Action, Argument, Capture, Comparison, Phases, Policy};
use syscall_knowledge::{Engine, Group, Risk, engine, purpose, risk};

/// A call that the policy names, or that was recorded.
pub(crate) struct Call {
    /// Its name; of one that no table knows, its number and ABI.
    pub(crate) name: String,
    /// What the policy does with it: in words, by rule, or as with every other call.
    pub(crate) action: String,
    /// Whether it is allowed, at least with some arguments.
    pub(crate) allowed: bool,
    /// When it was made; empty where it was not recorded.
    pub(crate) phases: Phases,
    /// By which ABIs.
    pub(crate) abis: Vec<Abi>,
    pub(crate) risk: Risk,
    pub(crate) engine: Engine,
    pub(crate) purpose: &'static Group,
}

impl Call {
    fn new(name: &str, policy: &Policy) -> Self {
        Self {
            name: name.to_owned(),
            action: self::action(policy.default_action),
            allowed: policy.default_action.allows(),
            phases: Phases::empty(),
            abis: Vec::new(),
            risk: risk(name),
            engine: engine(name),
            purpose: purpose(name),
        }
    }

    /// Whether somebody was seen to make it.
    pub(crate) fn recorded(&self) -> bool {
        !self.phases.is_empty()
    }
}

/// Every call of the policy and of the recordings, by name.
pub(crate) fn calls(policy: &Policy, about: &[&Capture]) -> Vec<Call> {
    let mut calls: BTreeMap<String, Call> = BTreeMap::new();
    for rule in &policy.rules {
        for name in &rule.names {
            let known = calls.contains_key(name);
            let call = calls.entry(name.clone()).or_insert_with(|| Call::new(name, policy));
            call.allowed = rule.action.allows() || (known && call.allowed);
            let conditions: Vec<_> = rule.args.iter().map(condition).collect();
            let said = match conditions.as_slice() {
                [] => action(rule.action),
                some => format!("{} if {}", action(rule.action), some.join(" and ")),
            };
            call.action = if known { format!("{}; {said}", call.action) } else { said };
        }
    }
    for syscall in about.iter().flat_map(|capture| capture.syscalls()) {
        let name =
            syscall.name.clone().unwrap_or_else(|| format!("number {} ({})", syscall.number, syscall.abi));
        let call = calls.entry(name.clone()).or_insert_with(|| Call::new(&name, policy));
        call.phases |= syscall.phases;
        if !call.abis.contains(&syscall.abi) {
            call.abis.push(syscall.abi);
        }
    }
    calls.into_values().collect()
}

pub(crate) fn action(action: Action) -> String {
    match action {
        Action::Allow => "allowed".into(),
        Action::Errno(None) => "refused".into(),
        Action::Errno(Some(errno)) => format!("refused with errno {errno}"),
        Action::KillProcess => "kills the process".into(),
        Action::KillThread => "kills the thread".into(),
        Action::Trap => "raises SIGSYS".into(),
        Action::Log => "allowed and logged".into(),
        Action::Trace(_) => "left to a tracer".into(),
        Action::Notify => "left to an agent".into(),
    }
}

fn condition(argument: &Argument) -> String {
    let Argument { index, value, value_two, .. } = argument;
    let sign = match argument.op {
        Comparison::NotEqual => "≠",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "≤",
        Comparison::Equal => "=",
        Comparison::GreaterOrEqual => "≥",
        Comparison::Greater => ">",
        Comparison::MaskedEqual => return format!("argument {index} & {value:#x} = {value_two:#x}"),
    };
    format!("argument {index} {sign} {value}")
}
