//! haul moves files between machines over TCP and proves every byte.
pub mod cli;
pub mod file;
pub mod integrity;
pub mod limits;
pub mod net;
pub mod run;
pub mod security;
pub mod session;
pub mod stream;
pub mod transfer;
pub mod wire;
