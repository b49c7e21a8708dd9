//! The recording of an ended container, outside the kernel: slots are for running containers.

use std::{collections::BTreeSet, time::Duration};

use gadgetd_core::{
    Capture, CgroupId, Completeness, Container, Loss, Machine, Recorded, RefusedCall, Syscall,
};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// The recording of an ended container. Only recordings of earlier containers of the same name are merged into it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Snapshot {
    syscalls: Vec<Syscall>,
    #[serde(default)]
    refused: Vec<RefusedCall>,
    completeness: Completeness,
    /// The time since boot, in milliseconds, of the last call that was new.
    last_new: Option<u64>,
    /// The slots that it was read from. They may not have been released yet.
    slots: BTreeSet<u64>,
    /// How many earlier containers were merged into it.
    earlier: u32,
    /// The last of those, whose file may still exist.
    #[serde(rename = "absorbed")]
    last_merged: Option<String>,
}

impl Snapshot {
    /// A snapshot of slots, merged with an earlier snapshot of the same container.
    pub(super) fn new(before: Option<&Self>, slots: Vec<(CgroupId, Recorded)>) -> Self {
        let ids = slots.iter().map(|(slot, _)| slot.0);
        let ids = before.iter().flat_map(|snapshot| &snapshot.slots).copied().chain(ids).collect();
        let all = before.map(Self::own).into_iter().chain(slots.into_iter().map(|(_, recorded)| recorded));
        let Recorded { syscalls, refused, completeness, since_new } = merge(all);
        Self {
            syscalls,
            refused,
            completeness,
            last_new: since_new.map(monotonic_ms),
            slots: ids,
            earlier: before.map_or(0, |snapshot| snapshot.earlier),
            last_merged: before.and_then(|snapshot| snapshot.last_merged.clone()),
        }
    }

    /// This one, merged with that of an earlier container.
    pub(super) fn merged_with(&self, id: &str, earlier: &Self) -> Self {
        let Recorded { syscalls, refused, completeness, since_new } = merge([earlier.own(), self.own()]);
        Self {
            syscalls,
            refused,
            completeness,
            last_new: since_new.map(monotonic_ms),
            slots: self.slots.clone(),
            earlier: self.earlier + earlier.earlier + 1,
            last_merged: Some(id.to_owned()),
        }
    }

    /// Whether it was read from a slot.
    pub(super) fn covers(&self, slot: CgroupId) -> bool {
        self.slots.contains(&slot.0)
    }

    /// How many earlier containers were merged into it.
    pub(super) fn earlier(&self) -> u32 {
        self.earlier
    }

    /// The last container that was merged into it.
    pub(super) fn last_merged(&self) -> Option<&str> {
        self.last_merged.as_deref()
    }

    /// Its losses while it was in the kernel.
    pub(super) fn losses(&self) -> &[Loss] {
        &self.completeness.losses
    }

    /// The recording, with the losses of the whole machine since.
    pub(super) fn recorded(&self, losses: Vec<Loss>) -> Recorded {
        let since = Recorded {
            syscalls: Vec::new(),
            refused: Vec::new(),
            completeness: Completeness { losses, from_start: true },
            since_new: None,
        };
        merge([self.own(), since])
    }

    fn own(&self) -> Recorded {
        Recorded {
            syscalls: self.syscalls.clone(),
            refused: self.refused.clone(),
            completeness: self.completeness.clone(),
            since_new: self.last_new.map(|last| monotonic().saturating_sub(Duration::from_millis(last))),
        }
    }
}

/// Merges several recordings into one.
pub(super) fn merge(all: impl IntoIterator<Item = Recorded>) -> Recorded {
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

/// Merges losses: each kind is there once.
pub(super) fn merge_losses(all: impl IntoIterator<Item = Vec<Loss>>) -> Vec<Loss> {
    let one = |losses| Recorded {
        syscalls: Vec::new(),
        refused: Vec::new(),
        completeness: Completeness { losses, from_start: true },
        since_new: None,
    };
    merge(all.into_iter().map(one)).completeness.losses
}

/// The time since boot.
pub(super) fn monotonic() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

/// Milliseconds since boot, `ago` before now.
pub(super) fn monotonic_ms(ago: Duration) -> u64 {
    u64::try_from(monotonic().saturating_sub(ago).as_millis()).unwrap_or(u64::MAX)
}
