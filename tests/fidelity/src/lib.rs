//! The ground truth of gadgetd: real programs, and what others say about them.
//!
//! - `tests/fidelity.rs`: what `gadgetd run` records of a program is what `strace -f` sees in the same run;
//!   nothing is missing, and nothing is extra.
//! - `tests/enforced.rs`: a container that was recorded under runc or crun starts and works under its profile,
//!   and is refused what it never did.
//!
//! Both need root, a kernel that gadgetd supports, and the programs themselves. What can't run is skipped
//! with the reason; with `CI=true` in the environment it fails.
//!
//! ```
//! // Every program proves that it did what it is in the list for.
//! assert!(gadgetd_fidelity::programs::PROGRAMS.len() >= 20);
//! assert!(gadgetd_fidelity::programs::PROGRAMS.iter().all(|program| !program.makes.is_empty()));
//! ```

pub mod container;
pub mod gadgetd;
pub mod process;
pub mod programs;
pub mod strace;
pub mod tier;
