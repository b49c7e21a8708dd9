//! What the schemas of all objects share.

use serde::{Deserialize, Deserializer};

/// A string of a closed set, read tolerantly: one object with a word from another release must not
/// keep a node from reading all the others. The schema has the set; the machine refuses the rest.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident: $description:literal { $($(#[$variant_meta:meta])* $variant:ident),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)+
            /// A word that this release does not know.
            Other(String),
        }

        impl $name {
            /// The known words.
            pub const ALL: &[Self] = &[$(Self::$variant),+];
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                match word.as_str() {
                    $(stringify!($variant) => Self::$variant,)+
                    _ => Self::Other(word),
                }
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> Self {
                word.to_string()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => stringify!($variant),)+
                    Self::Other(word) => word,
                })
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "description": $description,
                    "enum": [$(stringify!($variant)),+],
                })
            }
        }
    };
}
pub(crate) use words;

#[allow(clippy::trivially_copy_pass_by_ref)] // The signature is serde's.
pub(crate) fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Reads a list that an API server left as null: one of 1.20 does so where server-side apply took out its last item.
pub(crate) fn null_is_empty<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    list: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(list)?.unwrap_or_default())
}
