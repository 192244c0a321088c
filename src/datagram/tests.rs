//! The rules of a flow, on two ends wired together: real keys, virtual time, a link of a few lines.

mod acknowledging;
mod bed;
mod losing;
mod misbehaving;
mod moving;
mod opening;
mod sharing;
