//! What the host makes of files that are no modules, or modules for something else.

mod common;

use common::{Guest, HOST, assert_host_is_well};
use gadgetd_host::{Host, HostConfig, Limits, ModuleError, ModuleRef, Role, built_in};

/// A component that exports both interfaces of a gadget in this version, with `functions` in each, and has `inner` in it.
fn component(version: &str, inner: &str, functions: &str) -> Vec<u8> {
    let exports = ["module", "gadget"].map(|interface| {
        format!(r#"(instance ${interface} {functions}) (export "gadget:framework/{interface}@{version}" (instance ${interface}))"#)
    });
    wat::parse_str(format!("(component {inner} {})", exports.concat())).unwrap()
}

/// A core module in a component, instantiated, with a function `f` that is lifted.
fn with_core(module: &str) -> Vec<u8> {
    let inner = format!(
        r#"(core module $m {module} (func (export "f")))
           (core instance $i (instantiate $m))
           (func $f (canon lift (core func $i "f")))"#
    );
    component("0.1.0", &inner, r#"(export "describe" (func $f)) (export "generate" (func $f))"#)
}

async fn error(content: &[u8]) -> ModuleError {
    let guest = Guest::new("guest", content);
    let error = HOST.gadget(&guest.module()).await.expect_err("it is no gadget");
    let text = error.to_string();
    assert!(text.contains(&format!("gadget {}", guest.path.display())), "{text:?} does not name the module");
    assert_host_is_well().await;
    error
}

#[tokio::test]
async fn what_is_no_component_is_said_to_be_what_it_is() {
    let core = wat::parse_str("(module)").unwrap();
    let rows: [(&[u8], &str); 5] = [
        (b"", "it is empty"),
        (b"#!/bin/sh\necho hello\n", "it is text"),
        (b"\x7fELF\x02\x01\x01\0\0\0\0\0\xff", "does not begin as WebAssembly does"),
        (&core, "it is a core module; link it with wasm-component-ld"),
        (b"\0asm\x0a\0\x01\0", "a version of the format that is not known"),
    ];
    for (content, says) in rows {
        let error = error(content).await;
        assert!(matches!(error, ModuleError::NotAComponent { .. }), "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn a_broken_component_is_refused_by_the_compiler() {
    let whole = gadgetd_guests::gadget(None);
    let mut scrambled = whole.clone();
    scrambled[whole.len() / 2..].reverse();
    for content in [b"\0asm\x0d\0\x01\0garbage", &whole[..whole.len() / 2], &scrambled] {
        let error = error(content).await;
        assert!(matches!(error, ModuleError::Compile { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_component_for_another_world_is_told_what_it_lacks() {
    let error = error(&wat::parse_str("(component)").unwrap()).await.to_string();
    assert!(
        error.ends_with("does not export gadget:framework/module@0.1.0, gadget:framework/gadget@0.1.0"),
        "{error}"
    );
}

#[tokio::test]
async fn gadgets_and_formatters_are_not_taken_for_each_other() {
    let formatter = gadgetd_guests::formatter(None);
    let error = error(&formatter).await;
    assert!(matches!(error, ModuleError::WrongRole { is: Role::Formatter, .. }), "{error}");
    let gadget = Guest::new("guest", &gadgetd_guests::gadget(None));
    let error = HOST.formatter(&gadget.module()).await.unwrap_err();
    assert!(matches!(error, ModuleError::WrongRole { is: Role::Gadget, .. }), "{error}");
    assert!(error.to_string().contains("is a gadget: it exports gadget:framework/gadget@0.1.0"), "{error}");
}

#[tokio::test]
async fn another_version_of_the_contract_is_named() {
    for version in ["1.0.0", "0.2.0", "0.1.1", "0.1.0-rc.1"] {
        let error = error(&component(version, "", "")).await;
        assert!(matches!(error, ModuleError::Version { .. }), "{error}");
        let needs =
            format!("needs gadget:framework/module@{version}; this gadgetd has gadget:framework@0.1.0");
        assert!(error.to_string().contains(&needs), "{error}");
    }
}

#[tokio::test]
async fn nothing_but_the_contract_can_be_imported() {
    let rows = [
        (r#"(import "wasi:filesystem/preopens@0.2.0" (instance))"#, "wasi:filesystem/preopens@0.2.0"),
        (r#"(import "gadget:framework/kernel@0.1.0" (instance))"#, "gadget:framework/kernel@0.1.0"),
        (r#"(import "now" (func))"#, "now"),
    ];
    for (import, name) in rows {
        let error = error(&component("0.1.0", import, "")).await;
        assert!(matches!(error, ModuleError::Imports { .. }), "{error}");
        assert!(error.to_string().contains(&format!("imports {name}: a module gets no files")), "{error}");
    }
}

#[tokio::test]
async fn a_function_of_another_shape_is_refused() {
    for functions in [component("0.1.0", "", ""), with_core("")] {
        let error = error(&functions).await;
        assert!(matches!(error, ModuleError::Shape { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_component_that_asks_for_too_much_or_traps_at_once_is_refused() {
    let rows = [
        ("(func $start unreachable) (start $start)", "panicked"),
        ("(func $start (loop br 0)) (start $start)", "ran for more than 300ms"),
        ("(memory 2000)", "needs more memory than the 64 MiB it may have"),
        ("(table 100000 funcref)", "20000"),
        (
            "(table $t 1 funcref)
             (func $start (loop (br_if 0 (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable)
             (start $start)",
            "needs a table of more than the 20000 elements it may have",
        ),
    ];
    for (module, says) in rows {
        let error = error(&with_core(module)).await;
        assert!(error.to_string().contains(says), "{error}");
    }
    let many = "(core module $x)".to_owned() + &"(core instance (instantiate $x))".repeat(400);
    let error = error(&component("0.1.0", &many, "")).await;
    assert!(error.to_string().contains("256"), "{error}");
}

#[tokio::test]
async fn a_large_file_is_refused_before_it_is_compiled() {
    let limits = Limits { module_size: 1000, ..Limits::default() };
    let host = Host::new(HostConfig { limits, ..HostConfig::default() }).unwrap();
    let guest = Guest::new("guest", &gadgetd_guests::gadget(None));
    let error = host.gadget(&guest.module()).await.unwrap_err();
    assert!(matches!(error, ModuleError::TooLarge { .. }), "{error}");
    assert!(error.to_string().contains("is larger than the 1000 bytes"), "{error}");
}

#[tokio::test]
async fn compiling_is_bounded_in_time() {
    let limits = Limits { compile: std::time::Duration::ZERO, ..Limits::default() };
    let host = Host::new(HostConfig { limits, ..HostConfig::default() }).unwrap();
    let error = host.gadget(&ModuleRef::parse("seccomp")).await.unwrap_err();
    assert!(error.to_string().starts_with("compiling gadget seccomp takes more than"), "{error}");
}

#[tokio::test]
async fn shipped_modules_import_the_contract_and_nothing_else() {
    let mut listing = Vec::new();
    let mut add = |label: &str, imports: Vec<(String, Vec<String>)>| {
        listing.push(label.to_owned());
        for (interface, functions) in imports {
            assert!(interface.starts_with("gadget:framework/"), "{label} imports {interface}");
            listing.push(format!("  {interface}: {}", functions.join(", ")));
        }
    };
    for name in built_in(Role::Gadget) {
        let gadget = HOST.gadget(&ModuleRef::parse(name)).await.unwrap();
        add(gadget.label(), gadget.imports());
    }
    for name in built_in(Role::Formatter) {
        let formatter = HOST.formatter(&ModuleRef::parse(name)).await.unwrap();
        add(formatter.label(), formatter.imports());
    }
    insta::assert_snapshot!(listing.join("\n"));
}
