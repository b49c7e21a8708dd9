//! New cgroups get a slot before any process can be in them; what a container makes below itself shares the
//! container's.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::BPF_NOEXIST,
    helpers::generated::bpf_probe_read_kernel_str,
    macros::{btf_tracepoint, raw_tracepoint},
    programs::{BtfTracePointContext, RawTracePointContext},
};
use gadgetd_ebpf_common::{EnrolNew, Event, PATH, event, flag};

use crate::{
    atomic::shared,
    cache,
    kernel::{self, Cgroup},
    maps::{CGROUPS, ENROL_NEW, EVENTS, FREE, LOSSES, NEW_PATH, OWNERS, SLOTS},
    slots::{NO_SLOT, slot_index},
};

/// A cgroup was made; nobody can see it yet.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn mkdir(ctx: BtfTracePointContext) -> i32 {
    let cgroup = Cgroup(ctx.arg(0));
    if !cgroup.is_v2() {
        return 0;
    }
    let Some(new) = ENROL_NEW.get(0) else { return 0 };
    let enrol_new = new.on != 0;
    let above = slot_index(cgroup.parent_id());
    // By the container itself, or by the host, in something that was chosen to be recorded as a whole.
    if above != NO_SLOT && (!enrol_new || slot_index(kernel::current_cgroup_id()) == above) {
        share(cgroup.id(), above);
    } else if enrol_new {
        open(new, cgroup.id(), ctx.arg(1));
    }
    0
}

#[inline(always)]
fn share(id: u64, index: u32) {
    if CGROUPS.insert(id, index, u64::from(BPF_NOEXIST)).is_err()
        && let Some(slot) = SLOTS.get_ptr_mut(index)
    {
        shared!((*slot).lost_children).increment();
    }
}

#[inline(always)]
fn open(new: &EnrolNew, id: u64, path: *const c_void) {
    if !is_meant(new, path) {
        return;
    }
    if let Ok(Some(index)) = FREE.pop()
        && let Some(owner) = OWNERS.get_ptr_mut(index)
    {
        // SAFETY: the map's value; nobody else knows the slot.
        unsafe {
            (*owner).flags = flag::FROM_START;
            (*owner).cgroup = id;
            let at: *mut c_void = (&raw mut (*owner).path).cast();
            if bpf_probe_read_kernel_str(at, PATH as u32, path) < 0 {
                (*owner).path[0] = 0;
            }
        }
        if CGROUPS.insert(id, index, u64::from(BPF_NOEXIST)).is_ok() {
            tell(id, event::OPENED);
            return;
        }
        // SAFETY: as above.
        unsafe { (*owner).cgroup = 0 };
        // It came from there, so there is room.
        let _ = FREE.push(index, 0);
    }
    if let Some(losses) = LOSSES.get_ptr_mut(0) {
        shared!((*losses).slots_exhausted).increment();
    }
}

/// Whether a new cgroup is to have a slot, by its path. Behind the zero that ends it are other paths' bytes, which do not matter.
#[inline(always)]
fn is_meant(new: &EnrolNew, path: *const c_void) -> bool {
    const WORDS: usize = PATH / 8;
    if new.length == 0 {
        return true;
    }
    let Some(given) = NEW_PATH.get_ptr_mut(0) else { return true };
    // SAFETY: the map's value, as long as is said, and nobody else's while a cgroup is made.
    let given = unsafe {
        if bpf_probe_read_kernel_str(given.cast(), PATH as u32, path) < 0 {
            return true;
        }
        &*given
    };
    let words = |bytes: &[u8; PATH]| -> &[u64; WORDS] {
        // SAFETY: as long, and aligned: in the structure, `u64`s and multiples of them are before.
        unsafe { &*bytes.as_ptr().cast() }
    };
    let (wanted, mask) = (words(&new.path), words(&new.mask));
    let mut difference = 0;
    for at in 0..WORDS {
        difference |= (given[at] ^ wanted[at]) & mask[at];
    }
    let end = new.length as usize % PATH;
    let next = (given[end / 8] >> (end % 8 * 8)) as u8;
    difference == 0 && (next == 0 || next == b'/')
}

/// Tells user space of something.
#[inline(always)]
fn tell(cgroup: u64, kind: u64) {
    let event = Event { cgroup, kind };
    if EVENTS.output(event, 0).is_ok() {
        return;
    }
    if let Some(losses) = LOSSES.get_ptr_mut(0) {
        shared!((*losses).events).increment();
    }
    // User space may be emptying the buffer, and have looked at the counter already. Then there is room by now, and it is
    // woken up once more.
    let _ = EVENTS.output(event, 0);
}

/// A cgroup and those below it lost their last process, or got their first.
#[btf_tracepoint(function = "cgroup_notify_populated")]
pub fn populated(ctx: BtfTracePointContext) -> i32 {
    let cgroup = Cgroup(ctx.arg(0));
    let populated: u64 = ctx.arg(2);
    if populated as u32 == 0 && cgroup.is_v2() {
        let id = cgroup.id();
        if owned_slot(id).is_some() {
            tell(id, event::ENDED);
        }
    }
    0
}

/// The slot that a cgroup owns.
#[inline(always)]
fn owned_slot(id: u64) -> Option<u32> {
    // SAFETY: a copy is taken at once.
    let index = unsafe { CGROUPS.get(id) }.copied()?;
    (OWNERS.get(index)?.cgroup == id).then_some(index)
}

/// A cgroup was removed. Its owner's slot stays until user space has read it.
#[btf_tracepoint(function = "cgroup_rmdir")]
pub fn rmdir(ctx: BtfTracePointContext) -> i32 {
    let cgroup = Cgroup(ctx.arg(0));
    if !cgroup.is_v2() {
        return 0;
    }
    let id = cgroup.id();
    if owned_slot(id).is_some() {
        tell(id, event::ENDED);
    } else {
        // Most are not there.
        let _ = CGROUPS.remove(id);
    }
    0
}

/// Not attached to anything: user space runs it after it changed which cgroup has which slot.
#[raw_tracepoint]
pub fn invalidate(_: RawTracePointContext) -> i32 {
    cache::invalidate();
    0
}
