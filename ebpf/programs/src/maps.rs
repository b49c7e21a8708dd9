//! The maps, as user space finds them by name. Sizes are defaults that the loader overrides.

use core::{ffi::c_void, marker::PhantomData, ptr};

use aya_ebpf::{
    bindings::{BPF_F_NO_PREALLOC, BPF_LOCAL_STORAGE_GET_F_CREATE, bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE},
    btf_maps::{Array, HashMap, Queue, RingBuf},
    helpers::generated::{bpf_task_storage_delete, bpf_task_storage_get},
    macros::btf_map,
};
use gadgetd_ebpf_common::{EnrolNew, Event, Losses, Owner, PATH, Slot};

use crate::{entrant::Entrant, kernel::Task};

/// Which slot a cgroup records into. Preallocated: an insert fails only when it is full.
#[btf_map]
pub static CGROUPS: HashMap<u64, u32, 65_536> = HashMap::new();

/// What was recorded.
#[btf_map]
pub static SLOTS: Array<Slot, 8_192> = Array::new();

/// Whose slot it is.
#[btf_map]
pub static OWNERS: Array<Owner, 8_192> = Array::new();

/// Slots that nobody owns, all of them empty.
#[btf_map]
pub static FREE: Queue<u32, 8_192> = Queue::new();

/// What was lost and belongs to no slot.
#[btf_map]
pub static LOSSES: Array<Losses, 1> = Array::new();

/// What user space is told as it happens.
#[btf_map]
pub static EVENTS: RingBuf<Event, 262_144> = RingBuf::new();

/// Which new cgroups get a slot.
#[btf_map]
pub static ENROL_NEW: Array<EnrolNew, 1> = Array::new();

/// The path of the cgroup that is being made, ended by a zero. The kernel makes one at a time (`cgroup_mutex`).
#[btf_map]
pub static NEW_PATH: Array<[u64; PATH / 8], 1> = Array::new();

/// Tasks that came into a container's cgroup from outside, and have executed no program there. It goes away with the task.
#[btf_map]
pub static ENTRANTS: TaskStorage<Entrant> = TaskStorage::new();

/// Tasks of applications.
#[btf_map]
pub static MEMBERS: TaskStorage<Member> = TaskStorage::new();

/// A task of an application.
#[repr(C)]
pub struct Member {
    /// The cgroup that owns the slot of its container.
    pub cgroup: u64,
    /// 1: it was moved elsewhere.
    pub outside: u64,
    /// 1: it was found in the cgroup, which had processes before the recording began. It may also be one that is just being moved in.
    pub found: u64,
}

/// Tasks of recorded cgroups under a seccomp filter: 1 while in a call that the filter let run.
#[btf_map]
pub static FILTERED: TaskStorage<u64> = TaskStorage::new();

/// Storage that belongs to a task (`aya-ebpf` has none yet).
#[repr(C)]
pub struct TaskStorage<T> {
    r#type: *const [i32; BPF_MAP_TYPE_TASK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
    _value: PhantomData<T>,
}

// SAFETY: the fields only describe the map to the loader, nothing reads them.
unsafe impl<T> Sync for TaskStorage<T> {}

impl<T> TaskStorage<T> {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
            _value: PhantomData,
        }
    }

    fn as_ptr(&self) -> *mut c_void {
        ptr::from_ref(self).cast_mut().cast()
    }

    /// What is stored with a task.
    #[inline(always)]
    pub fn get(&self, task: Task) -> Option<&mut T> {
        // SAFETY: the helper returns null or a value that lives until the program ends. A task's value is written by the task itself,
        // by its parent before it runs, and by who moves it: then each word may be of either.
        unsafe { bpf_task_storage_get(self.as_ptr(), task.0, ptr::null_mut(), 0).cast::<T>().as_mut() }
    }

    /// The value that is stored with a task. If there is none, a copy of `initial` is stored (or zeros). `None` when out of memory, or when
    /// somebody else stores one at the same time.
    #[inline(always)]
    pub fn create(&self, task: Task, initial: Option<&mut T>) -> Option<&mut T> {
        let initial = initial.map_or(ptr::null_mut(), ptr::from_mut);
        let flags = u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE);
        // SAFETY: as above.
        unsafe { bpf_task_storage_get(self.as_ptr(), task.0, initial.cast(), flags).cast::<T>().as_mut() }
    }

    /// Forgets what is stored with a task.
    #[inline(always)]
    pub fn delete(&self, task: Task) {
        // SAFETY: the task is alive; that nothing was stored is no error here.
        unsafe { bpf_task_storage_delete(self.as_ptr(), task.0) };
    }
}
