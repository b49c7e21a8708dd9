//! Which containers are recorded, and for how long they keep a slot.

use super::*;

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
    node.sweep();
    assert_eq!((node.slots(), node.recorded(1)), (vec![], vec![]));
    assert_eq!(node.notified(), [""; 0]);
}

#[test]
fn whoever_may_be_meant_keeps_the_slot_until_it_is_known() {
    let mut node = Node::new();
    node.start(1, &by_label());
    let app = node.begin("app");
    node.events();
    node.bundle("app", "app");
    node.sweep();
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
    node.sweep();
    // Who runs in a pod's cgroup may become known yet.
    assert_eq!(node.slots(), [of_a_pod]);
    node.end("app");
    node.events();
    node.now += Duration::from_mins(6);
    node.sweep();
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
    assert_eq!((node.slots(), node.notified()), (vec![app], vec!["trace".to_owned()]));
    node.call(app, &[7]);
    assert_eq!(node.recorded(1), [row("app", false, false, &[7])]);
    // A second session sees what the first has seen.
    node.start(2, &by_name());
    assert_eq!(node.recorded(2), node.recorded(1));
}

#[test]
fn new_cgroups_get_slots_exactly_while_somebody_waits() {
    let mut node = Node::new();
    let waits = |node: &Node| node.kernel.borrow().enrol_new;
    assert!(!waits(&node));
    node.start(1, &by_name());
    node.start(2, &by_name());
    assert!(waits(&node));
    node.store.stop("trace", Some(2)).unwrap();
    assert!(waits(&node));
    node.store.stop("trace", None).unwrap();
    assert!(!waits(&node));
    node.store.stop("trace", None).unwrap();
    assert_eq!(node.journal(), [""; 0]);
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
    node.kernel.borrow_mut().losses.insert(below, Loss::Phases(3));
    node.events();
    assert_eq!(node.recorded(1), [row("app", false, true, &[1, 2])]);
    let recordings = node.store.recordings(&number(1)).unwrap();
    assert_eq!(recordings[0].capture.completeness.losses, [Loss::Phases(3)]);
    assert_eq!(recordings[0].capture.container.cgroup, cgroup("app"));
    assert_eq!(node.store.losses(), [Loss::Phases(3)]);
    node.remove(&format!("{}/container", cgroup("app")));
    node.events();
    assert!(!node.recorded(1)[0].1, "it goes on without the cgroup below");
    node.end("app");
    node.events();
    assert!(node.recorded(1)[0].1);
    node.store.stop("trace", None).unwrap();
    assert_eq!(node.slots(), [0; 0]);
    assert_eq!(node.store.losses(), [Loss::Phases(3)], "what was lost stays counted");
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
