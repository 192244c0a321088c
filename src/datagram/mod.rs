//! The carrier over UDP: numbered packets, acknowledgement, repair, pacing, congestion control. Sans-IO.

pub mod congestion;
