//! A real registry, and what can stand between it and a client.
//!
//! [`Registry`] is Debian's `docker-registry` on a port of its own, with its files in a folder of its own, where tests
//! damage them. [`Front`] passes requests on to one, except for those that a test answers in another way.
//!
//! ```no_run
//! use gadgetd_registry_tests::{Front, Registry};
//!
//! let registry = Registry::start();
//! let front = Front::before(&registry, |path| path.contains("/blobs/").then(|| b"HTTP/1.1 500 Oops\r\n\r\n".to_vec()));
//! assert_ne!(registry.address(), front.address());
//! ```

use std::{
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

/// Who may use a registry that was started [with a login](Options::login).
pub const LOGIN: (&str, &str) = ("me", "secret");
/// The same, as `htpasswd -Bbn me secret` writes it.
const HTPASSWD: &str = "me:$2b$04$r3Y3XbXslMsXtsxFFQ.gT.eHmNYlNN.AsOvLpPCa/.HkzqJWGSNkW\n";

/// How a registry is started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Nobody may do anything without [`LOGIN`].
    pub login: bool,
    /// It speaks TLS, with a certificate of an authority of its own.
    pub tls: bool,
}

/// A registry that runs until this is dropped.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    folder: TempDir,
    address: String,
    port: u16,
    authority: Option<String>,
}

impl Registry {
    /// Starts one that is open to everybody on this machine.
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts one.
    pub fn start_with(options: Options) -> Self {
        let folder = tempfile::tempdir().expect("no folder for a registry");
        let at = |name: &str| folder.path().join(name);
        let mut config = format!(
            "version: 0.1\nlog: {{accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: 127.0.0.1:0\n  secret: none\n",
            at("data").display()
        );
        let mut authority = None;
        if options.tls {
            authority = Some(certificates(folder.path()));
            let (certificate, key) = (at("server.crt"), at("server.key"));
            config += "  tls: {certificate: ";
            config.extend([&*certificate.to_string_lossy(), ", key: ", &key.to_string_lossy(), "}\n"]);
        }
        if options.login {
            fs::write(at("htpasswd"), HTPASSWD).expect("cannot write the logins");
            config += "auth: {htpasswd: {realm: test, path: ";
            config.extend([&*at("htpasswd").to_string_lossy(), "}}\n"]);
        }
        fs::write(at("config.yml"), config).expect("cannot write the registry's configuration");
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(at("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cannot start docker-registry; `cargo xtask setup` installs it");
        let mut log = BufReader::new(process.stderr.take().expect("it is piped"));
        let (port, before) = port(&mut log);
        let Some(port) = port else { panic!("docker-registry does not listen:\n{before}") };
        // What nobody reads would stop it in the end.
        thread::spawn(move || io::copy(&mut log, &mut io::sink()));
        let address = format!("127.0.0.1:{port}");
        Self { process, folder, address, port, authority }
    }

    /// The host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of its authority, in PEM.
    pub fn authority(&self) -> &str {
        self.authority.as_deref().expect("it speaks no TLS")
    }

    /// The file in which it has the content with this digest, `sha256:…`.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("a registry has SHA-256");
        self.folder.path().join(format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }

    /// The digests of all that it has under a tag: the last manifest that was pushed.
    pub fn tagged(&self, repository: &str, tag: &str) -> String {
        let link =
            format!("data/docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}/current/link");
        fs::read_to_string(self.folder.path().join(link)).expect("there is no such tag")
    }

    /// Ends it. Its files stay until it is dropped.
    pub fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The port that it says it listens on, and all it said before.
fn port(log: &mut impl BufRead) -> (Option<u16>, String) {
    let mut said = String::new();
    let mut line = String::new();
    while log.read_line(&mut line).is_ok_and(|n| n > 0) {
        if let Some((_, rest)) = line.split_once("listening on 127.0.0.1:") {
            let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
            return (digits.and_then(|digits| digits.parse().ok()), said);
        }
        said += &std::mem::take(&mut line);
    }
    (None, said)
}

/// Writes a certificate for this machine, and returns that of its authority.
fn certificates(folder: &Path) -> String {
    let made = || -> Result<String, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
        fs::write(folder.join("server.crt"), certificate.pem()).expect("cannot write a certificate");
        fs::write(folder.join("server.key"), key.serialize_pem()).expect("cannot write a key");
        Ok(authority.pem())
    };
    made().expect("cannot make certificates")
}

/// What a [`Front`] does with a request: `None` passes it on.
pub type Answer = dyn Fn(&str) -> Option<Vec<u8>> + Send + Sync;

/// A server that stands before a registry, or alone. It ends when this is dropped.
pub struct Front {
    address: String,
    ended: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Front {
    /// Starts one before a registry. `answer` is given the head of each request, from its method on, and may give the bytes of an
    /// answer, which are sent as they are; after them the connection is closed, which they
    /// had better say (`Connection: close`), unless they end in [`Front::HANG`].
    pub fn before(
        registry: &Registry,
        answer: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        Self::start(Some(registry.address.clone()), Arc::new(answer))
    }

    /// Starts one that is all there is.
    pub fn alone(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start(None, Arc::new(move |head: &str| Some(answer(head))))
    }

    /// After these bytes nothing follows, and the connection stays open. They are not sent.
    pub const HANG: &[u8] = b"\0hang";
    /// After these bytes zeros follow without an end. They are not sent.
    pub const ENDLESS: &[u8] = b"\0endless";

    /// The host and port.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The first lines of all requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no thread panics with it").clone()
    }

    fn start(upstream: Option<String>, answer: Arc<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("no port for a server");
        let address = listener.local_addr().expect("it is bound").to_string();
        let (ended, asked) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let front = Self { address, ended: Arc::clone(&ended), asked: Arc::clone(&asked) };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Acquire) {
                    return;
                }
                let (upstream, answer, asked) = (upstream.clone(), Arc::clone(&answer), Arc::clone(&asked));
                // Whatever breaks here, the client sees and tells.
                thread::spawn(move || serve(stream, upstream.as_deref(), &*answer, &asked).ok());
            }
        });
        front
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        // It waits for a connection.
        let _ = TcpStream::connect(&self.address);
    }
}

/// Answers one request.
fn serve(
    mut stream: TcpStream,
    upstream: Option<&str>,
    answer: &Answer,
    asked: &Mutex<Vec<String>>,
) -> io::Result<()> {
    let mut head = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let first = head.lines().next().unwrap_or_default().to_owned();
    asked.lock().expect("no thread panics with it").push(first);
    if let Some(answer) = answer(&head) {
        if let Some(begun) = answer.strip_suffix(Front::HANG) {
            stream.write_all(begun)?;
            // Until the client has enough of it.
            return io::copy(&mut reader, &mut io::sink()).map(drop);
        }
        if let Some(begun) = answer.strip_suffix(Front::ENDLESS) {
            stream.write_all(begun)?;
            return io::copy(&mut io::repeat(0), &mut stream).map(drop);
        }
        stream.write_all(&answer)?;
        return stream.shutdown(Shutdown::Both);
    }
    let Some(upstream) = upstream else { return Ok(()) };
    let mut registry = TcpStream::connect(upstream)?;
    // One request for each connection.
    let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
    registry.write_all(head.as_bytes())?;
    let mut back = registry.try_clone()?;
    let mut out = stream.try_clone()?;
    let answers = thread::spawn(move || {
        io::copy(&mut back, &mut out)?;
        out.shutdown(Shutdown::Both)
    });
    copy_body(&mut reader, &mut registry, &head)?;
    answers.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
}

/// Passes on as many bytes as the head of a request says that there are.
fn copy_body(from: &mut impl Read, to: &mut impl Write, head: &str) -> io::Result<()> {
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    io::copy(&mut from.take(length.unwrap_or(0)), to).map(drop)
}
