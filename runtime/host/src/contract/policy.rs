//! `policy`: the neutral policy, between the contract's types and the domain's. Names are moved, never copied.

use gadgetd_core::policy::{Action, Architecture, Argument, Comparison, Policy, Rule};
use wasmtime::component::HasData;

use crate::bindings::policy::{self as wit, Host};

/// The interface has types and no functions: it needs no context.
pub(crate) struct PolicyContext;

impl HasData for PolicyContext {
    type Data<'a> = Self;
}

impl Host for PolicyContext {}

impl From<wit::Policy> for Policy {
    fn from(policy: wit::Policy) -> Self {
        let rules = policy.rules.into_iter().map(|rule| Rule {
            names: rule.names,
            action: rule.action.into(),
            args: rule.args.into_iter().map(Into::into).collect(),
        });
        Self {
            default_action: policy.default_action.into(),
            architectures: policy.architectures.into_iter().map(Into::into).collect(),
            rules: rules.collect(),
        }
    }
}

impl From<Policy> for wit::Policy {
    fn from(policy: Policy) -> Self {
        let rules = policy.rules.into_iter().map(|rule| wit::Rule {
            names: rule.names,
            action: rule.action.into(),
            args: rule.args.into_iter().map(Into::into).collect(),
        });
        Self {
            default_action: policy.default_action.into(),
            architectures: policy.architectures.into_iter().map(Into::into).collect(),
            rules: rules.collect(),
        }
    }
}

/// Both directions of an enum; both sides are listed in the same order.
macro_rules! both_ways {
    ($wit:ident, $core:ident: $($w:ident $(($v:ident))? = $c:ident),+ $(,)?) => {
        impl From<wit::$wit> for $core {
            fn from(it: wit::$wit) -> Self {
                match it { $(wit::$wit::$w $(($v))? => Self::$c $(($v))?),+ }
            }
        }
        impl From<$core> for wit::$wit {
            fn from(it: $core) -> Self {
                match it { $($core::$c $(($v))? => Self::$w $(($v))?),+ }
            }
        }
    };
}

both_ways!(Architecture, Architecture: X8664 = X86_64, X86 = X86, X32 = X32, Aarch64 = Aarch64, Arm = Arm);
both_ways!(
    Action, Action:
    Allow = Allow, Errno(e) = Errno, KillProcess = KillProcess, KillThread = KillThread,
    Trap = Trap, Log = Log, Trace(m) = Trace, Notify = Notify,
);
both_ways!(
    Comparison, Comparison:
    NotEqual = NotEqual, Less = Less, LessOrEqual = LessOrEqual, Equal = Equal,
    GreaterOrEqual = GreaterOrEqual, Greater = Greater, MaskedEqual = MaskedEqual,
);

impl From<wit::Argument> for Argument {
    fn from(wit::Argument { index, op, value, value_two }: wit::Argument) -> Self {
        Self { index, op: op.into(), value, value_two }
    }
}

impl From<Argument> for wit::Argument {
    fn from(Argument { index, op, value, value_two }: Argument) -> Self {
        Self { index, op: op.into(), value, value_two }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_on_the_way_to_a_module_and_back() {
        let argument = Argument { index: 3, op: Comparison::MaskedEqual, value: u64::MAX, value_two: 7 };
        let policy = Policy {
            default_action: Action::Errno(Some(38)),
            architectures: vec![Architecture::X86_64, Architecture::X86, Architecture::X32],
            rules: vec![
                Rule { names: vec!["read".into(), "write".into()], action: Action::Allow, args: vec![] },
                Rule { names: vec!["clone".into()], action: Action::Trace(None), args: vec![argument] },
            ],
        };
        assert_eq!(Policy::from(wit::Policy::from(policy.clone())), policy);
    }
}
