/// What a cgroup's path says about the container in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The container's id in its runtime.
    pub id: String,
    /// The uid of the Kubernetes pod it belongs to, with dashes; absent outside a cluster.
    pub pod_uid: Option<String>,
    /// The path of the container's own cgroup: a container may have made cgroups below it.
    pub cgroup: String,
}

/// Reads a container's identity from a cgroup's path, or from the path of a cgroup inside it.
///
/// Known are the paths that kubelet, containerd, CRI-O, Docker and Podman make, with either
/// cgroup driver. A container inside a container (kind, Docker in Docker) is the inner one. `None`
/// for any other path: what a runtime was told to use by hand says nothing.
pub fn identify(path: &str) -> Option<Identity> {
    let mut pod_uid = None;
    let mut found = None;
    let mut end = 0;
    for part in path.split('/') {
        end += part.len();
        if let Some(uid) = pod(part) {
            pod_uid = Some(uid);
        }
        if let Some(id) = container(part) {
            found = Some(Identity {
                id: id.to_owned(),
                pod_uid: pod_uid.clone(),
                cgroup: path[..end].to_owned(),
            });
        }
        end += 1;
    }
    found
}

/// The uid in the name of a pod's cgroup: `pod<uid>` (cgroupfs driver), or
/// `kubepods-<qos>-pod<uid, dashes as underscores>.slice` (systemd driver).
fn pod(part: &str) -> Option<String> {
    // containerd, told of the other driver than the kubelet, makes `<slice>:cri-containerd:<id>`.
    let part = part.split_once(':').map_or(part, |(slice, _)| slice);
    let uid = match part.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod").filter(|(before, _)| before.contains("kubepods"))?.1,
        None => part.strip_prefix("pod")?,
    };
    let plausible = uid.len() >= 32 && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-' || b == b'_');
    plausible.then(|| uid.replace('_', "-"))
}

/// The id in the name of a container's cgroup.
fn container(part: &str) -> Option<&str> {
    let name = part.strip_suffix(".scope").unwrap_or(part);
    let name = name.rsplit_once(':').map_or(name, |(_, id)| id);
    let id = ["cri-containerd-", "crio-", "docker-", "libpod-", "nerdctl-"]
        .iter()
        .find_map(|prefix| name.strip_prefix(prefix))
        .unwrap_or(name);
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (id.len() == 64 && id.bytes().all(hex)).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f4c0b1a9d8e7f60514233221100ffeeddccbbaa99887766554433221100abcd";
    const OUTER: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const UID: &str = "6a2b7a5e-4b0e-4ab3-a4a2-f2cbd2b9d1c5";
    const STATIC: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn containers_of_pods() {
        let under = UID.replace('-', "_");
        let rows = [
            // cgroupfs driver: containerd and Docker, guaranteed and not; CRI-O.
            (format!("/kubepods/pod{UID}/{ID}"), UID),
            (format!("/kubepods/besteffort/pod{UID}/{ID}"), UID),
            (format!("/kubepods/burstable/pod{UID}/crio-{ID}"), UID),
            // A static pod's uid is a hash.
            (format!("/kubepods/burstable/pod{STATIC}/{ID}"), STATIC),
            // systemd driver.
            (format!("/kubepods.slice/kubepods-pod{under}.slice/cri-containerd-{ID}.scope"), UID),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/crio-{ID}.scope"
                ),
                UID,
            ),
            (
                format!(
                    "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{under}.slice/docker-{ID}.scope"
                ),
                UID,
            ),
            // Drivers that disagree.
            (format!("/system.slice/kubepods-burstable-pod{under}.slice:cri-containerd:{ID}"), UID),
            (format!("/kubepods-burstable-pod{under}.slice:cri-containerd:{ID}"), UID),
            // A node that is itself a container.
            (format!("/docker/{OUTER}/kubelet/kubepods/besteffort/pod{UID}/{ID}"), UID),
            (
                format!(
                    "/system.slice/docker-{OUTER}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{under}.slice/cri-containerd-{ID}.scope"
                ),
                UID,
            ),
        ];
        for (path, uid) in rows {
            let found = identify(&path).expect(&path);
            let want = Identity { id: ID.into(), pod_uid: Some(uid.into()), cgroup: path.clone() };
            assert_eq!(found, want, "{path}");
        }
    }

    #[test]
    fn containers_without_pods() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/machine.slice/libpod-{ID}.scope"),
            format!("/libpod_parent/libpod-{ID}"),
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
            format!("/system.slice/nerdctl-{ID}.scope"),
        ] {
            let found = identify(&path).expect(&path);
            assert_eq!(found, Identity { id: ID.into(), pod_uid: None, cgroup: path.clone() });
        }
    }

    #[test]
    fn cgroups_inside_a_container_belong_to_it() {
        for (own, below) in [
            (format!("/machine.slice/libpod-{ID}.scope"), "/container"),
            (format!("/kubepods/pod{UID}/crio-{ID}"), "/container/app"),
            (format!("/docker/{ID}"), "/init.scope"),
        ] {
            assert_eq!(identify(&format!("{own}{below}")).expect(&own).cgroup, own);
        }
    }

    #[test]
    fn other_cgroups_are_no_containers() {
        for path in [
            "/",
            "",
            "/system.slice/ssh.service",
            "/kubepods.slice",
            &format!("/kubepods/besteffort/pod{UID}"),
            // The monitors of CRI-O and Podman are not the containers.
            &format!("/machine.slice/libpod-conmon-{ID}.scope"),
            &format!("/kubepods.slice/crio-conmon-{ID}.scope"),
            "/default/redis",
            "/docker/short",
            &format!("/docker/{}", ID.to_uppercase()),
            &format!("/docker/{ID}0"),
        ] {
            assert_eq!(identify(path), None, "{path}");
        }
    }
}
