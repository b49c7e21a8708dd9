//! A node whose kernel, pods and runtime are scripted.

use super::*;

pub(super) const UID: &str = "6a2b7a5e-4b0e-4ab3-a4a2-f2cbd2b9d1c5";
pub(super) const OTHER: &str = "7c1d4e5f-4b0e-4ab3-a4a2-f2cbd2b9d1c5";
pub(super) const STATE: &str = "run/containerd/io.containerd.runtime.v2.task/k8s.io";

/// The id of a container, from a short word.
pub(super) fn id(word: &str) -> String {
    let hex = word.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    format!("{hex:0<64}")
}

/// The kernel side of a node. It outlives the stores that work with it.
#[derive(Debug, Default)]
pub(super) struct FakeKernel {
    pub(super) enrolled: BTreeMap<u64, Enrolled>,
    pub(super) calls: BTreeMap<u64, BTreeSet<u32>>,
    pub(super) losses: BTreeMap<u64, Loss>,
    /// Of the whole machine.
    pub(super) common: Option<Loss>,
    pub(super) enrol_new: bool,
    pub(super) events: Vec<CgroupEvent>,
    /// How many slots there are.
    pub(super) room: usize,
    /// From now on nothing can be read or released.
    pub(super) broken: bool,
}

#[derive(Clone, Debug)]
pub(super) struct FakeSource(Rc<RefCell<FakeKernel>>);

#[derive(Debug)]
pub(super) struct ScriptError(&'static str);

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for ScriptError {}

impl SyscallSource for FakeSource {
    type Error = ScriptError;
    type Subject = CgroupId;

    fn read(&self, cgroup: CgroupId) -> Result<Recorded, ScriptError> {
        let kernel = self.0.borrow();
        if kernel.broken {
            return Err(ScriptError("broken"));
        }
        let enrolled = kernel.enrolled.get(&cgroup.0).ok_or(ScriptError("not enrolled"))?;
        let call = |number: &u32| Syscall { abi: Abi::Native, number: *number, phases: Phases::APPLICATION };
        let syscalls: Vec<_> = kernel.calls.get(&cgroup.0).into_iter().flatten().map(call).collect();
        Ok(Recorded {
            since_new: (!syscalls.is_empty()).then_some(Duration::from_secs(1)),
            syscalls,
            refused: Vec::new(),
            completeness: Completeness {
                losses: kernel.losses.get(&cgroup.0).copied().into_iter().chain(kernel.common).collect(),
                from_start: enrolled.from_start,
            },
        })
    }
}

impl CgroupSource for FakeSource {
    fn enrol(&mut self, cgroup: CgroupId, _: Entry) -> Result<(), ScriptError> {
        let mut kernel = self.0.borrow_mut();
        if kernel.enrolled.contains_key(&cgroup.0) {
            return Ok(());
        }
        if kernel.enrolled.len() >= kernel.room {
            return Err(ScriptError("all slots are in use"));
        }
        kernel.enrolled.insert(cgroup.0, Enrolled { cgroup, path: None, from_start: false });
        Ok(())
    }

    fn enrol_new(&mut self, new: NewCgroups<'_>) -> Result<(), ScriptError> {
        self.0.borrow_mut().enrol_new = new != NewCgroups::None;
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
        let mut kernel = self.0.borrow_mut();
        if kernel.broken {
            return Err(ScriptError("broken"));
        }
        kernel.enrolled.remove(&cgroup.0).map(drop).ok_or(ScriptError("not enrolled"))
    }
}

/// A node.
pub(super) struct Node {
    /// Its files: cgroups, the state of its container runtime, the journal.
    pub(super) root: tempfile::TempDir,
    pub(super) kernel: Rc<RefCell<FakeKernel>>,
    pub(super) store: RecordingStore<FakeSource>,
    pub(super) notifications: broadcast::Receiver<String>,
    pub(super) now: Instant,
    /// The pods, as the API server has them.
    pub(super) pods: BTreeMap<String, PodRecord>,
}

impl Node {
    pub(super) fn new() -> Self {
        // Memory, where inode numbers are not given twice, as in the kernel's cgroups.
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        for folder in ["cgroups", "journal", STATE] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        let kernel = Rc::new(RefCell::new(FakeKernel { room: 100, ..FakeKernel::default() }));
        let now = Instant::now();
        let (store, notifications) = open(&root, &kernel, now);
        let mut this = Self { root, kernel, store, notifications, now, pods: BTreeMap::new() };
        this.list();
        this
    }

    /// The process is killed, and another begins.
    pub(super) fn restart(&mut self) {
        (self.store, self.notifications) = open(&self.root, &self.kernel, self.now);
        self.list();
    }

    /// The API server lists its pods.
    pub(super) fn list(&mut self) {
        self.store.pod_changed(PodChange::Listing, self.now);
        for pod in self.pods.values().cloned() {
            self.store.pod_changed(PodChange::Listed(pod), self.now);
        }
        self.store.pod_changed(PodChange::ListedAll, self.now);
    }

    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.root.path().join(below.trim_start_matches('/'))
    }

    /// A cgroup is made; gives its id. The kernel tells of it with the next [`Node::events`].
    pub(super) fn cgroup(&self, path: &str) -> u64 {
        let directory = self.path(&format!("cgroups{path}"));
        fs::create_dir_all(&directory).unwrap();
        let id = fs::metadata(&directory).unwrap().ino();
        let mut kernel = self.kernel.borrow_mut();
        if kernel.enrol_new && kernel.enrolled.len() < kernel.room {
            let (cgroup, path) = (CgroupId(id), Some(path.to_owned()));
            kernel.enrolled.insert(id, Enrolled { cgroup, path, from_start: true });
            kernel.events.push(CgroupEvent::Opened(CgroupId(id)));
        }
        id
    }

    /// A cgroup is removed.
    pub(super) fn remove(&self, path: &str) {
        let directory = self.path(&format!("cgroups{path}"));
        let id = fs::metadata(&directory).unwrap().ino();
        fs::remove_dir_all(directory).unwrap();
        self.kernel.borrow_mut().events.push(CgroupEvent::Ended(CgroupId(id)));
    }

    /// The container's cgroup is made.
    pub(super) fn begin(&self, word: &str) -> u64 {
        self.cgroup(&cgroup(word))
    }

    /// The container's cgroup is removed.
    pub(super) fn end(&self, word: &str) {
        self.remove(&cgroup(word));
    }

    /// The container's runtime writes its bundle.
    pub(super) fn bundle(&self, word: &str, name: &str) {
        self.annotate(word, &json!({ "container-name": name, "container-type": "container" }));
    }

    /// The same for the pod's sandbox.
    pub(super) fn sandbox(&self, word: &str) {
        self.annotate(word, &json!({ "container-type": "sandbox" }));
    }

    pub(super) fn annotate(&self, word: &str, annotations: &serde_json::Value) {
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
    pub(super) fn unbundle(&self, word: &str) {
        fs::remove_dir_all(self.path(STATE).join(id(word))).unwrap();
    }

    pub(super) fn call(&self, cgroup: u64, calls: &[u32]) {
        self.kernel.borrow_mut().calls.entry(cgroup).or_default().extend(calls);
    }

    pub(super) fn events(&mut self) {
        self.store.handle_events(self.now);
    }

    pub(super) fn sweep(&mut self) {
        self.store.sweep(self.now);
    }

    pub(super) fn pod(&mut self, change: PodChange) {
        match &change {
            PodChange::Applied(pod) => drop(self.pods.insert(pod.uid.clone(), pod.clone())),
            PodChange::Deleted(pod) => drop(self.pods.remove(&pod.uid)),
            _ => {}
        }
        self.store.pod_changed(change, self.now);
    }

    pub(super) fn start(&mut self, session: u64, selection: &Selection) {
        self.store.start(&number(session), selection, self.now).unwrap();
    }

    /// Who is recorded in a session: name (or `?`), ended, from the start, calls.
    pub(super) fn recorded(&self, session: u64) -> Vec<(String, bool, bool, Vec<u32>)> {
        let recordings = self.store.recordings(&number(session)).unwrap();
        let one = |r: Recording| {
            let capture = r.capture;
            let calls = capture.syscalls.iter().map(|s| s.number).collect();
            let name = capture.container.name.unwrap_or("?".into());
            (name, r.ended, capture.completeness.from_start, calls)
        };
        recordings.into_iter().map(one).collect()
    }

    /// The cgroups that have a slot.
    pub(super) fn slots(&self) -> Vec<u64> {
        self.kernel.borrow().enrolled.keys().copied().collect()
    }

    /// The traces that were told since the last look.
    pub(super) fn notified(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.notifications.try_recv().ok()).collect()
    }

    pub(super) fn journal(&self) -> Vec<String> {
        let mut files: Vec<_> = fs::read_dir(self.path("journal"))
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        files
    }
}

pub(super) fn open(
    root: &tempfile::TempDir,
    kernel: &Rc<RefCell<FakeKernel>>,
    now: Instant,
) -> (RecordingStore<FakeSource>, broadcast::Receiver<String>) {
    let journal = Journal::open(&root.path().join("journal")).unwrap();
    let contents = journal.load().unwrap();
    let (events, notifications) = broadcast::channel(1024);
    let (source, hierarchy) = (FakeSource(kernel.clone()), Hierarchy::at(root.path().join("cgroups")));
    let load = Box::new(move || Ok(Kernel { source: source.clone(), hierarchy: hierarchy.clone() }));
    let settings = RecorderSettings { host_root: root.path().into(), ..RecorderSettings::new("node-1") };
    let mut store = RecordingStore::new(settings, journal, events, load);
    store.restore(contents, now);
    (store, notifications)
}

pub(super) fn number(number: u64) -> Session {
    Session { trace: "trace".into(), number }
}

pub(super) fn cgroup(word: &str) -> String {
    format!("/kubepods/besteffort/pod{UID}/{}", id(word))
}

/// Pod `shop/cart-0` with label `app=cart`, and these containers, of which some have been started.
pub(super) fn cart(containers: &[&str], started: &[(&str, &str)]) -> PodRecord {
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

pub(super) fn applied(pod: PodRecord) -> PodChange {
    PodChange::Applied(pod)
}

pub(super) fn by_name() -> Selection {
    Selection { namespace: Some("shop".into()), pod: Some("cart-0".into()), ..Selection::default() }
}

pub(super) fn by_label() -> Selection {
    Selection { labels: [("app".to_owned(), "cart".to_owned())].into(), ..Selection::default() }
}

pub(super) fn by_container(name: &str) -> Selection {
    Selection { container: Some(name.into()), ..by_name() }
}

/// `(name, ended, from the start, calls)`
pub(super) fn row(
    name: &str,
    ended: bool,
    from_start: bool,
    calls: &[u32],
) -> (String, bool, bool, Vec<u32>) {
    (name.to_owned(), ended, from_start, calls.to_vec())
}
