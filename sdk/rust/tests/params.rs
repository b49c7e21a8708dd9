//! Parameters by derive: how they are declared, and what they are.

use gadget_sdk::{
    Choice, Description, Parameters,
    params::{Kind, Spec, Value},
    testing,
};

const SOMEWHERE: &str = "somewhere";

#[derive(Debug, Parameters, PartialEq)]
struct Options {
    /// A text
    /// of two lines.
    ///
    /// And what users do not read.
    #[param(default = "default")]
    text: String,
    /// A constant.
    #[param(default = SOMEWHERE)]
    r#where: String,
    /// Left out.
    maybe_text: Option<String>,
    /// A switch.
    switch: bool,
    /// One that is on.
    #[param(default = true, name = "on")]
    other_switch: bool,
    /// Known or not.
    known: Option<bool>,
    /// A number.
    #[param(default = 5_000_000_000)]
    number: i64,
    /// One below zero.
    #[param(default = -1)]
    below: i64,
    /// That of its type.
    #[param(default)]
    zero: i64,
    /// A list.
    list: Vec<String>,
    /// One with something in it.
    #[param(default = ["a", "b"])]
    full: Vec<String>,
    /// A word.
    #[param(default = Word::TwoWords)]
    word: Word,
    /// Another.
    other_word: Option<Word>,
}

#[derive(Choice, Debug, PartialEq)]
enum Word {
    One,
    TwoWords,
    #[param(name = "3")]
    Three,
}

fn read(given: &[(&str, &str)]) -> Options {
    testing::params(&Description::new("test", "1.0.0", "Tests.").params::<Options>(), given).read()
}

#[test]
fn what_is_declared() {
    let words = || Kind::Choice(vec!["one".into(), "two-words".into(), "3".into()]);
    let full = Value::TextList(vec!["a".into(), "b".into()]);
    let want = [
        ("text", "A text of two lines.", Kind::Text, Some("default".into())),
        ("where", "A constant.", Kind::Text, Some("somewhere".into())),
        ("maybe-text", "Left out.", Kind::Text, None),
        ("switch", "A switch.", Kind::Boolean, Some(false.into())),
        ("on", "One that is on.", Kind::Boolean, Some(true.into())),
        ("known", "Known or not.", Kind::Boolean, None),
        ("number", "A number.", Kind::Integer, Some(5_000_000_000.into())),
        ("below", "One below zero.", Kind::Integer, Some((-1).into())),
        ("zero", "That of its type.", Kind::Integer, Some(0.into())),
        ("list", "A list.", Kind::TextList, None),
        ("full", "One with something in it.", Kind::TextList, Some(full)),
        ("word", "A word.", words(), Some("two-words".into())),
        ("other-word", "Another.", words(), None),
    ];
    let want =
        want.map(|(name, help, kind, default)| Spec { name: name.into(), help: help.into(), kind, default });
    assert_eq!(Options::specs(), want);
}

#[test]
fn what_is_read() {
    let defaults = Options {
        text: "default".into(),
        r#where: "somewhere".into(),
        maybe_text: None,
        switch: false,
        other_switch: true,
        known: None,
        number: 5_000_000_000,
        below: -1,
        zero: 0,
        list: vec![],
        full: vec!["a".into(), "b".into()],
        word: Word::TwoWords,
        other_word: None,
    };
    assert_eq!(read(&[]), defaults);
    let given = [("maybe-text", "x"), ("on", "false"), ("list", "c,d"), ("word", "3"), ("other-word", "one")];
    let want = Options {
        maybe_text: Some("x".into()),
        other_switch: false,
        list: vec!["c".into(), "d".into()],
        word: Word::Three,
        other_word: Some(Word::One),
        ..defaults
    };
    assert_eq!(read(&given), want);
}
