//! Frames on a byte stream.
/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 8;
/// Which message a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "stub")]
pub enum FrameType { Auth, Welcome, Open, Entries, Listed, Want, FileFailed, Outcomes, Finish, Receipt, Ping, Pong, Close, Data, Hole, FileEnd, FileDigest, Feedback }
