//! The node that tests get runs pods as any other does, and leaves nothing on the machine.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use gadgetd_e2e::images::{self, Image};
use gadgetd_e2e::{Node, Tier, assets, eventually};
use serde_json::json;
use tokio::sync::Mutex;

/// Each of these tests looks at the whole machine.
static MACHINE: Mutex<()> = Mutex::const_new(());

#[tokio::test]
async fn pods_run_and_nothing_is_left_of_them() -> Result<()> {
    if assets(Tier::Node).is_none() {
        return Ok(());
    }
    let _alone = MACHINE.lock().await;
    let before = traces()?;
    let kernel = settings()?;
    ensure!(before.is_empty(), "left by something else: {before:?}");

    let node = Node::start().await?;
    ensure!(node.kubectl_output(&["get", "node", Node::NAME])?.contains("Ready"));
    let seen = traces()?;
    for expected in ["cgroup kubepods", "cgroup gadgetd-e2e", "link gadgetd-e2e"] {
        assert!(
            seen.contains(expected),
            "{expected} is not among {seen:?}: this test would see nothing left"
        );
    }

    let profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    });
    fs::write(node.path("/var/lib/kubelet/seccomp/no-mkdir.json"), profile.to_string())?;
    pod(&node, "free", Image::Busybox, &json!({"type": "Unconfined"}))?;
    pod(
        &node,
        "confined",
        Image::Busybox,
        &json!({"type": "Localhost", "localhostProfile": "no-mkdir.json"}),
    )?;
    node.import(&images::build(Image::Demo)?)?;
    pod(&node, "demo", Image::Demo, &json!({"type": "RuntimeDefault"}))?;
    for name in ["free", "confined", "demo"] {
        node.kubectl_output(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=180s"])?;
    }

    let exec = |pod: &str, script: &str| node.kubectl_output(&["exec", pod, "--", "sh", "-c", script]);
    assert_eq!(
        exec("free", "mkdir /tmp/a && touch /tmp/b && ls /tmp && grep Seccomp: /proc/1/status")?,
        "a\nb\nSeccomp:\t0\n"
    );
    assert_eq!(
        exec("confined", "touch /tmp/b && ls /tmp && grep Seccomp: /proc/1/status")?,
        "b\nSeccomp:\t2\n"
    );
    let refused = exec("confined", "mkdir /tmp/a").expect_err("the profile refuses mkdir");
    assert!(refused.to_string().contains("Operation not permitted"), "{refused}");
    assert_eq!(exec("demo", "grep Seccomp: /proc/1/status")?, "Seccomp:\t2\n");

    // The pod is ready before nginx listens, and nginx before uwsgi does.
    let address = node.kubectl_output(&["get", "pod", "demo", "--output=jsonpath={.status.podIP}"])?;
    let request = format!("exec 3<>/dev/tcp/{address}/80 && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && cat <&3");
    let answer = eventually("answer of the demo", Duration::from_secs(30), async || {
        let output = node.command("bash").args(["-c", &request]).output()?;
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}{}", String::from_utf8_lossy(&output.stderr));
        Ok(answer)
    })
    .await?;
    assert!(answer.ends_with("no application is mounted\n"), "{answer}");

    // As an in-cluster client does it: service address, authority and token of the pod's account.
    let request = "import json, os, ssl, urllib.request, urllib.error
account = '/var/run/secrets/kubernetes.io/serviceaccount/'
url = 'https://%(KUBERNETES_SERVICE_HOST)s:%(KUBERNETES_SERVICE_PORT)s/api/v1/nodes' % os.environ
request = urllib.request.Request(url, headers={'Authorization': 'Bearer ' + open(account + 'token').read()})
try: urllib.request.urlopen(request, context=ssl.create_default_context(cafile=account + 'ca.crt'), timeout=10)
except urllib.error.HTTPError as error: print(json.load(error)['message'])";
    let answer = node.kubectl_output(&["exec", "demo", "--", "python3", "-c", request])?;
    assert!(answer.contains("\"system:serviceaccount:default:default\" cannot list resource"), "{answer}");

    drop(node);
    gone().await?;
    assert_eq!(settings()?, kernel);
    Ok(())
}

#[tokio::test]
async fn it_ends_with_its_process_and_at_the_latest_with_the_next_start() -> Result<()> {
    if assets(Tier::Node).is_none() {
        return Ok(());
    }
    let _alone = MACHINE.lock().await;

    let mut holder = held("true")?;
    holder.kill()?;
    holder.wait()?;
    gone().await.context("after the process of a node without pods was killed")?;

    let run = "kubectl run left --image=busybox --image-pull-policy=Never -- sleep 1000 && \
               kubectl wait --for=condition=Ready pod/left --timeout=180s";
    let mut holder = held(run)?;
    // The guardian is the child that waits on a pipe.
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", holder.id()))?;
    let guardian = children
        .split_whitespace()
        .find(|pid| {
            fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|it| it.windows(8).any(|it| it == b"guardian"))
        })
        .context("it has a guardian")?;
    ensure!(Command::new("kill").args(["-KILL", guardian]).status()?.success());
    holder.kill()?;
    holder.wait()?;
    ensure!(!traces()?.is_empty(), "nobody was there to clean up");
    let node = Node::start().await?;
    pod(&node, "again", Image::Busybox, &json!({"type": "RuntimeDefault"}))?;
    node.kubectl_output(&["wait", "--for=condition=Ready", "pod/again", "--timeout=180s"])?;
    drop(node);
    gone().await.context("after the next start")
}

/// A process that holds a node on which `run` has been run.
fn held(run: &str) -> Result<Child> {
    // It ends with its input, which ends with whoever holds the other end: nobody else would end it.
    let run = format!("{{ {run}; }} >&2 && echo held && exec cat");
    let path = std::env::join_paths(
        assets(Tier::Node)
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    let mut holder = Command::new(env!("CARGO_BIN_EXE_gadgetd-e2e"))
        .args(["node", "--", "bash", "-c", &run])
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(holder.stdout.take().context("a pipe")?).read_line(&mut line)?;
    ensure!(line == "held\n", "no node is held: {line}");
    Ok(holder)
}

fn pod(node: &Node, name: &str, image: Image, seccomp: &serde_json::Value) -> Result<()> {
    let command =
        (image == Image::Busybox).then(|| json!(["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]));
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "securityContext": {"seccompProfile": seccomp},
            "containers": [{
                "name": "main",
                "image": image.reference(),
                "imagePullPolicy": "Never",
                "command": command,
                "securityContext": {"allowPrivilegeEscalation": false},
            }],
        },
    });
    node.apply(&pod.to_string())
}

async fn gone() -> Result<()> {
    eventually("clean machine", Duration::from_mins(2), async || {
        let left = traces()?;
        ensure!(left.is_empty(), "left: {left:?}");
        Ok(())
    })
    .await
}

/// Everything on this machine that can only be of a node. Its processes are in its cgroups, which cannot be removed
/// before they ended.
fn traces() -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    let mut folders = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if ["kubepods", "gadgetd-e2e"].contains(&&*name) {
                    found.insert(format!("cgroup {name}"));
                }
                folders.push(entry.path());
            }
        }
    }
    for entry in fs::read_dir("/sys/class/net")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name == "gadgetd-e2e" || name == "cni0" {
            found.insert(format!("link {name}"));
        }
    }
    let state = gadgetd_artifacts::cache::root().join("node");
    if state.exists() {
        found.insert(format!("folder {}", state.display()));
    }
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
        if ["kubelet", "containerd", "netns/cni", &state.display().to_string()]
            .iter()
            .any(|it| line.contains(it))
        {
            found.insert(format!("mount {line}"));
        }
    }
    for program in ["iptables-save", "ip6tables-save"] {
        let rules = Command::new(program).output()?;
        let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
        for rule in rules.lines().filter(|rule| rule.contains("KUBE-") || rule.contains("CNI-")) {
            found.insert(format!("rule {rule}"));
        }
    }
    for folder in ["/var/lib/kubelet", "/run/containerd", "/var/log/pods", "/var/lib/cni"] {
        if Path::new(folder).exists() {
            found.insert(format!("folder {folder}"));
        }
    }
    Ok(found)
}

/// What a kubelet or a kube-proxy would change for the whole machine.
fn settings() -> Result<Vec<String>> {
    ["vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward"]
        .iter()
        .map(|name| Ok(fs::read_to_string(format!("/proc/sys/{name}"))?))
        .collect()
}
