//! Containers that have ended.

use super::*;

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
    let seen = node.store.progress(&number(1)).unwrap();
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
    node.notified();
    for _ in 0..2 {
        node.store.release(&number(1), &id("app")).unwrap();
        node.restart();
        let seen = node.store.progress(&number(1)).unwrap();
        assert_eq!((seen.containers, seen.syscalls, seen.ended), (1, 2, vec![]));
        assert!(seen.since_new.is_some());
        assert_eq!((node.recorded(1).len(), node.recorded(2).len()), (0, 1));
        assert_eq!(node.slots(), [0; 0]);
    }
    // Nothing that becomes known later brings it back.
    node.pod(applied(cart(&["app"], &[("app", "app")])));
    node.sweep();
    assert_eq!(node.recorded(1).len(), 0);
    node.store.release(&number(2), &id("app")).unwrap();
    assert_eq!((node.slots(), node.journal().len()), (vec![], 2));
    node.sweep();
    node.restart();
    assert_eq!(node.store.progress(&number(2)).unwrap().containers, 1);
    // Strangers are of no interest.
    node.store.release(&number(1), "nobody").unwrap();
    node.store.release(&number(9), &id("app")).unwrap();
}

#[test]
fn what_has_ended_needs_no_slot_and_loses_nothing() {
    let mut node = Node::new();
    node.start(1, &by_name());
    for word in ["one", "two"] {
        node.bundle(word, word);
        let cgroup = node.begin(word);
        node.call(cgroup, &[1, 2]);
        node.kernel.borrow_mut().losses.insert(cgroup, Loss::Phases(3));
        node.events();
    }
    let losses = |node: &Node| {
        let recordings = node.store.recordings(&number(1)).unwrap();
        recordings.into_iter().map(|r| r.capture.completeness.losses).collect::<Vec<_>>()
    };
    node.end("one");
    node.events();
    let want = [row("one", true, true, &[1, 2]), row("two", false, true, &[1, 2])];
    assert_eq!((node.slots().len(), node.recorded(1)), (1, want.to_vec()));
    assert_eq!(losses(&node), [[Loss::Phases(3)], [Loss::Phases(3)]]);
    assert_eq!(node.store.losses(), [Loss::Phases(6)]);
    // Whoever would have come after it and got no slot is missing from documents about it.
    node.kernel.borrow_mut().common = Some(Loss::SlotsExhausted(2));
    let with_common = [Loss::Phases(3), Loss::SlotsExhausted(2)];
    assert_eq!(losses(&node), [with_common; 2]);
    // It is forgotten, and what was lost of it stays counted.
    node.store.stop("trace", None).unwrap();
    assert_eq!((node.slots(), node.journal()), (vec![], vec![]));
    assert_eq!(node.store.losses(), [Loss::Phases(6), Loss::SlotsExhausted(2)]);
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
    node.sweep();
    assert_eq!((node.slots(), node.recorded(1)), (vec![app], vec![row("app", true, true, &[1])]));
    fs::remove_dir(&file).unwrap();
    node.sweep();
    assert_eq!((node.slots(), node.recorded(1)), (vec![], vec![row("app", true, true, &[1])]));
    // Killed between the journal and the kernel: what it did is not counted twice.
    assert_ne!(fs::read(&file).unwrap(), text);
    let mut page: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    page["slots"] = json!([app]);
    fs::write(&file, page.to_string()).unwrap();
    let (cgroup, path) = (CgroupId(app), Some(cgroup("app")));
    node.kernel.borrow_mut().enrolled.insert(app, Enrolled { cgroup, path, from_start: true });
    node.kernel.borrow_mut().losses.insert(app, Loss::Phases(1));
    node.restart();
    assert_eq!((node.slots(), node.recorded(1)), (vec![], vec![row("app", true, true, &[1])]));
    assert_eq!(node.store.losses(), []);
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
        node.kernel.borrow_mut().losses.insert(cgroup, Loss::Phases(1));
        node.events();
        node.end(&word);
        node.events();
        node.unbundle(&word);
    };
    let all = u32::try_from(ARCHIVED_PER_NAME_MAX).unwrap() + 30;
    for number in 0..all - 10 {
        restart(&mut node, number);
    }
    // A Trace that began later has its own.
    node.start(2, &by_name());
    for number in all - 10..all {
        restart(&mut node, number);
    }
    for _ in 0..2 {
        let recordings = node.store.recordings(&number(1)).unwrap();
        assert_eq!(recordings.len(), 2 * ARCHIVED_PER_NAME_MAX);
        assert_eq!(recordings.iter().map(|r| 1 + r.earlier).sum::<u32>(), all);
        assert_eq!(recordings.last().unwrap().capture.container.id, id(&format!("app{}", all - 1)));
        let union: Vec<_> = recordings.iter().map(|r| &r.capture).collect();
        let union = Capture::union(Container::default(), &union).unwrap();
        assert!(union.syscalls.iter().map(|call| call.number).eq(0..all));
        assert_eq!(union.completeness.losses, [Loss::Phases(u64::from(all))]);
        let of_second: Vec<_> = node.recorded(2).into_iter().flat_map(|row| row.3).collect();
        assert_eq!(of_second, (all - 10..all).collect::<Vec<_>>());
        let seen = node.store.progress(&number(1)).unwrap();
        assert_eq!((seen.containers, seen.syscalls, seen.ended.len()), (all, all, 2 * ARCHIVED_PER_NAME_MAX));
        assert_eq!((node.slots(), node.journal().len()), (vec![], 2 + 2 * ARCHIVED_PER_NAME_MAX));
        node.restart();
    }
    // Another container of the pod is another's.
    node.bundle("log", "log");
    node.begin("log");
    node.events();
    node.end("log");
    node.events();
    assert_eq!(node.store.recordings(&number(1)).unwrap().len(), 2 * ARCHIVED_PER_NAME_MAX + 1);
    // What stands for several counts as them when it is released.
    let first = node.store.progress(&number(1)).unwrap().ended.remove(0);
    node.store.release(&number(1), &first).unwrap();
    let seen = node.store.progress(&number(1)).unwrap();
    assert_eq!((seen.containers, seen.syscalls), (all + 1, all));
}

#[test]
fn a_crash_while_two_recordings_become_one_counts_neither_twice() {
    let mut node = Node::new();
    node.start(1, &by_name());
    for number in 0..=u32::try_from(ARCHIVED_PER_NAME_MAX).unwrap() {
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
    let seen = node.store.progress(&number(1)).unwrap();
    let all = u32::try_from(ARCHIVED_PER_NAME_MAX).unwrap() + 1;
    assert_eq!((seen.containers, seen.syscalls, seen.ended.len()), (all, all, ARCHIVED_PER_NAME_MAX));
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
        node.sweep();
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
    node.kernel.borrow_mut().events.push(CgroupEvent::Ended(CgroupId(own)));
    node.events();
    assert!(node.recorded(1)[0].1);
}
