//! `gadgetd module new`: a project to begin with, from the templates in `sdk/templates`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use include_dir::{Dir, include_dir};

use crate::note;

static TEMPLATES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../sdk/templates");
static CONTRACT: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../../sdk/wit");

/// What a template has in the place of the module's name, and where a name cannot have a `-`.
const NAME: [&str; 2] = ["my-module", "my_module"];
/// What a template in Rust has in the place of the SDK's whereabouts.
const SDK: &str = r#"path = "../../../rust""#;
/// The longest name that the host accepts.
const NAME_MAX: usize = 64;

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// The name of the module: lower case, words joined by `-`.
    #[arg(value_name = "NAME", value_parser = name)]
    name: String,

    /// The language of the module.
    #[arg(long, value_enum)]
    lang: Language,

    /// The kind of module: a gadget turns captures into documents, a formatter turns a policy into a document.
    #[arg(long, value_enum)]
    kind: Kind,

    /// The folder to create. Default: the name of the module.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// For Rust: the folder of the crate `gadget-sdk`. Default: gadgetd's repository at the release of this gadgetd.
    #[arg(long, env = "GADGETD_SDK", value_name = "DIR")]
    sdk: Option<PathBuf>,
}

/// A language that modules can be written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    Rust,
    Python,
    Js,
    C,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Gadget,
    Formatter,
}

/// What it is called, on the command line and among the templates.
fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Writes the project and says what to do next.
pub(crate) fn run(args: &NewArgs) -> Result<ExitCode> {
    let folder = args.dir.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    let sdk = sdk(args.sdk.as_deref())?;
    let files = files(args, &sdk)?;
    make_folder(&folder)?;
    for (path, content) in files {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let shown = folder.display();
    note(&format!("{shown} is a {} now; its README.md says what to do with it", word(&args.kind)));
    note(&format!("build it: gadgetd module build {shown}; test it: gadgetd module test {shown}"));
    Ok(ExitCode::SUCCESS)
}

/// Where `Cargo.toml` says that the SDK is.
fn sdk(given: Option<&Path>) -> Result<String> {
    let Some(folder) = given else {
        let (repository, version) = (env!("CARGO_PKG_REPOSITORY"), env!("CARGO_PKG_VERSION"));
        return Ok(format!(r#"git = "{repository}", tag = "v{version}""#));
    };
    let manifest = folder.join("Cargo.toml");
    let is_sdk = fs::read_to_string(&manifest).is_ok_and(|text| text.contains(r#"name = "gadget-sdk""#));
    ensure!(
        is_sdk,
        "{} is not the folder of the crate gadget-sdk, which is sdk/rust in gadgetd's sources",
        folder.display()
    );
    let folder =
        folder.canonicalize().with_context(|| format!("cannot look at the folder {}", folder.display()))?;
    let path = folder.to_str().with_context(|| format!("{} is not UTF-8", folder.display()))?;
    // A string of JSON is one of TOML as well.
    Ok(format!("path = {}", serde_json::to_string(path)?))
}

/// The files of the project, by their paths in it.
fn files(args: &NewArgs, sdk: &str) -> Result<Vec<(PathBuf, String)>> {
    let language = word(&args.lang);
    let mut files = Vec::new();
    let kind = word(&args.kind);
    for folder in [format!("{language}/common"), format!("{language}/{kind}"), format!("any/{kind}")] {
        let template =
            TEMPLATES.get_dir(&folder).with_context(|| format!("there is no template {folder}"))?;
        collect(template, template.path(), &mut files)?;
    }
    if args.lang != Language::Rust {
        let mut contract = Vec::new();
        collect(&CONTRACT, Path::new(""), &mut contract)?;
        let place = Path::new("wit/deps/gadget-framework");
        files.extend(contract.into_iter().map(|(path, text)| (place.join(path), text)));
    }
    let [name, identifier] = [args.name.clone(), args.name.replace('-', "_")];
    let fill = |text: &str| text.replace(NAME[0], &name).replace(NAME[1], &identifier).replace(SDK, sdk);
    let filled =
        files.into_iter().map(|(path, text)| (PathBuf::from(fill(&path.to_string_lossy())), fill(&text)));
    Ok(filled.collect())
}

/// Every file below a folder, by its path from `root`.
fn collect(folder: &Dir<'_>, root: &Path, files: &mut Vec<(PathBuf, String)>) -> Result<()> {
    for file in folder.files() {
        let path = file.path();
        let text = file.contents_utf8().with_context(|| format!("{} is not UTF-8", path.display()))?;
        files.push((path.strip_prefix(root)?.to_owned(), text.to_owned()));
    }
    folder.dirs().try_for_each(|folder| collect(folder, root, files))
}

/// Makes the folder; one that is there may be empty, and no more.
fn make_folder(folder: &Path) -> Result<()> {
    match fs::read_dir(folder) {
        Ok(mut entries) => ensure!(
            entries.next().is_none(),
            "{} is not empty, and nothing is overwritten: take another folder with --dir",
            folder.display()
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot use {}", folder.display()));
        }
    }
    Ok(())
}

/// A name that the host accepts and that a package can have.
fn name(text: &str) -> Result<String, String> {
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    if !text.split('-').all(is_word) {
        Err("a name has lower-case words that begin with a letter, joined by `-`, such as count-calls".into())
    } else if text.len() > NAME_MAX {
        Err(format!("a name has {NAME_MAX} characters at most"))
    } else {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use gadgetd_host::recording::Recording;

    use super::*;

    #[test]
    fn names_are_lower_case_words() {
        for good in ["a", "count", "count-calls", "v2", "a-b-c9"] {
            assert_eq!(name(good), Ok(good.to_owned()));
        }
        let long = "a".repeat(NAME_MAX + 1);
        for bad in ["", "-", "a-", "-a", "a--b", "A", "ä", "a_b", "a b", "2a", "a-2", "../a", "a/b", &long] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_template_is_a_whole_project_of_that_name() {
        for lang in Language::value_variants() {
            for kind in Kind::value_variants() {
                let args =
                    NewArgs { name: "count-calls".into(), lang: *lang, kind: *kind, dir: None, sdk: None };
                let files = files(&args, &sdk(None).unwrap()).unwrap();
                let has = |path: &str| files.iter().any(|(file, _)| file == Path::new(path));
                assert!(has("README.md") && has(".gitignore"), "{lang:?} {kind:?}");
                assert_eq!(has("wit/deps/gadget-framework/worlds.wit"), *lang != Language::Rust);
                for (path, text) in &files {
                    let shown = path.display().to_string();
                    let left = NAME
                        .iter()
                        .chain([&SDK])
                        .find(|mark| text.contains(**mark) || shown.contains(**mark));
                    assert_eq!(left, None, "in {shown} of {lang:?} {kind:?}");
                }
                assert!(files.iter().any(|(_, text)| text.contains("count-calls")), "{lang:?} {kind:?}");
                let tests: Vec<_> = files.iter().filter(|(path, _)| path.starts_with("tests")).collect();
                assert!(!tests.is_empty(), "{lang:?} {kind:?}");
                for (path, text) in tests {
                    let recording = Recording::parse(text.as_bytes());
                    let recording = recording.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                    assert!(recording.result.is_some(), "{} says nothing", path.display());
                }
            }
        }
    }

    #[test]
    fn the_sdk_is_that_of_the_release_or_a_folder() {
        let version = env!("CARGO_PKG_VERSION");
        assert!(sdk(None).unwrap().ends_with(&format!(r#"tag = "v{version}""#)));
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/rust");
        let said = sdk(Some(&ours)).unwrap();
        assert!(said.starts_with(r#"path = "/"#) && said.ends_with(r#"sdk/rust""#), "{said}");
        let error = sdk(Some(Path::new("/usr"))).unwrap_err().to_string();
        assert!(error.contains("sdk/rust in gadgetd's sources"), "{error}");
    }
}
