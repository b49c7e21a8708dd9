//! Every order of reports, with a crash at every step.

use super::*;

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
    Sweep,
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
            Self::Sweep => node.sweep(),
            Self::Crash => {
                node.restart();
                node.start(1, selection);
                node.store.sessions(node.now);
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
    use Step::{Bundle, Ended, Opened, Pod, Status, Sweep};
    let causes = [(Opened, Ended), (Bundle, Opened), (Pod, Status), (Opened, Status)];
    for steps in [
        // The runtime's state alone tells a name; labels take the API server.
        vec![Bundle, Opened, Ended],
        vec![Bundle, Opened, Pod, Ended],
        vec![Opened, Pod, Status, Ended],
        vec![Bundle, Opened, Pod, Status, Sweep],
        vec![Opened, Pod, Status, Ended, Sweep],
    ] {
        let pod_notifications = steps.contains(&Pod);
        for order in orders(&steps, &causes) {
            for selection in [by_name(), by_label(), by_container("app")] {
                if !pod_notifications && !selection.labels.is_empty() {
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
    use Step::{Bundle, Deleted, Ended, Opened, Pod, Sweep, Unbundle};
    let causes = [
        (Pod, Deleted),
        (Pod, Bundle),
        (Bundle, Opened),
        (Opened, Unbundle),
        (Opened, Ended),
        // As long as the API server has not told of a pod, what it is called has to come from its runtime.
        (Pod, Opened),
    ];
    for order in orders(&[Pod, Bundle, Opened, Ended, Unbundle, Deleted, Sweep], &causes) {
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
