//! `cargo xtask demo`: a real server is recorded, and then runs under the profile that came of it.
//!
//! Whatever the demonstration claims, it has checked; otherwise it ends with an error.

use std::{
    fs,
    io::{self, IsTerminal as _, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    build,
    process::{end, show},
};

const PYTHON: &str = "/usr/bin/python3";
/// What the server serves, so that an answer is known to be its own.
const PAGE: &str = "Hello from the demonstration of gadgetd\n";
const PATIENCE: Duration = Duration::from_mins(1);
/// A call that a server of files has no use for.
const UNUSED_CALL: &str = "mkdir";

/// Records, confines, and tries to break out.
pub(crate) fn run() -> Result<()> {
    ensure!(Path::new(PYTHON).is_file(), "{PYTHON} is missing: run `cargo xtask setup`");
    let gadgetd = build::quick()?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let profile = folder.path().join("profile.json");
    let site = folder.path().join("site");
    fs::create_dir(&site)?;
    fs::write(site.join("index.html"), PAGE)?;

    step("1. A server of files runs for as long as it takes to ask for one page; gadgetd records it.");
    let mut record = Command::new(&gadgetd);
    record.args(["run", "seccomp", "-o"]).arg(&profile).arg("--");
    serve(record, &site).context("the server did not work while it was recorded")?;

    step("2. This is its seccomp profile, as any OCI runtime takes it.");
    let text = fs::read_to_string(&profile).context("gadgetd wrote no profile")?;
    println!("{text}");
    let allowed = allowed_calls(&text)?;
    for call in ["socket", "listen", "execve", "exit_group"] {
        ensure!(allowed.iter().any(|name| name == call), "the profile lacks {call}, which the server made");
    }
    ensure!(
        !allowed.iter().any(|name| name == UNUSED_CALL),
        "the profile allows {UNUSED_CALL}, which nobody made"
    );
    note(&format!("{} calls are allowed, every other one is refused", allowed.len()));

    step("3. The same server runs under that profile, and answers as before.");
    serve(confined(&gadgetd, &profile), &site).context("the server did not work under its own profile")?;

    step(&format!("4. Under the same profile Python calls {UNUSED_CALL}, which the server never did."));
    let complaint = make_folder(Command::new(PYTHON), &folder.path().join("free"))?;
    ensure!(complaint.is_none(), "{UNUSED_CALL} fails without any profile: {complaint:?}");
    note("without the profile, the folder is made");
    let mut under_profile = confined(&gadgetd, &profile);
    under_profile.arg(PYTHON);
    let forbidden = folder.path().join("forbidden");
    let complaint = make_folder(under_profile, &forbidden)?.unwrap_or_default();
    ensure!(
        complaint.starts_with("PermissionError: [Errno 1]"),
        "under the profile Python said: {complaint:?}"
    );
    ensure!(!forbidden.exists(), "under the profile, the folder was made");
    note(&format!("under the profile, the kernel refuses: {complaint}"));

    println!(
        "\nThe profile holds. Now with a program of yours:\n  {} run seccomp -- COMMAND\n\
         `cargo xtask build` makes the whole gadgetd, optimized, and kubectl-gadget.",
        gadgetd.display()
    );
    Ok(())
}

fn step(text: &str) {
    let (bold, plain) = if io::stdout().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    println!("\n{bold}{text}{plain}");
}

fn note(text: &str) {
    println!("=> {text}");
}

fn confined(gadgetd: &Path, profile: &Path) -> Command {
    let mut command = Command::new(gadgetd);
    command.args(["confine", "--profile"]).arg(profile).arg("--");
    command
}

/// Runs a server of `site` under `command`, asks it for the page, and stops it as Ctrl-C would.
fn serve(mut command: Command, site: &Path) -> Result<()> {
    let port = free_port()?;
    command
        .args([PYTHON, "-m", "http.server", "--bind", "127.0.0.1", "--directory"])
        .arg(site)
        .arg(port.to_string());
    println!("$ {}", show(&command));
    let mut server = Running(command.spawn().context("cannot start it")?);
    let page = server.page(port)?;
    ensure!(page.ends_with(PAGE), "it answered with something else:\n{page}");
    note(&format!("GET / gave: {}", PAGE.trim_end()));
    kill_process(Pid::from_child(&server.0), Signal::INT).context("cannot stop it")?;
    let status = server.wait()?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

/// A child that does not outlive us.
struct Running(Child);

impl Running {
    /// Asks for the page until there is an answer.
    fn page(&mut self, port: u16) -> Result<String> {
        patiently("answer", || match (get(port), self.0.try_wait()?) {
            (Ok(page), _) => Ok(Some(page)),
            (Err(_), Some(status)) => bail!("it ended with {status} before it answered"),
            (Err(_), None) => Ok(None),
        })
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        patiently("stop", || Ok(self.0.try_wait()?))
    }
}

/// Asks again until there is something.
fn patiently<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        ensure!(Instant::now() < deadline, "it does not {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // gadgetd passes it on, so its command ends too.
            let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
            let _ = self.0.wait();
        }
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port")?;
    Ok(listener.local_addr()?.port())
}

fn get(port: u16) -> Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.0 200"), "the server answered: {answer}");
    Ok(answer)
}

/// The names that a profile allows.
fn allowed_calls(profile: &str) -> Result<Vec<String>> {
    let profile: Value = serde_json::from_str(profile).context("the profile is not JSON")?;
    ensure!(
        profile["defaultAction"] == "SCMP_ACT_ERRNO",
        "the profile's default action is not SCMP_ACT_ERRNO"
    );
    let rules = profile["syscalls"].as_array().context("the profile has no rules")?;
    let allowing = rules.iter().filter(|rule| rule["action"] == "SCMP_ACT_ALLOW");
    let names = allowing.flat_map(|rule| rule["names"].as_array().into_iter().flatten());
    Ok(names.filter_map(Value::as_str).map(str::to_owned).collect())
}

/// Has Python make a folder, and returns its complaint, if any.
fn make_folder(mut python: Command, folder: &Path) -> Result<Option<String>> {
    python.arg("-c").arg(format!("import os; os.mkdir(\"{}\")", folder.display()));
    println!("$ {}", show(&python));
    let output = python.output().with_context(|| format!("cannot start `{}`", show(&python)))?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    Ok((!output.status.success()).then(|| end(&complaint, 1)))
}
