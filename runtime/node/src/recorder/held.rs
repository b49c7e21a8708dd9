//! What was recorded of a container that is gone, once it is out of the kernel: slots are for what runs.

use std::{collections::BTreeSet, time::Duration};

use gadgetd_core::{
    Capture, CgroupId, Completeness, Container, Loss, Machine, Recorded, RefusedCall, Syscall,
};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// A recording that nothing is added to any more, but others of the same container that came before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Held {
    syscalls: Vec<Syscall>,
    #[serde(default)]
    refused: Vec<RefusedCall>,
    completeness: Completeness,
    /// The time since boot, in milliseconds, of the last call that was new.
    last_new: Option<u64>,
    /// The slots that are in it. They may not have been given back yet.
    slots: BTreeSet<u64>,
    /// How many containers are in it beside its own.
    earlier: u32,
    /// The last of those, whose own file may still be there.
    absorbed: Option<String>,
}

impl Held {
    /// A recording with one that was there before, and what slots hold.
    pub(super) fn new(before: Option<&Self>, slots: Vec<(CgroupId, Recorded)>) -> Self {
        let ids = slots.iter().map(|(slot, _)| slot.0);
        let ids = before.iter().flat_map(|held| &held.slots).copied().chain(ids).collect();
        let all = before.map(Self::own).into_iter().chain(slots.into_iter().map(|(_, recorded)| recorded));
        let Recorded { syscalls, refused, completeness, since_new } = together(all);
        Self {
            syscalls,
            refused,
            completeness,
            last_new: since_new.map(instant),
            slots: ids,
            earlier: before.map_or(0, |held| held.earlier),
            absorbed: before.and_then(|held| held.absorbed.clone()),
        }
    }

    /// This one, with what an earlier container did.
    pub(super) fn with(&self, id: &str, earlier: &Self) -> Self {
        let Recorded { syscalls, refused, completeness, since_new } = together([earlier.own(), self.own()]);
        Self {
            syscalls,
            refused,
            completeness,
            last_new: since_new.map(instant),
            slots: self.slots.clone(),
            earlier: self.earlier + earlier.earlier + 1,
            absorbed: Some(id.to_owned()),
        }
    }

    /// Whether what a slot holds is in it.
    pub(super) fn has(&self, slot: CgroupId) -> bool {
        self.slots.contains(&slot.0)
    }

    /// How many containers are in it beside its own.
    pub(super) fn earlier(&self) -> u32 {
        self.earlier
    }

    /// The last container that was taken into it.
    pub(super) fn absorbed(&self) -> Option<&str> {
        self.absorbed.as_deref()
    }

    /// What was lost of it while it was in the kernel.
    pub(super) fn losses(&self) -> &[Loss] {
        &self.completeness.losses
    }

    /// What it holds, as a slot would give it: with what was lost of the whole machine since.
    pub(super) fn recorded(&self, losses: Vec<Loss>) -> Recorded {
        let since = Recorded {
            syscalls: Vec::new(),
            refused: Vec::new(),
            completeness: Completeness { losses, from_start: true },
            since_new: None,
        };
        together([self.own(), since])
    }

    fn own(&self) -> Recorded {
        Recorded {
            syscalls: self.syscalls.clone(),
            refused: self.refused.clone(),
            completeness: self.completeness.clone(),
            since_new: self.last_new.map(|last| clock().saturating_sub(Duration::from_millis(last))),
        }
    }
}

/// Several recordings as one.
pub(super) fn together(all: impl IntoIterator<Item = Recorded>) -> Recorded {
    let mut since_new = None;
    let captures: Vec<_> = all
        .into_iter()
        .map(|recorded| {
            since_new = since_new.into_iter().chain(recorded.since_new).min();
            Capture {
                container: Container::default(),
                machine: Machine::current(),
                syscalls: recorded.syscalls,
                refused: recorded.refused,
                completeness: recorded.completeness,
            }
        })
        .collect();
    let union = Capture::union(Container::default(), &captures.iter().collect::<Vec<_>>());
    let (syscalls, refused, completeness) =
        union.map(|u| (u.syscalls, u.refused, u.completeness)).unwrap_or_default();
    Recorded { syscalls, refused, completeness, since_new }
}

/// The time since boot.
pub(super) fn clock() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

/// The time since boot, in milliseconds, that was so long ago.
pub(super) fn instant(ago: Duration) -> u64 {
    u64::try_from(clock().saturating_sub(ago).as_millis()).unwrap_or(u64::MAX)
}
