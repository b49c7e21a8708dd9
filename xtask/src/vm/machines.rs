//! Which machines there are, and what runs on each.

use super::{kernel::Kernel, steps::Step};

/// One machine: a row of the table.
pub(super) struct Machine {
    pub kernel: Kernel,
    /// Parameters of the kernel.
    pub parameters: &'static str,
    /// Packages besides those that every machine has.
    pub packages: &'static [&'static str],
    /// A shell command to run before the steps.
    pub prepare: &'static str,
    pub steps: &'static [Step],
}

const RECORDS: Step = Step::Tests { shows: "records", program: "kernel", only: &[], under: "" };
const REFUSED: Step = Step::Tests { shows: "refused calls", program: "refused", only: &[], under: "" };
const LINEAGE: Step =
    Step::Tests { shows: "who is the application", program: "lineage", only: &[], under: "" };
const OUTLIVES: Step = Step::Tests {
    shows: "goes on after kill -9",
    program: "pinned",
    only: &[
        "a_recording_goes_on_while_nobody_runs",
        "it_can_be_killed_at_any_moment",
        "what_was_half_done_is_mended",
    ],
    under: "",
};
const FAITHFUL: Step = Step::Tests {
    shows: "equals strace -f",
    program: "fidelity",
    only: &["static", "vfork", "signals", "children", "i386", "int80", "markers", "unknown"],
    under: "",
};
const WITHOUT_ROOT: Step = Step::Tests {
    shows: "without root",
    program: "fidelity",
    only: &["user/static", "user/children", "user/i386", "namespace/static"],
    under: "",
};
const ENFORCED: Step = Step::Tests {
    shows: "containers under their profile",
    program: "enforced",
    only: &[
        "runc/root-any-privileges/busybox",
        "runc/user-no-new-privileges/exec",
        "crun/root-any-privileges/busybox",
        "crun/user-no-new-privileges/exec",
    ],
    under: "",
};
const EVERYTHING: &[Step] = &[RECORDS, LINEAGE, REFUSED, OUTLIVES, FAITHFUL, ENFORCED];

/// Of gadgetd itself only the kernel side is built for arm64 here: all of it would take as long as the rest of this tier.
const ARM64: &[Step] = &[RECORDS, LINEAGE, REFUSED, OUTLIVES];

const fn refuses(because: &'static str, sentence: &'static str) -> Step {
    Step::Refuses { because, under: "", arguments: "run seccomp --recorder ebpf -- true", sentence }
}

/// The machines, those that take longest first.
pub(super) const MACHINES: &[Machine] = &[
    Machine {
        kernel: Kernel { release: "bookworm", architecture: "amd64" },
        parameters: "lockdown=integrity",
        packages: &[],
        prepare: "",
        steps: EVERYTHING,
    },
    Machine {
        kernel: Kernel { release: "trixie", architecture: "amd64" },
        // CPUs without a timer tick, where membarrier(2) does not work.
        parameters: "nohz_full=1",
        packages: &[],
        prepare: "",
        steps: EVERYTHING,
    },
    Machine {
        kernel: Kernel { release: "sid", architecture: "amd64" },
        parameters: "",
        packages: &[],
        // Otherwise only CAP_SYS_ADMIN opens trace events, which the tests of what goes on after kill -9 don't have. And an emulator that is
        // itself preempted makes preemption frequent: programs that stay on tracepoints would now and then be skipped, and
        // counted (decision 024), if the tests had no real-time priority.
        prepare: "echo 2 >/proc/sys/kernel/perf_event_paranoid\necho -1 >/proc/sys/kernel/sched_rt_runtime_us\nchrt --fifo --pid 1 $$",
        steps: EVERYTHING,
    },
    Machine {
        kernel: Kernel { release: "bookworm", architecture: "arm64" },
        parameters: "",
        packages: &[],
        prepare: "",
        steps: ARM64,
    },
    Machine {
        kernel: Kernel { release: "trixie", architecture: "arm64" },
        parameters: "",
        packages: &[],
        prepare: "",
        steps: ARM64,
    },
    Machine {
        kernel: Kernel { release: "bookworm", architecture: "amd64" },
        parameters: "apparmor=1",
        packages: &["apparmor", "containerd"],
        prepare: "",
        steps: &[Step::Tests {
            shows: "in a container of containerd, under its AppArmor profile",
            program: "pinned",
            only: &["a_recording_goes_on_while_nobody_runs"],
            under: "sh /test/contained",
        }],
    },
    Machine {
        kernel: Kernel { release: "bullseye", architecture: "amd64" },
        parameters: "",
        packages: &[],
        prepare: "",
        steps: &[
            refuses("", "has no eBPF helper bpf_task_pt_regs, which came with Linux 5.15"),
            WITHOUT_ROOT,
        ],
    },
    Machine {
        kernel: Kernel { release: "bookworm", architecture: "amd64" },
        parameters: "lockdown=confidentiality",
        packages: &[],
        prepare: "",
        steps: &[refuses("", "the kernel is locked down in the mode \"confidentiality\"")],
    },
    Machine {
        kernel: Kernel { release: "trixie", architecture: "amd64" },
        parameters: "",
        packages: &["ca-certificates"],
        prepare: "",
        steps: &[
            refuses(
                "mount -t tmpfs tmpfs /sys/kernel/btf",
                "this kernel does not describe itself: it needs CONFIG_DEBUG_INFO_BTF=y",
            ),
            Step::Refuses {
                because: "umount /sys/kernel/btf",
                arguments: "run seccomp --recorder ebpf -- true",
                sentence: "it is probably in a user namespace",
                under: "unshare --user --map-root-user",
            },
            Step::Refuses {
                because: A_CLUSTER,
                arguments: "serve --node n --slots 1048576",
                sentence: "there is no memory for what is recorded: the map",
                under: "",
            },
            refuses("umount /sys/fs/cgroup", "this machine has no cgroup v2 hierarchy mounted"),
        ],
    },
];

/// Runs a command as the `DaemonSet` runs gadgetd: in a container of containerd, with the `AppArmor` profile that
/// it gives to every container, and two more capabilities. Pins are outside of /sys, where that profile lets nobody write. (Its
/// seccomp profile is that of the tier `node`; here it would refuse the `clone3` of the test itself.)
pub(super) const CONTAINED: &str = r#"mkdir -p /rootfs /var/lib/containerd /run/containerd /sys/fs/bpf/gadgetd
mount --bind / /rootfs
containerd >/run/containerd.log 2>&1 &
until ctr version >/dev/null 2>&1; do kill -0 $! || { cat /run/containerd.log; exit 1; }; done
ctr run --rm --rootfs --apparmor-default-profile cri-containerd.apparmor.d --cap-add CAP_BPF --cap-add CAP_PERFMON \
    --mount type=bind,src=/sys/fs/cgroup,dst=/sys/fs/cgroup,options=rbind:rw \
    --mount type=bind,src=/sys/fs/bpf/gadgetd,dst=/pins,options=rbind:rw \
    --mount type=tmpfs,dst=/tmp,options=mode=1777 \
    --env GADGETD_TEST_BPFFS=/pins --env CI=true --env PATH=$PATH /rootfs gadgetd \
    /bin/sh -c 'grep -q "^cri-containerd.apparmor.d (enforce)" /proc/self/attr/current || exit 1
           if mkdir /sys/fs/bpf/x 2>/dev/null; then echo "the profile does not hold"; exit 1; fi
           exec "$@"' sh "$@"
"#;

/// Lets gadgetd believe that there is a cluster.
const A_CLUSTER: &str = r#"export KUBECONFIG=/root/kubeconfig SSL_CERT_FILE=/root/certificates
cat /usr/share/ca-certificates/mozilla/*.crt >$SSL_CERT_FILE
echo '{"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
    "users": [{"name": "u", "user": {}}],
    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}], "current-context": "c"}' >$KUBECONFIG"#;
