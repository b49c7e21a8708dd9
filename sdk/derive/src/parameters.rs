//! `#[derive(Parameters)]`.

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::{
    Data, DataStruct, DeriveInput, Error, Expr, ExprArray, ExprLit, Field, Fields, Lit, Result, Type,
    spanned::Spanned as _,
};

use crate::attributes::{Default, Param, help, kebab};

/// The longest name that the host takes, in bytes.
const NAME_MAX: usize = 64;

pub(crate) fn derive(input: DeriveInput) -> Result<TokenStream> {
    let Data::Struct(DataStruct { fields: Fields::Named(fields), .. }) = input.data else {
        let text = "parameters are a struct with named fields; the words of one are an enum with `#[derive(Choice)]`";
        return Err(Error::new(input.ident.span(), text));
    };
    let fields = fields.named;
    if !input.generics.params.is_empty() {
        return Err(Error::new(input.generics.span(), "parameters have no generics"));
    }
    let mut names = BTreeSet::new();
    let mut errors = None::<Error>;
    let (mut specs, mut values) = (Vec::new(), Vec::new());
    for field in &fields {
        match parameter(field, &mut names) {
            Ok(Parameter { spec, value }) => {
                specs.push(spec);
                values.push(value);
            }
            // All of them at once.
            Err(error) => match &mut errors {
                None => errors = Some(error),
                Some(errors) => errors.combine(error),
            },
        }
    }
    if let Some(errors) = errors {
        return Err(errors);
    }
    let ident = input.ident;
    Ok(quote! {
        #[automatically_derived]
        #[allow(clippy::useless_conversion)] // Of defaults that have their type already.
        impl ::gadget_sdk::Parameters for #ident {
            fn specs() -> ::std::vec::Vec<::gadget_sdk::Spec> {
                ::std::vec![#(#specs),*]
            }

            fn read(params: &::gadget_sdk::Params) -> Self {
                Self { #(#values),* }
            }
        }
    })
}

/// How a field is declared, and how it is read.
struct Parameter {
    spec: TokenStream,
    value: TokenStream,
}

fn parameter(field: &Field, names: &mut BTreeSet<String>) -> Result<Parameter> {
    let ident = field.ident.as_ref().expect("the fields are named");
    let Param { name, default } = Param::read(&field.attrs)?;
    let (name, span) = match name {
        Some(name) => (name.value(), name.span()),
        None => (kebab(ident), ident.span()),
    };
    if !is_name(&name) {
        let text = format!(
            "`{name}` cannot be the name of a parameter: that is lower-case words joined by `-`, each beginning with a \
             letter, of at most {NAME_MAX} bytes together; give another with `#[param(name = \"…\")]`"
        );
        return Err(Error::new(span, text));
    }
    if !names.insert(name.clone()) {
        return Err(Error::new(span, format!("there is a parameter `{name}` already")));
    }
    let help = help(&field.attrs)?;
    if help.is_empty() {
        let text = "a parameter needs a doc comment: it is the help that users read";
        return Err(Error::new(ident.span(), text));
    }
    let ty = &field.ty;
    let span = ty.span();
    Ok(match default.map(|default| value(ty, &default)) {
        None => Parameter {
            spec: quote_spanned! {span=> <#ty as ::gadget_sdk::params::Optional>::spec(#name, #help) },
            value: quote_spanned! {span=>
                #ident: <#ty as ::gadget_sdk::params::Optional>::read(params, #name)
            },
        },
        Some(default) => Parameter {
            spec: quote_spanned! {span=>
                <#ty as ::gadget_sdk::params::Parameter>::spec(#name, #help, ::std::option::Option::Some(#default))
            },
            value: quote_spanned! {span=>
                #ident: params.value::<#ty>(#name).unwrap_or_else(|| #default)
            },
        },
    })
}

/// A default as a value of its type: a `&str` becomes a `String`, and an array a list of them.
fn value(ty: &Type, default: &Default) -> TokenStream {
    match default {
        Default::OfType => quote! { ::std::default::Default::default() },
        Default::Value(Expr::Array(ExprArray { elems, .. })) => {
            let texts = elems.iter();
            quote! { ::std::vec![#(::std::string::String::from(#texts)),*] }
        }
        // Numbers get their type from where they stand; a conversion would make them `i32`.
        Default::Value(
            number @ (Expr::Lit(ExprLit { lit: Lit::Int(_) | Lit::Bool(_), .. }) | Expr::Unary(_)),
        ) => {
            quote! { #number }
        }
        Default::Value(value) => {
            quote_spanned! {value.span()=> <#ty as ::std::convert::From<_>>::from(#value) }
        }
    }
}

/// What the host takes for a name.
fn is_name(name: &str) -> bool {
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    name.len() <= NAME_MAX && name.split('-').all(is_word)
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        let rows: [(DeriveInput, &str); 10] = [
            (
                parse_quote!(
                    enum Options {
                        A,
                    }
                ),
                "parameters are a struct with named fields",
            ),
            (
                parse_quote!(
                    struct Options(bool);
                ),
                "parameters are a struct with named fields",
            ),
            (
                parse_quote!(
                    struct Options<T> {
                        /// Helps.
                        a: T,
                    }
                ),
                "parameters have no generics",
            ),
            (
                parse_quote!(
                    struct Options {
                        a: bool,
                    }
                ),
                "a parameter needs a doc comment",
            ),
            (
                parse_quote!(
                    struct Options {
                        /// Helps.
                        a_1: bool,
                    }
                ),
                "`a-1` cannot be the name of a parameter",
            ),
            (
                parse_quote!(
                    struct Options {
                        /// Helps.
                        #[param(name = "A")]
                        a: bool,
                    }
                ),
                "`A` cannot be the name of a parameter",
            ),
            (
                parse_quote!(
                    struct Options {
                        /// Helps.
                        a: bool,
                        /// Helps.
                        #[param(name = "a")]
                        b: bool,
                    }
                ),
                "there is a parameter `a` already",
            ),
            (
                parse_quote!(
                    struct Options {
                        /// Helps.
                        #[param(short = 'a')]
                        a: bool,
                    }
                ),
                "there are `name = \"…\"`, `default` and `default = …`",
            ),
            (
                parse_quote!(
                    struct Options {
                        /// Helps.
                        #[param(default = true, default)]
                        a: bool,
                    }
                ),
                "it stands here twice",
            ),
            (
                parse_quote!(
                    struct Options {
                        #[doc = include_str!("a")]
                        a: bool,
                    }
                ),
                "the help of a parameter is plain text",
            ),
        ];
        for (input, want) in rows {
            let error = derive(input).expect_err(want).to_string();
            assert!(error.starts_with(want), "{error:?} is not {want:?}");
        }
    }
}
