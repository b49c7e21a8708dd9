//! Formatter: the seccomp JSON of the OCI runtime specification, as `linux.seccomp` of a container's
//! configuration has it, and as Kubernetes and the container engines load it.
//!
//! The same policy gives the same bytes: fields stand in the specification's order, names in the
//! policy's, two spaces a level, and a newline at the end.
//!
//! ```
//! use formatter_oci::Oci;
//! use gadget_sdk::{Action, Architecture, Policy, Rule, testing};
//!
//! let policy = Policy {
//!     default_action: Action::Errno(None),
//!     architectures: vec![Architecture::X86_64],
//!     rules: vec![Rule::allow(vec!["read".into(), "write".into()])],
//! };
//! let document = testing::format::<Oci>(&policy, &[], &[("compact", "true")]).unwrap();
//! assert_eq!(document.media_type, "application/vnd.oci.seccomp+json");
//! assert_eq!(
//!     document.body,
//!     concat!(
//!         r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64"],"#,
//!         r#""syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW"}]}"#,
//!         "\n"
//!     )
//! );
//! ```

use gadget_sdk::{
    Architecture, Argument, Capture, Comparison, Description, Document, Formatter, Module, Parameters,
    Params, Policy, Rule, formatter::Error,
};
use serde::Serialize;

gadget_sdk::export_formatter!(Oci);

/// The media type of the document. The host knows it, and checks the document against the policy.
pub const MEDIA_TYPE: &str = "application/vnd.oci.seccomp+json";

/// The formatter.
pub struct Oci;

#[derive(Parameters)]
struct Options {
    /// Writes everything on one line.
    compact: bool,
}

impl Module for Oci {
    fn describe() -> Description {
        let summary = "The seccomp JSON of the OCI runtime specification.";
        Description::new("oci", env!("CARGO_PKG_VERSION"), summary).params::<Options>()
    }
}

impl Formatter for Oci {
    fn format(params: &Params, policy: &Policy, _about: &[&Capture]) -> Result<Document, Error> {
        let Options { compact } = params.read();
        let profile = Profile::from(policy);
        let json =
            if compact { serde_json::to_string(&profile) } else { serde_json::to_string_pretty(&profile) };
        let mut json = json.map_err(|error| Error::Failed(error.to_string()))?;
        json.push('\n');
        Ok(Document::new(MEDIA_TYPE, json))
    }
}

/// `linux.seccomp`. The order of the fields is the order in the document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile<'a> {
    default_action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    default_errno_ret: Option<u16>,
    architectures: Vec<&'static str>,
    syscalls: Vec<Syscalls<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Syscalls<'a> {
    names: &'a [String],
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_ret: Option<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Arg>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Arg {
    index: u32,
    value: u64,
    // The second operand, that only a masked comparison has.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_two: Option<u64>,
    op: &'static str,
}

impl<'a> From<&'a Policy> for Profile<'a> {
    fn from(policy: &'a Policy) -> Self {
        Self {
            default_action: policy.default_action.scmp_name(),
            default_errno_ret: policy.default_action.number(),
            architectures: policy.architectures.iter().copied().map(Architecture::scmp_name).collect(),
            syscalls: policy.rules.iter().map(Syscalls::from).collect(),
        }
    }
}

impl<'a> From<&'a Rule> for Syscalls<'a> {
    fn from(rule: &'a Rule) -> Self {
        let Rule { names, action, args } = rule;
        let args = args.iter().map(Arg::from).collect();
        Self { names, action: action.scmp_name(), errno_ret: action.number(), args }
    }
}

impl From<&Argument> for Arg {
    fn from(argument: &Argument) -> Self {
        let masked = argument.op == Comparison::MaskedEqual;
        Self {
            index: argument.index,
            value: argument.value,
            value_two: masked.then_some(argument.value_two),
            op: argument.op.scmp_name(),
        }
    }
}
