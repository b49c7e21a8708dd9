//! A test scripts what the kernel, the API server and the container runtime report, and in which order.

mod containers;
mod ended;
mod failures;
mod node;
mod orders;
mod pods;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt, fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use gadgetd_containers::Hierarchy;
use gadgetd_core::{
    Abi, Capture, CgroupId, Completeness, Container, Enrolled, Entry, Loss, NewCgroups, Phases, Recorded,
    Syscall, SyscallSource,
};
use gadgetd_kube::{controller::RecordingProgress, documents::Recording};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use self::node::*;
use super::{ended::ARCHIVED_PER_NAME_MAX, *};
use crate::{
    pods::{Instance, PodRecord},
    recorder::Kernel,
};
