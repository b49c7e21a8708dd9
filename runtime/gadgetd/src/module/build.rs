//! `gadgetd module build`: from a project to a component, with the tools that its language has.
//!
//! What is to be done stands in the project, where its author can change it: in `Cargo.toml`, `package.json`, `Makefile`.
//! This command finds the tools, and says which of them are missing and how to get them.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Args;
use gadgetd_artifacts::toolchain::{self, Part, find_program};
use serde_json::Value;
use wit_bindgen_core::{Files, wit_parser::Resolve};

use super::new::Language;
use crate::note;

/// Where make puts a component: to make, a path with a blank is two.
const C_OUTPUT: &str = "gen/module.wasm";

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// The folder of the project.
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,

    /// The file of the component. Default: `NAME.wasm` in the project's folder, with the folder's name.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Builds the project. What its tools print goes to standard error.
pub(crate) fn run(args: &BuildArgs) -> Result<ExitCode> {
    let folder =
        args.dir.canonicalize().with_context(|| format!("there is no folder {}", args.dir.display()))?;
    let language = recognize(&folder)?;
    let output = if let Some(file) = &args.output {
        std::path::absolute(file).with_context(|| format!("{} is no path", file.display()))?
    } else {
        let name = folder.file_name().context("the root of the file system is no project")?;
        folder.join(name).with_extension("wasm")
    };
    match language {
        Language::Rust => rust(&folder, &output)?,
        Language::Python => execute(&mut python(&folder, &output)?)?,
        Language::Js => execute(&mut javascript(&folder, &output)?)?,
        Language::C => {
            execute(&mut c(&folder)?)?;
            fs::copy(folder.join(C_OUTPUT), &output)
                .with_context(|| format!("cannot copy the component to {}", output.display()))?;
        }
    }
    let size = fs::metadata(&output)
        .with_context(|| format!("the build succeeded, and made no {}", output.display()))?
        .len();
    note(&format!("{} has {} KiB", output.display(), size.div_ceil(1024)));
    Ok(ExitCode::SUCCESS)
}

/// The language of a project, by the file that every project of that language has.
fn recognize(folder: &Path) -> Result<Language> {
    const MARKS: [(&str, Language); 4] = [
        ("Cargo.toml", Language::Rust),
        ("package.json", Language::Js),
        ("app.py", Language::Python),
        ("Makefile", Language::C),
    ];
    let found = MARKS.iter().find(|(file, _)| folder.join(file).is_file());
    found.map(|(_, language)| *language).ok_or_else(|| {
        let files: Vec<_> = MARKS.iter().map(|(file, _)| *file).collect();
        anyhow!(
            "{} is no project of a module: it has none of {}; make one with `gadgetd module new`",
            folder.display(),
            files.join(", ")
        )
    })
}

/// With cargo. Which file it makes, cargo says itself.
fn rust(folder: &Path, output: &Path) -> Result<()> {
    let mut cargo = gadgetd_artifacts::component_build().map_err(|missing| {
        let get = match missing.part {
            Part::WasmStd => "rustup target add wasm32-unknown-unknown",
            _ => "rustup update (a Rust toolchain has it), or: cargo install wasm-component-ld, with lld",
        };
        anyhow!("{} is missing; install it: {get}", missing.part)
    })?;
    cargo.current_dir(folder).args(["--release", "--message-format=json-render-diagnostics"]);
    // What cargo was told for the project is not what it was told for whatever calls us.
    if let Some(target) = env::var_os("CARGO_TARGET_DIR") {
        cargo.env("CARGO_TARGET_DIR", target);
    }
    let mut child = cargo.stdout(Stdio::piped()).spawn().with_context(|| cannot_start(&cargo))?;
    let messages = child.stdout.take().context("cargo has no standard output")?;
    let mut made = None;
    for line in BufReader::new(messages).lines() {
        let message: Value = serde_json::from_str(&line?).context("cargo wrote something else than JSON")?;
        made = component(&message).or(made);
    }
    let status = child.wait()?;
    ensure!(
        status.success(),
        "cargo could not build {} ({status}): see what it says above",
        folder.display()
    );
    let made = made.with_context(|| {
        format!(
            "{} has no library of crate type `cdylib`: add it in Cargo.toml, under [lib]",
            folder.display()
        )
    })?;
    fs::copy(&made, output)
        .with_context(|| format!("cannot copy {} to {}", made.display(), output.display()))?;
    Ok(())
}

/// The component that a message of cargo's tells of.
fn component(message: &Value) -> Option<PathBuf> {
    let mut files = message["filenames"].as_array()?.iter().filter_map(Value::as_str).map(PathBuf::from);
    files.find(|file| file.extension().is_some_and(|e| e == "wasm"))
}

/// With componentize-py, of the project's virtual environment or of the system.
fn python(folder: &Path, output: &Path) -> Result<Command> {
    let environment = folder.join(".venv");
    let own = environment.join("bin/componentize-py");
    let mut command = if own.is_file() {
        let mut command = Command::new(own);
        command.env("VIRTUAL_ENV", environment);
        command
    } else {
        Command::new(find("componentize-py", || {
            "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt (in the project's folder)"
                .into()
        })?)
    };
    // Without a WASI that does nothing in its place, the component would ask for a real one, and be refused.
    command.args(["--wit-path", "wit", "componentize", "--stub-wasi", "app", "--output"]).arg(output);
    command.current_dir(folder);
    Ok(command)
}

/// With npm, by the project's own script.
fn javascript(folder: &Path, output: &Path) -> Result<Command> {
    let npm = find("npm", || "Node.js 20 or newer, which has it; on Debian: apt-get install npm".into())?;
    if !folder.join("node_modules/.bin/jco").is_file() {
        find("jco", || "npm install (in the project's folder)".into())?;
    }
    let mut command = Command::new(npm);
    command.args(["run", "--silent", "build", "--", "--out"]).arg(output).current_dir(folder);
    Ok(command)
}

/// With make, by the project's own Makefile, which takes the tools as variables.
fn c(folder: &Path) -> Result<Command> {
    let make = find("make", || "on Debian: apt-get install make".into())?;
    let clang = toolchain::wasi_clang().ok_or_else(|| {
        missing(
            "a clang with wasi-libc",
            "on Debian: apt-get install clang-22 libclang-rt-22-dev-wasm32 wasi-libc",
        )
    })?;
    let linker = toolchain::wasm_linker().ok_or_else(|| {
        missing(
            "wasm-component-ld",
            "a Rust toolchain from rustup, which has it, or: cargo install wasm-component-ld",
        )
    })?;
    bindings(folder)?;
    let mut cc = clang.into_os_string();
    if let Some(folder) = toolchain::wasm_ld(&linker).as_deref().and_then(Path::parent) {
        // Where clang looks for the wasm-ld that it tells the linker of.
        cc.push(" -B");
        cc.push(folder);
    }
    let variable = |name: &str, value: &OsStr| {
        let mut variable = OsString::from(name);
        variable.push("=");
        variable.push(value);
        variable
    };
    let mut command = Command::new(make);
    command.arg("--no-print-directory").current_dir(folder);
    command.arg(variable("CC", &cc)).arg(variable("LD", linker.as_os_str()));
    command.arg(variable("OUT", OsStr::new(C_OUTPUT)));
    Ok(command)
}

/// Writes what `wit-bindgen c` writes: C for the world of the project, in its folder `gen`.
fn bindings(folder: &Path) -> Result<()> {
    let wit = folder.join("wit");
    let generated = || -> Result<Files> {
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_path(&wit)?;
        let world = resolve.select_world(&[package], None)?;
        let mut files = Files::default();
        wit_bindgen_c::Opts::default().build().generate(&mut resolve, world, &mut files)?;
        Ok(files)
    };
    let files = generated().with_context(|| format!("cannot make bindings of {}", wit.display()))?;
    let place = folder.join("gen");
    fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    for (name, content) in files.iter() {
        let file = place.join(name);
        fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// A program on `PATH`, or the sentence that says how to get it.
fn find(program: &str, get: impl FnOnce() -> String) -> Result<PathBuf> {
    find_program(program).ok_or_else(|| missing(program, &get()))
}

fn missing(what: &str, get: &str) -> anyhow::Error {
    anyhow!("{what} is missing; install it: {get}")
}

/// Runs a tool to its end. What it prints is for people.
fn execute(command: &mut Command) -> Result<()> {
    let program =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let output = std::io::stderr();
    command.stdin(Stdio::null()).stdout(output);
    let status = command.status().with_context(|| cannot_start(command))?;
    if status.success() {
        return Ok(());
    }
    bail!("{program} failed ({status}): see what it says above")
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start {}", Path::new(command.get_program()).display())
}
