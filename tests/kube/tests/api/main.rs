//! What a controller does, in one program: the tests share an API server where they can.

mod nodes;
mod operations;
mod outage;
mod profiles;
mod spo_schema;
mod users;
