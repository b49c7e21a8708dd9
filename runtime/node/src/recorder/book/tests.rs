//! A node whose kernel, pods and runtime are scripted: what is told in which order is the test's to say.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    rc::Rc,
};

use gadgetd_containers::Hierarchy;
use gadgetd_core::{Abi, Phases, Syscall, SyscallSource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use super::*;
use crate::pods::{Instance, PodRecord};

const UID: &str = "6a2b7a5e-4b0e-4ab3-a4a2-f2cbd2b9d1c5";
const OTHER: &str = "7c1d4e5f-4b0e-4ab3-a4a2-f2cbd2b9d1c5";
const STATE: &str = "run/containerd/io.containerd.runtime.v2.task/k8s.io";

/// The id of a container, from a short word.
fn id(word: &str) -> String {
    let hex = word.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    format!("{hex:0<64}")
}

/// The kernel side of a node. It outlives the books that work with it.
#[derive(Debug, Default)]
struct World {
    enrolled: BTreeMap<u64, Enrolled>,
    calls: BTreeMap<u64, BTreeSet<u32>>,
    losses: BTreeMap<u64, Loss>,
    /// Of the whole machine.
    common: Option<Loss>,
    enrol_new: bool,
    events: Vec<CgroupEvent>,
    /// How many slots there are.
    room: usize,
    /// From now on nothing can be read or released.
    broken: bool,
}

#[derive(Clone, Debug)]
struct Scripted(Rc<RefCell<World>>);

#[derive(Debug)]
struct ScriptError(&'static str);

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for ScriptError {}

impl SyscallSource for Scripted {
    type Error = ScriptError;
    type Subject = CgroupId;

    fn read(&self, cgroup: CgroupId) -> Result<Recorded, ScriptError> {
        let world = self.0.borrow();
        if world.broken {
            return Err(ScriptError("broken"));
        }
        let enrolled = world.enrolled.get(&cgroup.0).ok_or(ScriptError("not enrolled"))?;
        let call = |number: &u32| Syscall { abi: Abi::Native, number: *number, phases: Phases::APPLICATION };
        let syscalls: Vec<_> = world.calls.get(&cgroup.0).into_iter().flatten().map(call).collect();
        Ok(Recorded {
            since_new: (!syscalls.is_empty()).then_some(Duration::from_secs(1)),
            syscalls,
            refused: Vec::new(),
            completeness: Completeness {
                losses: world.losses.get(&cgroup.0).copied().into_iter().chain(world.common).collect(),
                from_start: enrolled.from_start,
            },
        })
    }
}

impl CgroupSource for Scripted {
    fn enrol(&mut self, cgroup: CgroupId, _: Entry) -> Result<(), ScriptError> {
        let mut world = self.0.borrow_mut();
        if world.enrolled.contains_key(&cgroup.0) {
            return Ok(());
        }
        if world.enrolled.len() >= world.room {
            return Err(ScriptError("all slots are in use"));
        }
        world.enrolled.insert(cgroup.0, Enrolled { cgroup, path: None, from_start: false });
        Ok(())
    }

    fn enrol_new(&mut self, on: bool) -> Result<(), ScriptError> {
        self.0.borrow_mut().enrol_new = on;
        Ok(())
    }

    fn enrolled(&self) -> Result<Vec<Enrolled>, ScriptError> {
        Ok(self.0.borrow().enrolled.values().cloned().collect())
    }

    fn events(&mut self) -> Result<Vec<CgroupEvent>, ScriptError> {
        Ok(std::mem::take(&mut self.0.borrow_mut().events))
    }

    fn losses(&self) -> Result<Vec<Loss>, ScriptError> {
        Ok(self.0.borrow().common.into_iter().collect())
    }

    fn release(&mut self, cgroup: CgroupId) -> Result<(), ScriptError> {
        let mut world = self.0.borrow_mut();
        if world.broken {
            return Err(ScriptError("broken"));
        }
        world.enrolled.remove(&cgroup.0).map(drop).ok_or(ScriptError("not enrolled"))
    }
}

/// A node.
struct Node {
    /// Its files: cgroups, the state of its container runtime, the journal.
    root: tempfile::TempDir,
    world: Rc<RefCell<World>>,
    book: Book<Scripted>,
    told: broadcast::Receiver<String>,
    now: Instant,
    /// The pods, as the API server has them.
    pods: BTreeMap<String, PodRecord>,
}

impl Node {
    fn new() -> Self {
        // Memory, where inode numbers are not given twice, as in the kernel's cgroups.
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        for folder in ["cgroups", "journal", STATE] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let world = Rc::new(RefCell::new(World { room: 100, ..World::default() }));
        let now = Instant::now();
        let (book, told) = open(&root, &world, now);
        let mut this = Self { root, world, book, told, now, pods: BTreeMap::new() };
        this.list();
        this
    }

    /// The process is killed, and another begins.
    fn restart(&mut self) {
        (self.book, self.told) = open(&self.root, &self.world, self.now);
        self.list();
    }

    /// The API server lists its pods.
    fn list(&mut self) {
        self.book.pod(PodChange::Listing, self.now);
        for pod in self.pods.values().cloned() {
            self.book.pod(PodChange::Listed(pod), self.now);
        }
        self.book.pod(PodChange::ListedAll, self.now);
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below.trim_start_matches('/'))
    }

    /// A cgroup is made; gives its id. The kernel tells of it with the next [`Node::events`].
    fn cgroup(&self, path: &str) -> u64 {
        let directory = self.path(&format!("cgroups{path}"));
        fs::create_dir_all(&directory).unwrap();
        let id = fs::metadata(&directory).unwrap().ino();
        let mut world = self.world.borrow_mut();
        if world.enrol_new && world.enrolled.len() < world.room {
            let (cgroup, path) = (CgroupId(id), Some(path.to_owned()));
            world.enrolled.insert(id, Enrolled { cgroup, path, from_start: true });
            world.events.push(CgroupEvent::Opened(CgroupId(id)));
        }
        id
    }

    /// A cgroup is removed.
    fn remove(&self, path: &str) {
        let directory = self.path(&format!("cgroups{path}"));
        let id = fs::metadata(&directory).unwrap().ino();
        fs::remove_dir_all(directory).unwrap();
        self.world.borrow_mut().events.push(CgroupEvent::Ended(CgroupId(id)));
    }

    /// The container's cgroup is made.
    fn begin(&self, word: &str) -> u64 {
        self.cgroup(&cgroup(word))
    }

    /// The container's cgroup is removed.
    fn end(&self, word: &str) {
        self.remove(&cgroup(word));
    }

    /// The container's runtime writes its bundle.
    fn bundle(&self, word: &str, name: &str) {
        self.annotate(word, &json!({ "container-name": name, "container-type": "container" }));
    }

    /// The same for the pod's sandbox.
    fn sandbox(&self, word: &str) {
        self.annotate(word, &json!({ "container-type": "sandbox" }));
    }

    fn annotate(&self, word: &str, annotations: &serde_json::Value) {
        let mut all = json!({
            "io.kubernetes.cri.sandbox-name": "cart-0",
            "io.kubernetes.cri.sandbox-namespace": "shop",
            "io.kubernetes.cri.sandbox-uid": UID,
        });
        for (key, value) in annotations.as_object().unwrap() {
            all[format!("io.kubernetes.cri.{key}")] = value.clone();
        }
        let bundle = self.path(STATE).join(id(word));
        fs::create_dir_all(&bundle).unwrap();
        fs::write(bundle.join("config.json"), json!({ "annotations": all }).to_string()).unwrap();
        fs::write(bundle.join("runtime"), "").unwrap();
    }

    /// It removes the bundle.
    fn unbundle(&self, word: &str) {
        fs::remove_dir_all(self.path(STATE).join(id(word))).unwrap();
    }

    fn call(&self, cgroup: u64, calls: &[u32]) {
        self.world.borrow_mut().calls.entry(cgroup).or_default().extend(calls);
    }

    fn events(&mut self) {
        self.book.events(self.now);
    }

    fn look(&mut self) {
        self.book.look(self.now);
    }

    fn pod(&mut self, change: PodChange) {
        match &change {
            PodChange::Applied(pod) => drop(self.pods.insert(pod.uid.clone(), pod.clone())),
            PodChange::Deleted(pod) => drop(self.pods.remove(&pod.uid)),
            _ => {}
        }
        self.book.pod(change, self.now);
    }

    fn start(&mut self, session: u64, selection: &Selection) {
        self.book.start(&number(session), selection, self.now).unwrap();
    }

    /// Who is recorded in a session: name (or `?`), ended, from the start, calls.
    fn recorded(&self, session: u64) -> Vec<(String, bool, bool, Vec<u32>)> {
        let recordings = self.book.recordings(&number(session)).unwrap();
        let one = |r: Recording| {
            let capture = r.capture;
            let calls = capture.syscalls.iter().map(|s| s.number).collect();
            let name = capture.container.name.unwrap_or("?".into());
            (name, r.ended, capture.completeness.from_start, calls)
        };
        recordings.into_iter().map(one).collect()
    }

    /// The cgroups that have a slot.
    fn slots(&self) -> Vec<u64> {
        self.world.borrow().enrolled.keys().copied().collect()
    }

    /// The traces that were told since the last look.
    fn told(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.told.try_recv().ok()).collect()
    }

    fn journal(&self) -> Vec<String> {
        let mut files: Vec<_> = fs::read_dir(self.path("journal"))
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        files
    }
}

fn open(
    root: &tempfile::TempDir,
    world: &Rc<RefCell<World>>,
    now: Instant,
) -> (Book<Scripted>, broadcast::Receiver<String>) {
    let journal = Journal::open(&root.path().join("journal")).unwrap();
    let kept = journal.load().unwrap();
    let (events, told) = broadcast::channel(1024);
    let (source, hierarchy) = (Scripted(world.clone()), Hierarchy::at(root.path().join("cgroups")));
    let load = Box::new(move || Ok(Kernel { source: source.clone(), hierarchy: hierarchy.clone() }));
    let settings = RecorderSettings { host_root: root.path().into(), ..RecorderSettings::new("node-1") };
    let mut book = Book::new(settings, journal, events, load);
    book.begin(kept, now);
    (book, told)
}

fn number(number: u64) -> Session {
    Session { trace: "trace".into(), number }
}

fn cgroup(word: &str) -> String {
    format!("/kubepods/besteffort/pod{UID}/{}", id(word))
}

/// Pod `shop/cart-0` with label `app=cart`, and these containers, of which some have been started.
fn cart(containers: &[&str], started: &[(&str, &str)]) -> PodRecord {
    let instance = |(word, name): &(&str, &str)| Instance {
        id: id(word),
        name: (*name).to_owned(),
        image: Some("busybox".into()),
        image_digest: Some("sha256:0a".into()),
    };
    PodRecord {
        namespace: "shop".into(),
        name: "cart-0".into(),
        uid: UID.into(),
        static_uid: None,
        labels: [("app".to_owned(), "cart".to_owned())].into(),
        owner: Some(OwnerReference { kind: "ReplicaSet".into(), ..OwnerReference::default() }),
        containers: containers.iter().map(ToString::to_string).collect(),
        instances: started.iter().map(instance).collect(),
    }
}

fn applied(pod: PodRecord) -> PodChange {
    PodChange::Applied(pod)
}

fn by_name() -> Selection {
    Selection { namespace: Some("shop".into()), pod: Some("cart-0".into()), ..Selection::default() }
}

fn by_label() -> Selection {
    Selection { labels: [("app".to_owned(), "cart".to_owned())].into(), ..Selection::default() }
}

fn by_container(name: &str) -> Selection {
    Selection { container: Some(name.into()), ..by_name() }
}

/// `(name, ended, from the start, calls)`
fn row(name: &str, ended: bool, from_start: bool, calls: &[u32]) -> (String, bool, bool, Vec<u32>) {
    (name.to_owned(), ended, from_start, calls.to_vec())
}

/// Something that happens to a container on its way.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// The kernel tells of its cgroup.
    Opened,
    /// The API server tells of its pod, without its status.
    Pod,
    /// …and of its status.
    Status,
    /// The API server tells that the pod is gone.
    Deleted,
    /// Its bundle is written.
    Bundle,
    /// Its bundle is removed.
    Unbundle,
    /// Its cgroup is removed.
    Ended,
    /// Everything is looked at.
    Look,
    /// The process is killed and begins anew, and the controller adopts the session.
    Crash,
}

impl Step {
    fn happens(self, node: &mut Node, selection: &Selection) {
        match self {
            Self::Opened => {
                let cgroup = node.begin("app");
                node.call(cgroup, &[1, 2]);
                node.events();
            }
            Self::Pod => node.pod(applied(cart(&["app"], &[]))),
            Self::Status => node.pod(applied(cart(&["app"], &[("app", "app")]))),
            Self::Deleted => node.pod(PodChange::Deleted(cart(&["app"], &[("app", "app")]))),
            Self::Bundle => node.bundle("app", "app"),
            Self::Unbundle => node.unbundle("app"),
            Self::Ended => {
                node.end("app");
                node.events();
            }
            Self::Look => node.look(),
            Self::Crash => {
                node.restart();
                node.start(1, selection);
                node.book.sessions(node.now);
            }
        }
    }
}

/// Every order in which steps can happen that keeps `before` apart.
fn orders(steps: &[Step], before: &[(Step, Step)]) -> Vec<Vec<Step>> {
    let Some(_) = steps.first() else { return vec![Vec::new()] };
    let mut all = Vec::new();
    for (index, first) in steps.iter().enumerate() {
        let rest: Vec<_> = steps.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, s)| *s).collect();
        if before.iter().any(|(a, b)| b == first && rest.contains(a)) {
            continue;
        }
        for mut order in orders(&rest, before) {
            order.insert(0, *first);
            all.push(order);
        }
    }
    all
}

/// Lets everything happen in an order, with a crash of the process before each step (or none).
fn every_crash(order: &[Step], selection: &Selection, check: impl Fn(&mut Node, &str)) {
    for crash in 0..=order.len() {
        let mut node = Node::new();
        node.start(1, selection);
        for (index, step) in order.iter().enumerate() {
            if index == crash {
                Step::Crash.happens(&mut node, selection);
            }
            step.happens(&mut node, selection);
        }
        check(&mut node, &format!("{order:?}, killed before step {crash}, {selection:?}"));
    }
}

#[test]
fn a_container_is_known_whoever_tells_first() {
    use Step::{Bundle, Ended, Look, Opened, Pod, Status};
    let causes = [(Opened, Ended), (Bundle, Opened), (Pod, Status), (Opened, Status)];
    for steps in [
        // The runtime's state alone tells a name; labels take the API server.
        vec![Bundle, Opened, Ended],
        vec![Bundle, Opened, Pod, Ended],
        vec![Opened, Pod, Status, Ended],
        vec![Bundle, Opened, Pod, Status, Look],
        vec![Opened, Pod, Status, Ended, Look],
    ] {
        let pod_told = steps.contains(&Pod);
        for order in orders(&steps, &causes) {
            for selection in [by_name(), by_label(), by_container("app")] {
                if !pod_told && !selection.labels.is_empty() {
                    continue;
                }
                every_crash(&order, &selection, |node, how| {
                    let ended = order.contains(&Ended);
                    assert_eq!(node.recorded(1), [row("app", ended, true, &[1, 2])], "{how}");
                    assert_eq!(node.slots().len(), usize::from(!ended), "{how}");
                });
            }
        }
    }
}

#[test]
fn a_pod_that_is_deleted_at_once_still_gets_its_names() {
    use Step::{Bundle, Deleted, Ended, Look, Opened, Pod, Unbundle};
    let causes = [
        (Pod, Deleted),
        (Pod, Bundle),
        (Bundle, Opened),
        (Opened, Unbundle),
        (Opened, Ended),
        // As long as the API server has not told of a pod, what it is called has to come from its runtime.
        (Pod, Opened),
    ];
    for order in orders(&[Pod, Bundle, Opened, Ended, Unbundle, Deleted, Look], &causes) {
        for selection in [by_name(), by_label(), by_container("app")] {
            let mut node = Node::new();
            node.start(1, &selection);
            for step in &order {
                step.happens(&mut node, &selection);
            }
            assert_eq!(node.recorded(1), [row("app", true, true, &[1, 2])], "{order:?} {selection:?}");
        }
    }
}

#[test]
fn what_is_not_meant_gives_its_slot_back() {
    let mut node = Node::new();
    node.start(1, &by_container("app"));
    node.sandbox("pause");
    node.bundle("log", "log");
    node.annotate(
        "else",
        &json!({ "sandbox-name": "cart-1", "sandbox-uid": OTHER, "container-name": "app" }),
    );
    for word in ["pause", "log"] {
        node.begin(word);
    }
    node.cgroup(&cgroup("else").replace(UID, OTHER));
    node.cgroup("/system.slice/ssh.service");
    node.cgroup(&format!("/kubepods/besteffort/pod{}", "1".repeat(32)));
    assert_eq!(node.slots().len(), 5);
    node.events();
    assert_eq!((node.slots(), node.recorded(1)), (vec![], vec![]));
    // Nobody of them comes back, however often everything is looked at.
    node.pod(applied(cart(&["app", "log"], &[("log", "log")])));
    node.look();
    assert_eq!((node.slots(), node.recorded(1)), (vec![], vec![]));
    assert_eq!(node.told(), [""; 0]);
}

#[test]
fn whoever_may_be_meant_keeps_the_slot_until_it_is_known() {
    let mut node = Node::new();
    node.start(1, &by_label());
    let app = node.begin("app");
    node.events();
    node.bundle("app", "app");
    node.look();
    // Its name is known, and its labels are not.
    assert_eq!((node.slots(), node.recorded(1).len()), (vec![app], 0));
    let labels = BTreeMap::from([("app".to_owned(), "else".to_owned())]);
    node.pod(applied(PodRecord { labels, ..cart(&["app"], &[]) }));
    assert_eq!(node.slots(), [0; 0]);
    // Somebody changes the label: it is recorded from here on.
    node.pod(applied(cart(&["app"], &[])));
    assert_eq!(node.recorded(1), [row("app", false, false, &[])]);
    // And changes it back: what is being recorded goes on.
    node.pod(applied(PodRecord { labels: BTreeMap::new(), ..cart(&["app"], &[]) }));
    assert_eq!(node.recorded(1).len(), 1);
}

#[test]
fn whoever_never_becomes_known_is_given_up() {
    let mut node = Node::new();
    node.start(1, &by_name());
    let of_a_pod = node.begin("app");
    let docker = node.cgroup(&format!("/docker/{}", id("docker")));
    node.events();
    assert_eq!(node.slots(), [of_a_pod, docker]);
    node.now += Duration::from_mins(6);
    node.look();
    // Who runs in a pod's cgroup may become known yet.
    assert_eq!(node.slots(), [of_a_pod]);
    node.end("app");
    node.events();
    node.now += Duration::from_mins(6);
    node.look();
    assert_eq!((node.slots(), node.recorded(1).len()), (vec![], 0));
}

#[test]
fn a_container_that_runs_already_is_recorded_from_now_on() {
    let mut node = Node::new();
    node.bundle("app", "app");
    node.sandbox("pause");
    let app = node.begin("app");
    node.begin("pause");
    node.cgroup(&format!("{}/init.scope", cgroup("app")));
    assert_eq!(node.slots(), [0; 0], "nobody is recorded, and nothing is enrolled");
    node.start(1, &by_name());
    assert_eq!((node.slots(), node.told()), (vec![app], vec!["trace".to_owned()]));
    node.call(app, &[7]);
    assert_eq!(node.recorded(1), [row("app", false, false, &[7])]);
    // A second session sees what the first has seen.
    node.start(2, &by_name());
    assert_eq!(node.recorded(2), node.recorded(1));
}

#[test]
fn new_cgroups_get_slots_exactly_while_somebody_waits() {
    let mut node = Node::new();
    let waits = |node: &Node| node.world.borrow().enrol_new;
    assert!(!waits(&node));
    node.start(1, &by_name());
    node.start(2, &by_name());
    assert!(waits(&node));
    node.book.stop("trace", Some(2)).unwrap();
    assert!(waits(&node));
    node.book.stop("trace", None).unwrap();
    assert!(!waits(&node));
    node.book.stop("trace", None).unwrap();
    assert_eq!(node.journal(), [""; 0]);
}

#[test]
fn restarts_are_containers_of_their_own_in_their_order() {
    let mut node = Node::new();
    node.start(1, &by_name());
    // The ids say nothing about the order.
    for (word, call) in [("c", 1), ("a", 2), ("b", 3)] {
        node.bundle(word, "app");
        let cgroup = node.begin(word);
        node.call(cgroup, &[call]);
        node.events();
        if word != "b" {
            node.end(word);
            node.events();
            node.unbundle(word);
        }
    }
    let want = [row("app", true, true, &[1]), row("app", true, true, &[2]), row("app", false, true, &[3])];
    assert_eq!(node.recorded(1), want);
    node.restart();
    assert_eq!(node.recorded(1), want);
    let seen = node.book.seen(&number(1)).unwrap();
    assert_eq!((seen.containers, seen.syscalls, seen.ended), (3, 3, vec![id("c"), id("a")]));
    assert_eq!(seen.since_new, Some(Duration::from_secs(1)));
}

#[test]
fn what_was_released_is_forgotten_and_still_counts() {
    let mut node = Node::new();
    node.start(1, &by_name());
    node.start(2, &by_name());
    node.bundle("app", "app");
    let app = node.begin("app");
    node.call(app, &[1, 2]);
    node.events();
    node.end("app");
    node.events();
    node.told();
    for _ in 0..2 {
        node.book.release(&number(1), &id("app")).unwrap();
        node.restart();
        let seen = node.book.seen(&number(1)).unwrap();
        assert_eq!((seen.containers, seen.syscalls, seen.ended), (1, 2, vec![]));
        assert!(seen.since_new.is_some());
        assert_eq!((node.recorded(1).len(), node.recorded(2).len()), (0, 1));
        assert_eq!(node.slots(), [0; 0]);
    }
    // Nothing that becomes known later brings it back.
    node.pod(applied(cart(&["app"], &[("app", "app")])));
    node.look();
    assert_eq!(node.recorded(1).len(), 0);
    node.book.release(&number(2), &id("app")).unwrap();
    assert_eq!((node.slots(), node.journal().len()), (vec![], 2));
    node.look();
    node.restart();
    assert_eq!(node.book.seen(&number(2)).unwrap().containers, 1);
    // Strangers are of no interest.
    node.book.release(&number(1), "nobody").unwrap();
    node.book.release(&number(9), &id("app")).unwrap();
}

#[test]
fn what_has_ended_needs_no_slot_and_loses_nothing() {
    let mut node = Node::new();
    node.start(1, &by_name());
    for word in ["one", "two"] {
        node.bundle(word, word);
        let cgroup = node.begin(word);
        node.call(cgroup, &[1, 2]);
        node.world.borrow_mut().losses.insert(cgroup, Loss::Phases(3));
        node.events();
    }
    let losses = |node: &Node| {
        let recordings = node.book.recordings(&number(1)).unwrap();
        recordings.into_iter().map(|r| r.capture.completeness.losses).collect::<Vec<_>>()
    };
    node.end("one");
    node.events();
    let want = [row("one", true, true, &[1, 2]), row("two", false, true, &[1, 2])];
    assert_eq!((node.slots().len(), node.recorded(1)), (1, want.to_vec()));
    assert_eq!(losses(&node), [[Loss::Phases(3)], [Loss::Phases(3)]]);
    assert_eq!(node.book.losses(), [Loss::Phases(6)]);
    // Whoever would have come after it and got no slot is missing from documents about it.
    node.world.borrow_mut().common = Some(Loss::SlotsExhausted(2));
    let with_common = [Loss::Phases(3), Loss::SlotsExhausted(2)];
    assert_eq!(losses(&node), [with_common; 2]);
    // It is forgotten, and what was lost of it stays counted.
    node.book.stop("trace", None).unwrap();
    assert_eq!((node.slots(), node.journal()), (vec![], vec![]));
    assert_eq!(node.book.losses(), [Loss::Phases(6), Loss::SlotsExhausted(2)]);
}

#[test]
fn what_the_journal_cannot_take_stays_in_the_kernel() {
    let mut node = Node::new();
    node.start(1, &by_name());
    node.bundle("app", "app");
    let app = node.begin("app");
    node.call(app, &[1]);
    node.events();
    // In place of its file is a folder: nothing can be renamed over that.
    let file = node.path("journal").join(format!("container-{}.json", id("app")));
    let text = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    node.end("app");
    node.events();
    node.look();
    assert_eq!((node.slots(), node.recorded(1)), (vec![app], vec![row("app", true, true, &[1])]));
    fs::remove_dir(&file).unwrap();
    node.look();
    assert_eq!((node.slots(), node.recorded(1)), (vec![], vec![row("app", true, true, &[1])]));
    // Killed between the journal and the kernel: what it did is not counted twice.
    assert_ne!(fs::read(&file).unwrap(), text);
    let mut page: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    page["slots"] = json!([app]);
    fs::write(&file, page.to_string()).unwrap();
    let (cgroup, path) = (CgroupId(app), Some(cgroup("app")));
    node.world.borrow_mut().enrolled.insert(app, Enrolled { cgroup, path, from_start: true });
    node.world.borrow_mut().losses.insert(app, Loss::Phases(1));
    node.restart();
    assert_eq!((node.slots(), node.recorded(1)), (vec![], vec![row("app", true, true, &[1])]));
    assert_eq!(node.book.losses(), []);
}

#[test]
fn a_container_that_ends_again_and_again_takes_bounded_room() {
    let mut node = Node::new();
    node.start(1, &by_name());
    let restart = |node: &mut Node, number: u32| {
        let word = format!("app{number}");
        node.bundle(&word, "app");
        let cgroup = node.begin(&word);
        node.call(cgroup, &[number]);
        node.world.borrow_mut().losses.insert(cgroup, Loss::Phases(1));
        node.events();
        node.end(&word);
        node.events();
        node.unbundle(&word);
    };
    let all = u32::try_from(ENDED_MAX).unwrap() + 30;
    for number in 0..all - 10 {
        restart(&mut node, number);
    }
    // A Trace that began later has its own.
    node.start(2, &by_name());
    for number in all - 10..all {
        restart(&mut node, number);
    }
    for _ in 0..2 {
        let recordings = node.book.recordings(&number(1)).unwrap();
        assert_eq!(recordings.len(), 2 * ENDED_MAX);
        assert_eq!(recordings.iter().map(|r| 1 + r.earlier).sum::<u32>(), all);
        assert_eq!(recordings.last().unwrap().capture.container.id, id(&format!("app{}", all - 1)));
        let union: Vec<_> = recordings.iter().map(|r| &r.capture).collect();
        let union = Capture::union(Container::default(), &union).unwrap();
        assert!(union.syscalls.iter().map(|call| call.number).eq(0..all));
        assert_eq!(union.completeness.losses, [Loss::Phases(u64::from(all))]);
        let of_second: Vec<_> = node.recorded(2).into_iter().flat_map(|row| row.3).collect();
        assert_eq!(of_second, (all - 10..all).collect::<Vec<_>>());
        let seen = node.book.seen(&number(1)).unwrap();
        assert_eq!((seen.containers, seen.syscalls, seen.ended.len()), (all, all, 2 * ENDED_MAX));
        assert_eq!((node.slots(), node.journal().len()), (vec![], 2 + 2 * ENDED_MAX));
        node.restart();
    }
    // Another container of the pod is another's.
    node.bundle("log", "log");
    node.begin("log");
    node.events();
    node.end("log");
    node.events();
    assert_eq!(node.book.recordings(&number(1)).unwrap().len(), 2 * ENDED_MAX + 1);
    // What stands for several counts as them when it is released.
    let first = node.book.seen(&number(1)).unwrap().ended.remove(0);
    node.book.release(&number(1), &first).unwrap();
    let seen = node.book.seen(&number(1)).unwrap();
    assert_eq!((seen.containers, seen.syscalls), (all + 1, all));
}

#[test]
fn a_crash_while_two_recordings_become_one_counts_neither_twice() {
    let mut node = Node::new();
    node.start(1, &by_name());
    for number in 0..=u32::try_from(ENDED_MAX).unwrap() {
        let word = format!("app{number}");
        node.bundle(&word, "app");
        let cgroup = node.begin(&word);
        node.call(cgroup, &[number]);
        node.events();
        let oldest = node.path("journal").join(format!("container-{}.json", id("app0")));
        let text = fs::read(&oldest).unwrap();
        node.end(&word);
        node.events();
        if !oldest.exists() {
            fs::write(oldest, text).unwrap();
        }
    }
    let files = node.journal().len();
    node.restart();
    assert_eq!(node.journal().len(), files - 1);
    let seen = node.book.seen(&number(1)).unwrap();
    let all = u32::try_from(ENDED_MAX).unwrap() + 1;
    assert_eq!((seen.containers, seen.syscalls, seen.ended.len()), (all, all, ENDED_MAX));
}

#[test]
fn cgroups_below_a_container_are_the_containers() {
    let mut node = Node::new();
    node.start(1, &by_name());
    node.bundle("app", "app");
    let own = node.begin("app");
    let below = node.cgroup(&format!("{}/container", cgroup("app")));
    node.call(own, &[1]);
    node.call(below, &[2]);
    node.world.borrow_mut().losses.insert(below, Loss::Phases(3));
    node.events();
    assert_eq!(node.recorded(1), [row("app", false, true, &[1, 2])]);
    let recordings = node.book.recordings(&number(1)).unwrap();
    assert_eq!(recordings[0].capture.completeness.losses, [Loss::Phases(3)]);
    assert_eq!(recordings[0].capture.container.cgroup, cgroup("app"));
    assert_eq!(node.book.losses(), [Loss::Phases(3)]);
    node.remove(&format!("{}/container", cgroup("app")));
    node.events();
    assert!(!node.recorded(1)[0].1, "it goes on without the cgroup below");
    node.end("app");
    node.events();
    assert!(node.recorded(1)[0].1);
    node.book.stop("trace", None).unwrap();
    assert_eq!(node.slots(), [0; 0]);
    assert_eq!(node.book.losses(), [Loss::Phases(3)], "what was lost stays counted");
}

#[test]
fn nobody_can_pretend_to_be_another_container() {
    let mut node = Node::new();
    node.bundle("app", "app");
    node.bundle("evil", "evil");
    let pretender = format!("{}/{}", cgroup("evil"), id("app"));
    // One that is there already, and one that is made while the victim is recorded.
    node.begin("evil");
    node.begin("app");
    node.cgroup(&pretender);
    node.start(1, &by_container("app"));
    let own = node.slots();
    assert_eq!(own.len(), 1);
    node.remove(&pretender);
    node.events();
    let again = node.cgroup(&pretender);
    node.call(again, &[99]);
    node.events();
    assert_eq!((node.slots(), node.recorded(1)), (own, vec![row("app", false, false, &[])]));
    // The runtime's word about another pod's container is none about this one.
    node.annotate("thief", &json!({ "container-name": "app", "sandbox-uid": "0".repeat(32) }));
    node.begin("thief");
    node.events();
    assert_eq!(node.recorded(1).len(), 1);
}

#[test]
fn a_container_without_processes_has_ended_although_its_cgroup_is_there() {
    let mut node = Node::new();
    node.start(1, &by_name());
    node.bundle("app", "app");
    node.begin("app");
    node.events();
    let populated = |node: &Node, populated: &str| {
        let events = node.path(&format!("cgroups{}/cgroup.events", cgroup("app")));
        fs::write(events, format!("populated {populated}\nfrozen 0\n")).unwrap();
    };
    let ended = |node: &mut Node| {
        node.look();
        node.recorded(1)[0].1
    };
    populated(&node, "0");
    assert!(!ended(&mut node), "nothing has run in it yet");
    populated(&node, "1");
    assert!(!ended(&mut node));
    populated(&node, "0");
    assert!(ended(&mut node));
    populated(&node, "1");
    assert!(!ended(&mut node));
    populated(&node, "0");
    let own = node.slots()[0];
    node.world.borrow_mut().events.push(CgroupEvent::Ended(CgroupId(own)));
    node.events();
    assert!(node.recorded(1)[0].1);
}

#[test]
fn events_that_were_lost_are_made_up_for() {
    let mut node = Node::new();
    node.start(1, &by_name());
    node.bundle("one", "one");
    node.begin("one");
    node.events();
    node.bundle("two", "two");
    node.begin("two");
    node.end("one");
    node.world.borrow_mut().events = vec![CgroupEvent::Missed];
    node.events();
    assert_eq!(node.recorded(1), [row("one", true, true, &[]), row("two", false, true, &[])]);
    // Where not even that was told, the next look finds it.
    node.end("two");
    node.world.borrow_mut().events.clear();
    node.look();
    assert!(node.recorded(1)[1].1);
}

#[test]
fn a_slot_that_is_not_to_be_had_is_refused() {
    let mut node = Node::new();
    for word in ["a", "b"] {
        node.bundle(word, word);
        node.begin(word);
    }
    node.world.borrow_mut().room = 1;
    let refused = node.book.start(&number(1), &by_name(), node.now);
    assert_eq!(refused, Err(PartError::Refused("all slots are in use".into())));
    assert_eq!((node.slots(), node.journal(), node.book.sessions(node.now)), (vec![], vec![], vec![]));
    node.world.borrow_mut().room = 2;
    node.start(1, &by_name());
    assert_eq!(node.recorded(1).len(), 2);
}

#[test]
fn a_kernel_that_cannot_record_says_why_each_time() {
    let mut node = Node::new();
    let tries = Rc::new(RefCell::new(0));
    let count = tries.clone();
    node.book.kernel = Err("no BTF".into());
    node.book.load = Box::new(move || {
        *count.borrow_mut() += 1;
        Err(format!("no BTF, {}", count.borrow()))
    });
    for attempt in 1..3 {
        let refused = node.book.start(&number(1), &by_name(), node.now);
        assert_eq!(refused, Err(PartError::Refused(format!("no BTF, {attempt}"))));
    }
    assert_eq!(node.book.status().kernel, Err("no BTF, 2".into()));
    // Everything else goes on: a Trace can be given up.
    assert_eq!(node.book.stop("trace", None), Ok(()));
    assert_eq!(node.book.seen(&number(1)), Ok(Seen::default()));
    node.look();
    node.events();
    assert_eq!(*tries.borrow(), 2);
}

#[test]
fn what_could_not_be_taken_over_is_tried_again() {
    let mut node = Node::new();
    node.start(1, &by_name());
    node.bundle("app", "app");
    let app = node.begin("app");
    node.events();
    // Another process is still ending.
    let in_use = || Err("in use".to_owned());
    let kernel = std::mem::replace(&mut node.book.kernel, in_use());
    let mut loads = vec![kernel, in_use()];
    node.book.load = Box::new(move || loads.pop().unwrap());
    node.look();
    assert_eq!(node.book.status().kernel, in_use().map(|_: Kernel<Scripted>| ()));
    assert!(matches!(node.book.recordings(&number(1)), Err(PartError::Unavailable(_))));
    node.call(app, &[7]);
    node.look();
    assert_eq!(node.book.status().kernel, Ok(()));
    assert_eq!(node.recorded(1), [row("app", false, true, &[7])]);
}

#[test]
fn a_stop_that_failed_half_way_is_repeated() {
    let mut node = Node::new();
    node.start(1, &by_name());
    node.bundle("app", "app");
    node.begin("app");
    node.events();
    node.world.borrow_mut().broken = true;
    assert!(matches!(node.book.stop("trace", None), Err(PartError::Unavailable(_))));
    assert_eq!((node.book.sessions(node.now), node.slots().len()), (vec![], 1));
    node.world.borrow_mut().broken = false;
    // By the next look, or by the next process.
    node.look();
    assert_eq!((node.slots(), node.journal()), (vec![], vec![]));
}

#[test]
fn slots_that_nobody_knows_wait_until_the_controller_has_seen_every_trace() {
    let lost = |node: &mut Node| {
        node.start(1, &by_name());
        node.bundle("app", "app");
        let app = node.begin("app");
        node.call(app, &[5]);
        node.events();
        for file in node.journal() {
            fs::remove_file(node.path("journal").join(file)).unwrap();
        }
        node.restart();
        app
    };
    // A Trace says that it is its own.
    let mut node = Node::new();
    let app = lost(&mut node);
    node.now += Duration::from_hours(1);
    node.look();
    assert_eq!((node.slots(), node.world.borrow().enrol_new), (vec![app], true));
    node.start(1, &by_name());
    assert_eq!(node.recorded(1), [row("app", false, true, &[5])]);
    node.book.sessions(node.now);
    node.now += Duration::from_hours(1);
    node.look();
    assert_eq!(node.recorded(1).len(), 1);
    // No Trace does.
    let mut node = Node::new();
    let app = lost(&mut node);
    node.cgroup("/system.slice/other.service");
    node.events();
    node.book.sessions(node.now);
    node.look();
    assert_eq!(node.slots(), [app], "a Trace may be about to");
    node.now += Duration::from_mins(2);
    node.look();
    assert_eq!((node.slots(), node.world.borrow().enrol_new), (vec![], false));
    // It may end before that. Where every Trace was seen and none records, it leaves nothing behind.
    let mut node = Node::new();
    let app = lost(&mut node);
    node.book.farewell();
    assert_eq!(node.slots(), [app], "no Trace was seen yet");
    node.book.sessions(node.now);
    node.book.farewell();
    assert_eq!((node.slots(), node.world.borrow().enrol_new), (vec![], false));
    let mut node = Node::new();
    let app = lost(&mut node);
    node.start(1, &by_name());
    node.book.sessions(node.now);
    node.book.farewell();
    assert_eq!((node.slots(), node.world.borrow().enrol_new), (vec![app], true), "it is recorded");
}

#[test]
fn what_the_kernel_has_lost_is_no_recording() {
    let mut node = Node::new();
    node.start(1, &by_name());
    for word in ["runs", "ended"] {
        node.bundle(word, word);
        node.begin(word);
    }
    node.events();
    node.end("ended");
    node.events();
    *node.world.borrow_mut() = World { room: 100, ..World::default() };
    node.restart();
    // What runs is recorded from here on, and that stands in the recording. What had ended was not in the kernel any more.
    assert_eq!(node.recorded(1), [row("runs", false, false, &[]), row("ended", true, true, &[])]);
    assert!(node.world.borrow().enrol_new);
}

#[test]
fn files_that_cannot_be_understood_cost_what_they_stood_for() {
    let mut node = Node::new();
    node.start(1, &by_name());
    node.start(2, &by_name());
    for word in ["a", "b"] {
        node.bundle(word, word);
        node.begin(word);
    }
    node.events();
    let spoil =
        |name: String, text: &str| fs::write(node.root.path().join("journal").join(name), text).unwrap();
    spoil("session-trace-2.json".into(), "half a fi");
    spoil(format!("container-{}.json", id("a")), r#"{ "version": 99, "boot": "" }"#);
    spoil("container-other.json".into(), "{}");
    spoil("unrelated".into(), "?");
    fs::create_dir(node.path("journal/container-folder.json")).unwrap();
    node.restart();
    // What the container was called is told once more.
    assert_eq!(node.book.sessions(node.now), [number(1)]);
    assert_eq!(node.recorded(1).len(), 2);
    // Of before the machine was started anew, everything is forgotten.
    for file in node.journal().iter().filter(|f| !f.contains("folder") && *f != "unrelated") {
        let path = node.path("journal").join(file);
        let Ok(mut page) = serde_json::from_slice::<serde_json::Value>(&fs::read(&path).unwrap()) else {
            continue;
        };
        page["boot"] = "another".into();
        fs::write(path, page.to_string()).unwrap();
    }
    *node.world.borrow_mut() = World { room: 100, ..World::default() };
    node.restart();
    assert_eq!((node.book.sessions(node.now), node.slots()), (vec![], vec![]));
}

#[test]
fn whether_a_container_is_alone_and_who_owns_it() {
    let rows = [
        (by_name(), cart(&["app"], &[]), true),
        (by_name(), cart(&["init", "app"], &[]), false),
        (by_container("app"), cart(&["init", "app"], &[]), true),
    ];
    for (selection, pod, alone) in rows {
        let mut node = Node::new();
        node.start(1, &selection);
        node.pod(applied(pod));
        node.bundle("app", "app");
        node.begin("app");
        node.events();
        let first = node.book.recordings(&number(1)).unwrap().remove(0);
        assert_eq!(first.alone, alone, "{selection:?}");
        assert_eq!(first.owner.unwrap().kind, "ReplicaSet");
        // Somebody debugs the pod: what the first one's documents are called does not change.
        node.pod(applied(cart(&["app", "init", "debugger"], &[("app", "app")])));
        assert_eq!(node.book.recordings(&number(1)).unwrap()[0].alone, alone);
        // The names survive both the process and the pod.
        node.pod(PodChange::Deleted(cart(&["app"], &[])));
        node.restart();
        let again = node.book.recordings(&number(1)).unwrap().remove(0);
        assert_eq!((again.alone, again.owner.unwrap().kind.as_str()), (alone, "ReplicaSet"));
        assert_eq!(again.capture.container.image_digest.as_deref(), Some("sha256:0a"));
        assert_eq!(again.capture.container.runtime.as_deref(), Some("runc"));
        let pod = again.capture.container.pod.unwrap();
        assert_eq!((pod.uid.as_str(), pod.node.as_str()), (UID, "node-1"));
    }
}

#[test]
fn pods_are_found_once_all_are_known() {
    let mut node = Node::new();
    node.pod(applied(cart(&["init", "app"], &[])));
    let other = PodRecord {
        name: "cart-1".into(),
        uid: "other".into(),
        labels: BTreeMap::new(),
        ..cart(&["app"], &[])
    };
    node.pod(applied(other.clone()));
    let found = |node: &Node, selection: &Selection| {
        node.book
            .find(selection)
            .unwrap()
            .into_iter()
            .map(|f| (f.pod, f.containers.len()))
            .collect::<Vec<_>>()
    };
    assert_eq!(found(&node, &by_name()), [("cart-0".into(), 2)]);
    assert_eq!(found(&node, &by_container("none")), [("cart-0".into(), 2)], "the container is left aside");
    assert_eq!(found(&node, &by_label()), [("cart-0".into(), 2)]);
    let all = Selection { namespace: Some("shop".into()), ..Selection::default() };
    assert_eq!(found(&node, &all).len(), 2);
    node.pod(PodChange::Deleted(other));
    assert_eq!(found(&node, &all).len(), 1);
    let (book, _told) = open(&node.root, &node.world, node.now);
    node.book = book;
    assert!(matches!(node.book.find(&all), Err(PartError::Unavailable(_))));
    node.pod(PodChange::Failed("pods is forbidden".into()));
    let error = node.book.find(&all).unwrap_err().to_string();
    assert!(error.contains("pods is forbidden"), "{error}");
    assert_eq!(node.book.status().pods.unwrap_err().matches("forbidden").count(), 1);
}

#[test]
fn nobody_becomes_another_pod_by_what_they_write_into_their_own() {
    let claims = |uid: &str, name: &str| PodRecord {
        uid: uid.into(),
        namespace: "other".into(),
        name: name.into(),
        static_uid: Some(UID.into()),
        ..cart(&["app"], &[])
    };
    // A pod that the API server knows by that uid.
    let mut node = Node::new();
    node.start(1, &by_label());
    node.pod(applied(cart(&["app"], &[("app", "app")])));
    node.pod(applied(claims("foreign", "mine")));
    node.begin("app");
    node.events();
    let pod = node.book.recordings(&number(1)).unwrap().remove(0).capture.container.pod.unwrap();
    assert_eq!((pod.uid.as_str(), pod.namespace.as_str()), (UID, "shop"));

    // A static one: whoever claims to be it besides makes it nobody's.
    let mut pods = Pods::default();
    let mut change = |pod| drop(pods.change(applied(pod), Instant::now()));
    change(claims("mirror", "static"));
    change(claims("mirror-made-anew", "static"));
    assert_eq!(pods.get(UID).map(|pod| pod.name.as_str()), Some("static"));
    let mut change = |pod| drop(pods.change(applied(pod), Instant::now()));
    change(claims("foreign", "mine"));
    assert_eq!(pods.get(UID), None);
    assert_eq!(pods.get("foreign").map(|pod| pod.name.as_str()), Some("mine"));
}

#[test]
fn a_static_pod_is_known_by_the_uid_of_its_cgroup() {
    let mut node = Node::new();
    node.start(1, &by_label());
    let pod = PodRecord {
        uid: "the-mirror".into(),
        static_uid: Some(UID.into()),
        ..cart(&["app"], &[("app", "app")])
    };
    node.pod(applied(pod));
    node.begin("app");
    node.events();
    assert_eq!(node.recorded(1).len(), 1);
    let pod = node.book.recordings(&number(1)).unwrap().remove(0).capture.container.pod.unwrap();
    assert_eq!(pod.uid, "the-mirror");
    node.pods.clear();
    node.list();
    node.now += Duration::from_hours(1);
    node.look();
    assert_eq!(node.recorded(1).len(), 1, "forgotten pods take nothing with them");
}
