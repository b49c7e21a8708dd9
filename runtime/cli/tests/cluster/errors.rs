//! What cannot be recorded: the error says what happened, to what, and what to do; nothing is left.

use anyhow::Result;
use gadgetd_kube_tests::names;

use crate::support::{runtime_pod, scene};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_recorded_is_told_with_what_to_do() -> Result<()> {
    let scene = scene!();
    let cli = scene.cli()?;
    let shop = scene.shop.as_str();
    let (bare, broken) = (names("bare"), names("broken"));
    scene.cluster.node(&bare).await?;
    scene.cluster.node(&broken).await?;
    runtime_pod(&scene.cluster, &broken, false).await?;
    let rows: [(&[&str], &str, &str); 9] = [
        (&["-n", shop, "-p", "cart-0", "-c", "nope"], "has no container nope: it has app, log", "-c"),
        (&["-n", shop, "-p", "cart-0", "--node", &bare], "is on node", "leave --node out"),
        (&["-n", shop, "-p", "other", "--node", "nowhere"], "there is no node nowhere", "kubectl get nodes"),
        (&["-n", shop, "-p", "other", "--node", &bare], "does not run on node", "describe daemonset"),
        (&["-n", shop, "-p", "other", "--node", &broken], "no BTF on this kernel", "logs gadgetd-"),
        (
            &["-n", "nowhere", "-p", "x", "--node", &scene.node],
            "no namespace nowhere",
            "kubectl get namespaces",
        ),
        (
            &["-n", shop, "-p", "cart-0", "--param", "merge=all"],
            "Invalid parameter merge",
            "container or pod",
        ),
        (&["-n", shop, "-p", "cart-0", "-o", "/nonexistent/x"], "there is no folder", "/nonexistent"),
        (
            &["-n", shop, "-p", "cart-0", "--runtime-namespace", "x"],
            "is not deployed",
            "kubectl gadget deploy",
        ),
    ];
    for (arguments, what, remedy) in rows {
        cli.run(["run", "seccomp"].iter().chain(arguments)).await?.fails(what).says(remedy);
    }
    cli.run(["run", "walk", "-n", shop, "-p", "cart-0"]).await?.fails("Unknown gadget").says("seccomp");
    let start = ["seccomp-advisor", "start", "-n", shop, "-p", "cart-0", "-c", "nope"];
    cli.run(start).await?.fails("has no container nope");
    cli.run(["run", "seccomp", "-l", "a!=b"]).await?.code(2).says("must be key=value");
    cli.run(["list", "--kubeconfig", "/nonexistent"]).await?.fails("cannot use the kubeconfig /nonexistent");
    cli.run(["list", "--context", "nope"]).await?.fails("cannot use the kubeconfig");
    // A node that takes nothing on: nobody is there.
    let silent = names("silent");
    scene.cluster.node(&silent).await?;
    runtime_pod(&scene.cluster, &silent, true).await?;
    let line = ["run", "seccomp", "-n", shop, "-p", "other", "--node", &silent, "--wait", "1s"];
    cli.run(line).await?.fails("within 1s").says("kubectl gadget version");
    for node in [&broken, &silent] {
        let pods =
            kube::Api::<k8s_openapi::api::core::v1::Pod>::namespaced(scene.cluster.admin.clone(), "gadget");
        let now = kube::api::DeleteParams { grace_period_seconds: Some(0), ..Default::default() };
        pods.delete(&format!("gadgetd-{node}"), &now).await?;
    }
    scene.nothing_left().await?;
    scene.stop().await
}
