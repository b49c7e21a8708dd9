//! What stands above a field or a variant: doc comments and `#[param(…)]`.

use proc_macro2::Span;
use syn::{
    Attribute, Error, Expr, ExprLit, Ident, Lit, LitStr, Meta, Result, Token, ext::IdentExt as _,
    spanned::Spanned as _,
};

/// `#[param(…)]`.
#[derive(Default)]
pub(crate) struct Param {
    /// `name = "…"`
    pub(crate) name: Option<LitStr>,
    /// `default`, or `default = …`
    pub(crate) default: Option<Default>,
}

/// The default of a parameter.
pub(crate) enum Default {
    /// That of its type.
    OfType,
    /// A value.
    Value(Expr),
}

impl Param {
    pub(crate) fn read(attributes: &[Attribute]) -> Result<Self> {
        let mut read = Self::default();
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("param")) {
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("name") {
                    once(&mut read.name, meta.value()?.parse()?, meta.path.span())
                } else if meta.path.is_ident("default") {
                    let default = if meta.input.peek(Token![=]) {
                        Default::Value(meta.value()?.parse()?)
                    } else {
                        Default::OfType
                    };
                    once(&mut read.default, default, meta.path.span())
                } else {
                    Err(meta.error("there are `name = \"…\"`, `default` and `default = …`"))
                }
            })?;
        }
        Ok(read)
    }
}

fn once<T>(place: &mut Option<T>, value: T, span: Span) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::new(span, "it stands here twice")),
    }
}

/// The first paragraph of the doc comment, on one line; empty where there is none.
pub(crate) fn help(attributes: &[Attribute]) -> Result<String> {
    let mut help = String::new();
    for attribute in attributes {
        let Meta::NameValue(meta) = &attribute.meta else { continue };
        if !meta.path.is_ident("doc") {
            continue;
        }
        let Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) = &meta.value else {
            return Err(Error::new(meta.value.span(), "the help of a parameter is plain text"));
        };
        for line in text.value().split('\n').map(str::trim) {
            match (line, help.as_str()) {
                ("", "") => {}
                ("", _) => return Ok(help),
                (line, "") => line.clone_into(&mut help),
                (line, _) => help.extend([" ", line]),
            }
        }
    }
    Ok(help)
}

/// How a user writes the name of a field (`snake_case`) or of a variant (`CamelCase`): words joined by `-`.
pub(crate) fn kebab(ident: &Ident) -> String {
    let mut kebab = String::new();
    for c in ident.unraw().to_string().chars() {
        match c {
            '_' => kebab.push('-'),
            c if c.is_ascii_uppercase() => {
                if !kebab.is_empty() {
                    kebab.push('-');
                }
                kebab.push(c.to_ascii_lowercase());
            }
            c => kebab.push(c),
        }
    }
    kebab
}
