//! The pods that containers belong to.

use super::*;

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
        let first = node.store.recordings(&number(1)).unwrap().remove(0);
        assert_eq!(first.alone, alone, "{selection:?}");
        assert_eq!(first.owner.unwrap().kind, "ReplicaSet");
        // Somebody debugs the pod: what the first one's documents are called does not change.
        node.pod(applied(cart(&["app", "init", "debugger"], &[("app", "app")])));
        assert_eq!(node.store.recordings(&number(1)).unwrap()[0].alone, alone);
        // The names survive both the process and the pod.
        node.pod(PodChange::Deleted(cart(&["app"], &[])));
        node.restart();
        let again = node.store.recordings(&number(1)).unwrap().remove(0);
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
        node.store
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
    let (store, _notifications) = open(&node.root, &node.kernel, node.now);
    node.store = store;
    assert!(matches!(node.store.find(&all), Err(NodeError::Unavailable(_))));
    node.pod(PodChange::Failed("pods is forbidden".into()));
    let error = node.store.find(&all).unwrap_err().to_string();
    assert!(error.contains("pods is forbidden"), "{error}");
    assert_eq!(node.store.status().pods.unwrap_err().matches("forbidden").count(), 1);
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
    let pod = node.store.recordings(&number(1)).unwrap().remove(0).capture.container.pod.unwrap();
    assert_eq!((pod.uid.as_str(), pod.namespace.as_str()), (UID, "shop"));

    // A static one: whoever claims to be it besides makes it nobody's.
    let mut pods = Pods::default();
    let mut change = |pod| drop(pods.apply_change(applied(pod), Instant::now()));
    change(claims("mirror", "static"));
    change(claims("mirror-made-anew", "static"));
    assert_eq!(pods.get(UID).map(|pod| pod.name.as_str()), Some("static"));
    let mut change = |pod| drop(pods.apply_change(applied(pod), Instant::now()));
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
    let pod = node.store.recordings(&number(1)).unwrap().remove(0).capture.container.pod.unwrap();
    assert_eq!(pod.uid, "the-mirror");
    node.pods.clear();
    node.list();
    node.now += Duration::from_hours(1);
    node.sweep();
    assert_eq!(node.recorded(1).len(), 1, "forgotten pods take nothing with them");
}
