//! Missed events, a kernel that refuses, and what an earlier process left.

use super::*;

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
    node.kernel.borrow_mut().events = vec![CgroupEvent::Missed];
    node.events();
    assert_eq!(node.recorded(1), [row("one", true, true, &[]), row("two", false, true, &[])]);
    // Where not even that was told, the next look finds it.
    node.end("two");
    node.kernel.borrow_mut().events.clear();
    node.sweep();
    assert!(node.recorded(1)[1].1);
}

#[test]
fn a_slot_that_is_not_to_be_had_is_refused() {
    let mut node = Node::new();
    for word in ["a", "b"] {
        node.bundle(word, word);
        node.begin(word);
    }
    node.kernel.borrow_mut().room = 1;
    let refused = node.store.start(&number(1), &by_name(), node.now);
    assert_eq!(refused, Err(NodeError::Refused("all slots are in use".into())));
    assert_eq!((node.slots(), node.journal(), node.store.sessions(node.now)), (vec![], vec![], vec![]));
    node.kernel.borrow_mut().room = 2;
    node.start(1, &by_name());
    assert_eq!(node.recorded(1).len(), 2);
}

#[test]
fn a_kernel_that_cannot_record_says_why_each_time() {
    let mut node = Node::new();
    let tries = Rc::new(RefCell::new(0));
    let count = tries.clone();
    node.store.slots.kernel = Err("no BTF".into());
    node.store.slots.loader = Box::new(move || {
        *count.borrow_mut() += 1;
        Err(format!("no BTF, {}", count.borrow()))
    });
    for attempt in 1..3 {
        let refused = node.store.start(&number(1), &by_name(), node.now);
        assert_eq!(refused, Err(NodeError::Refused(format!("no BTF, {attempt}"))));
    }
    assert_eq!(node.store.status().kernel, Err("no BTF, 2".into()));
    // Everything else goes on: a Trace can be given up.
    assert_eq!(node.store.stop("trace", None), Ok(()));
    assert_eq!(node.store.progress(&number(1)), Ok(RecordingProgress::default()));
    node.sweep();
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
    let kernel = std::mem::replace(&mut node.store.slots.kernel, in_use());
    let mut loads = vec![kernel, in_use()];
    node.store.slots.loader = Box::new(move || loads.pop().unwrap());
    node.sweep();
    assert_eq!(node.store.status().kernel, in_use().map(|_: Kernel<FakeSource>| ()));
    assert!(matches!(node.store.recordings(&number(1)), Err(NodeError::Unavailable(_))));
    node.call(app, &[7]);
    node.sweep();
    assert_eq!(node.store.status().kernel, Ok(()));
    assert_eq!(node.recorded(1), [row("app", false, true, &[7])]);
}

#[test]
fn a_stop_that_failed_half_way_is_repeated() {
    let mut node = Node::new();
    node.start(1, &by_name());
    node.bundle("app", "app");
    node.begin("app");
    node.events();
    node.kernel.borrow_mut().broken = true;
    assert!(matches!(node.store.stop("trace", None), Err(NodeError::Unavailable(_))));
    assert_eq!((node.store.sessions(node.now), node.slots().len()), (vec![], 1));
    node.kernel.borrow_mut().broken = false;
    // By the next look, or by the next process.
    node.sweep();
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
    node.sweep();
    assert_eq!((node.slots(), node.kernel.borrow().enrol_new), (vec![app], true));
    node.start(1, &by_name());
    assert_eq!(node.recorded(1), [row("app", false, true, &[5])]);
    node.store.sessions(node.now);
    node.now += Duration::from_hours(1);
    node.sweep();
    assert_eq!(node.recorded(1).len(), 1);
    // No Trace does.
    let mut node = Node::new();
    let app = lost(&mut node);
    node.cgroup("/system.slice/other.service");
    node.events();
    node.store.sessions(node.now);
    node.sweep();
    assert_eq!(node.slots(), [app], "a Trace may be about to");
    node.now += Duration::from_mins(2);
    node.sweep();
    assert_eq!((node.slots(), node.kernel.borrow().enrol_new), (vec![], false));
    // It may end before that. Where every Trace was seen and none records, it leaves nothing behind.
    let mut node = Node::new();
    let app = lost(&mut node);
    node.store.shut_down();
    assert_eq!(node.slots(), [app], "no Trace was seen yet");
    node.store.sessions(node.now);
    node.store.shut_down();
    assert_eq!((node.slots(), node.kernel.borrow().enrol_new), (vec![], false));
    let mut node = Node::new();
    let app = lost(&mut node);
    node.start(1, &by_name());
    node.store.sessions(node.now);
    node.store.shut_down();
    assert_eq!((node.slots(), node.kernel.borrow().enrol_new), (vec![app], true), "it is recorded");
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
    *node.kernel.borrow_mut() = FakeKernel { room: 100, ..FakeKernel::default() };
    node.restart();
    // What runs is recorded from here on, and that stands in the recording. What had ended was not in the kernel any more.
    assert_eq!(node.recorded(1), [row("runs", false, false, &[]), row("ended", true, true, &[])]);
    assert!(node.kernel.borrow().enrol_new);
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
    assert_eq!(node.store.sessions(node.now), [number(1)]);
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
    *node.kernel.borrow_mut() = FakeKernel { room: 100, ..FakeKernel::default() };
    node.restart();
    assert_eq!((node.store.sessions(node.now), node.slots()), (vec![], vec![]));
}
