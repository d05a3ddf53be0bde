//! The world: the shard that carries every guarantee, the brokers it runs on, its supervisor.

pub mod broker;
pub mod clock;
mod restore;
pub mod shard;
pub mod supervisor;
