//! The API tier, in one program: its tests share an API server where they can.

mod crash;
mod nodes;
mod operations;
mod outage;
mod profiles;
mod spo_schema;
mod users;
