//! Formatter: the `SeccompProfile` object of the [Security Profiles Operator], from which the operator makes a file on
//! every node.
//!
//! The operator's releases serve different versions of the object, in different scopes:
//!
//! | release | served | scope | difference |
//! |---|---|---|---|
//! | 0.3 | v1alpha1 | namespaced | `errnoRet` is a string |
//! | 0.4 – 0.8.0 | v1beta1 | namespaced | the same; later the action `SCMP_ACT_NOTIFY` |
//! | 0.8.1 – 0.8.4 | v1beta1 | namespaced | `errnoRet` is an integer |
//! | 0.9 – 0.10 | v1beta1 | cluster | |
//! | 1.0 | v1, v1beta1 | cluster | names and architectures are sets |
//!
//! (From the definitions that the releases ship.) A gadget that makes the object itself says which version is
//! served, and gets JSON. For a person it is YAML, to be read and then given to `kubectl apply`. A policy that the
//! object cannot express is refused, never written as something weaker.
//!
//! [Security Profiles Operator]: https://github.com/kubernetes-sigs/security-profiles-operator
//!
//! ```
//! use formatter_spo::Spo;
//! use gadget_sdk::{Action, Architecture, Policy, Rule, testing};
//!
//! let policy = Policy {
//!     default_action: Action::Errno(None),
//!     architectures: vec![Architecture::X86_64],
//!     rules: vec![Rule::allow(vec!["read".into(), "write".into()])],
//! };
//! let document = testing::format::<Spo>(&policy, &[], &[("name", "cart")]).unwrap();
//! assert!(document.body.starts_with("apiVersion: security-profiles-operator.x-k8s.io/v1beta1\n"));
//! ```

use gadget_sdk::{
    Action, Architecture, Argument, Capture, Choice, Comparison, Description, Document, Formatter, Module,
    ObjectHead, Parameters, Params, Policy, Rule, formatter::Error,
};
use serde::Serialize;

gadget_sdk::export_formatter!(Spo);

/// The API group of the object.
pub const GROUP: &str = "security-profiles-operator.x-k8s.io";
/// Its kind.
pub const KIND: &str = "SeccompProfile";

/// The media types of the document. The host knows them, and checks the document against the policy.
pub const MEDIA_TYPE_JSON: &str = "application/vnd.security-profiles-operator.seccompprofile+json";
/// The same as YAML.
pub const MEDIA_TYPE_YAML: &str = "application/vnd.security-profiles-operator.seccompprofile+yaml";

/// The longest name of an object.
const NAME_MAX: usize = 253;
/// What the runtime takes where no errno is given.
const EPERM: u16 = 1;

/// The formatter.
pub struct Spo;

#[derive(Parameters)]
struct Options {
    /// The object's version; v1beta1 if none is given: releases 0.4 to 1.0 have it.
    api_version: Option<Version>,
    /// The object's name; if none is given, that of what was recorded.
    name: Option<String>,
}

/// A version of the object.
#[derive(Choice, Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    #[param(name = "v1beta1")]
    V1Beta1,
    #[param(name = "v1alpha1")]
    V1Alpha1,
}

/// How `errnoRet` is written. Two releases that serve v1beta1 differ, and nothing but their schema says so.
#[derive(Clone, Copy)]
enum ErrnoStyle {
    Integer,
    Text,
}

impl Module for Spo {
    fn describe() -> Description {
        let summary = "The SeccompProfile object of the Security Profiles Operator.";
        Description::new("spo", env!("CARGO_PKG_VERSION"), summary).params::<Options>()
    }
}

impl Formatter for Spo {
    fn format(params: &Params, policy: &Policy, about: &[&Capture]) -> Result<Document, Error> {
        let options: Options = params.read();
        let version = options.api_version.unwrap_or(Version::V1Beta1);
        let name = match options.name {
            Some(name) if is_subdomain(&name) => name,
            Some(odd) => {
                return Err(Error::InvalidParameter(format!(
                    "name: {odd:?} cannot be the name of an object: lower case letters, digits, - and . make one"
                )));
            }
            None => name_of(about),
        };
        let api_version = format!("{GROUP}/{}", version.word());
        let metadata = Metadata { name: &name, namespace: None };
        let style = version.ways(policy)[0];
        let object = Object::new(&api_version, metadata, policy, version, style)?;
        // A name stays on its line, however long it is.
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        let yaml = serde_saphyr::to_string_with_options(&object, options);
        let yaml = yaml.map_err(|error| Error::Failed(error.to_string()))?;
        Ok(Document::new(MEDIA_TYPE_YAML, yaml))
    }

    fn format_object(
        params: &Params,
        policy: &Policy,
        _about: &[&Capture],
        object: &ObjectHead,
    ) -> Result<Document, Error> {
        let ObjectHead { api_version, kind, namespace, name, attempt } = object;
        let version = api_version.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix('/'));
        let version = version.filter(|_| kind == KIND).and_then(Version::from_word).ok_or_else(|| {
            let known = Version::WORDS.join(", ");
            Error::Unsupported(format!(
                "it writes {KIND} objects of {GROUP} ({known}), and no {kind} of {api_version}"
            ))
        })?;
        // What is said twice could be said differently.
        let Options { api_version: version_too, name: name_too } = params.read();
        let twice = [("api-version", version_too.is_some()), ("name", name_too.is_some())];
        if let Some((param, _)) = twice.into_iter().find(|(_, given)| *given) {
            return Err(Error::InvalidParameter(format!("{param}: the run says what object it makes")));
        }
        let attempt = usize::try_from(*attempt).unwrap_or(usize::MAX);
        let style = version.ways(policy).get(attempt).ok_or_else(|| {
            Error::Unsupported(format!(
                "there is no other way to write it in a {KIND} of version {}",
                version.word()
            ))
        })?;
        let metadata = Metadata { name, namespace: namespace.as_deref() };
        let object = Object::new(api_version, metadata, policy, version, *style)?;
        let json = serde_json::to_string(&object).map_err(|error| Error::Failed(error.to_string()))?;
        Ok(Document::new(MEDIA_TYPE_JSON, json))
    }
}

impl Version {
    /// The ways to write a policy in this version: the likeliest first.
    fn ways(self, policy: &Policy) -> &'static [ErrnoStyle] {
        let has_errno = policy.rules.iter().any(|rule| rule.action.number().is_some());
        match self {
            Self::V1Beta1 if has_errno => &[ErrnoStyle::Integer, ErrnoStyle::Text],
            Self::V1 | Self::V1Beta1 => &[ErrnoStyle::Integer],
            Self::V1Alpha1 => &[ErrnoStyle::Text],
        }
    }
}

/// The order of the fields is the order in the document.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a> {
    api_version: &'a str,
    kind: &'static str,
    metadata: Metadata<'a>,
    spec: ProfileSpec<'a>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProfileSpec<'a> {
    default_action: &'static str,
    architectures: Vec<&'static str>,
    syscalls: Vec<Syscalls<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Syscalls<'a> {
    names: &'a [String],
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_ret: Option<ErrnoRet>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<Arg>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ErrnoRet {
    Integer(u16),
    Text(String),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Arg {
    index: u32,
    op: &'static str,
    value: i64,
    // The second operand, that only a masked comparison has.
    #[serde(skip_serializing_if = "Option::is_none")]
    value_two: Option<i64>,
}

impl<'a> Object<'a> {
    fn new(
        api_version: &'a str,
        metadata: Metadata<'a>,
        policy: &'a Policy,
        version: Version,
        style: ErrnoStyle,
    ) -> Result<Self, Error> {
        if let Some(value) = policy.default_action.number()
            && (value != EPERM || matches!(policy.default_action, Action::Trace(_)))
        {
            return unsupported(format!(
                "a {KIND} has no field for the default errno {value}; leave it out, and it is EPERM"
            ));
        }
        let syscalls: Result<_, _> =
            policy.rules.iter().map(|rule| Syscalls::new(rule, version, style)).collect();
        let spec = ProfileSpec {
            default_action: action(policy.default_action, version)?,
            architectures: policy.architectures.iter().copied().map(Architecture::scmp_name).collect(),
            syscalls: syscalls?,
        };
        Ok(Self { api_version, kind: KIND, metadata, spec })
    }
}

impl<'a> Syscalls<'a> {
    fn new(rule: &'a Rule, version: Version, style: ErrnoStyle) -> Result<Self, Error> {
        let errno_ret = rule.action.number().map(|value| match style {
            ErrnoStyle::Integer => ErrnoRet::Integer(value),
            ErrnoStyle::Text => ErrnoRet::Text(value.to_string()),
        });
        let args: Result<_, _> = rule.args.iter().map(Arg::new).collect();
        Ok(Self { names: &rule.names, action: action(rule.action, version)?, errno_ret, args: args? })
    }
}

impl Arg {
    fn new(argument: &Argument) -> Result<Self, Error> {
        let masked = argument.op == Comparison::MaskedEqual;
        Ok(Self {
            index: argument.index,
            op: argument.op.scmp_name(),
            value: signed(argument.value)?,
            value_two: masked.then(|| signed(argument.value_two)).transpose()?,
        })
    }
}

/// The object's fields are signed, and may not be negative.
fn signed(value: u64) -> Result<i64, Error> {
    i64::try_from(value).or_else(|_| {
        unsupported(format!("a {KIND} cannot hold the value {value:#x} of an argument: bit 63 is set"))
    })
}

fn unsupported<T>(why: String) -> Result<T, Error> {
    Err(Error::Unsupported(why))
}

fn action(action: Action, version: Version) -> Result<&'static str, Error> {
    match action {
        // It needs a listener besides, which the neutral policy cannot name.
        Action::Notify => unsupported(format!(
            "a {KIND} of version {} does not know the action {}",
            version.word(),
            action.scmp_name()
        )),
        known => Ok(known.scmp_name()),
    }
}

/// A name made from what was recorded: of the pod and the container, or of the command.
fn name_of(about: &[&Capture]) -> String {
    let Some(container) = about.first().map(|capture| capture.container()) else { return "profile".into() };
    let parts = [container.pod.as_ref().map(|pod| pod.name.as_str()), container.name.as_deref()];
    let words = parts.into_iter().flatten().collect::<Vec<_>>().join("-").to_ascii_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = words.chars().map(plain).take(NAME_MAX).collect();
    match name.trim_matches('-') {
        "" => "profile".into(),
        name => name.to_owned(),
    }
}

/// Whether this can be the name of an object: an RFC 1123 subdomain.
fn is_subdomain(name: &str) -> bool {
    let end = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let part = |part: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        end(part.as_bytes().first()) && end(part.as_bytes().last()) && part.bytes().all(inner)
    };
    name.len() <= NAME_MAX && name.split('.').all(part)
}
