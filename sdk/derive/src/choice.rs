//! `#[derive(Choice)]`.

use std::collections::BTreeSet;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, Result, spanned::Spanned as _};

use crate::attributes::{Param, kebab};

pub(crate) fn derive(input: DeriveInput) -> Result<TokenStream> {
    let Data::Enum(data) = input.data else {
        return Err(Error::new(input.ident.span(), "a choice is an enum: each of its variants is a word"));
    };
    if !input.generics.params.is_empty() {
        return Err(Error::new(input.generics.span(), "a choice has no generics"));
    }
    if data.variants.is_empty() {
        return Err(Error::new(input.ident.span(), "there is nothing to choose from"));
    }
    let mut words = Vec::new();
    let mut seen = BTreeSet::new();
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new(variant.fields.span(), "a word of a choice has no fields"));
        }
        let Param { name, default } = Param::read(&variant.attrs)?;
        if default.is_some() {
            let text = "the default is that of the parameter: `#[param(default = …)]` above the field";
            return Err(Error::new(variant.span(), text));
        }
        let (word, span) = match name {
            Some(name) => (name.value(), name.span()),
            None => (kebab(&variant.ident), variant.ident.span()),
        };
        if word.trim().is_empty() || word.chars().any(char::is_control) {
            return Err(Error::new(span, "a word of a choice is a text that can be typed"));
        }
        if !seen.insert(word.clone()) {
            return Err(Error::new(span, format!("there is a word `{word}` already")));
        }
        words.push(word);
    }
    let ident = input.ident;
    let variants: Vec<_> = data.variants.iter().map(|variant| &variant.ident).collect();
    Ok(quote! {
        #[automatically_derived]
        impl ::gadget_sdk::Choice for #ident {
            const WORDS: &'static [&'static str] = &[#(#words),*];

            fn word(&self) -> &'static str {
                match self { #(Self::#variants => #words),* }
            }

            fn from_word(word: &str) -> ::std::option::Option<Self> {
                match word {
                    #(#words => ::std::option::Option::Some(Self::#variants),)*
                    _ => ::std::option::Option::None,
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn what_is_wrong_is_said() {
        let rows: [(DeriveInput, &str); 7] = [
            (
                parse_quote!(
                    struct Phase;
                ),
                "a choice is an enum",
            ),
            (
                parse_quote!(
                    enum Phase<T> {
                        All,
                    }
                ),
                "a choice has no generics",
            ),
            (
                parse_quote!(
                    enum Phase {}
                ),
                "there is nothing to choose from",
            ),
            (
                parse_quote!(
                    enum Phase {
                        All(bool),
                    }
                ),
                "a word of a choice has no fields",
            ),
            (
                parse_quote!(
                    enum Phase {
                        #[param(default)]
                        All,
                    }
                ),
                "the default is that of the parameter",
            ),
            (
                parse_quote!(
                    enum Phase {
                        #[param(name = "")]
                        All,
                    }
                ),
                "a word of a choice is a text",
            ),
            (
                parse_quote!(
                    enum Phase {
                        All,
                        #[param(name = "all")]
                        Both,
                    }
                ),
                "there is a word `all` already",
            ),
        ];
        for (input, want) in rows {
            let error = derive(input).expect_err(want).to_string();
            assert!(error.starts_with(want), "{error:?} is not {want:?}");
        }
    }
}
