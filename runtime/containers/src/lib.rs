//! The cgroup v2 hierarchy, and which container a cgroup is.
//!
//! - [`Hierarchy`] finds the mount, and turns paths into ids and back.
//! - [`OwnCgroup`] is a cgroup of our own, with a process or a command in it, that leaves nothing behind.
//! - [`Watch`] tells when a cgroup appears, empties and goes, without polling.
//! - [`identify`] reads a container's identity from its cgroup's path.
//! - [`StateDirectories`] is what container runtimes keep on disk about their containers: pod, name, image.
//!
//! ```
//! use gadgetd_containers::identify;
//!
//! let id = "0a".repeat(32);
//! let path = format!("/kubepods/burstable/pod6a2b7a5e-4b0e-4ab3-a4a2-f2cbd2b9d1c5/{id}");
//! let found = identify(&path).expect("a container of a pod");
//! assert_eq!(found.id, id);
//! assert_eq!(found.pod_uid.as_deref(), Some("6a2b7a5e-4b0e-4ab3-a4a2-f2cbd2b9d1c5"));
//! ```

mod hierarchy;
mod identity;
mod own;
mod process;
mod state;
mod watch;

pub use hierarchy::{Error, Hierarchy};
pub use identity::{Identity, identify};
pub use own::{Leftovers, OwnCgroup};
pub use process::process_of;
pub use state::{
    Containerd, Containers, Crio, Described, Docker, PodName, Role, StateDirectories, StateError,
};
pub use watch::{State, Watch};
