//! A stream in pieces: what arrives may be cut anywhere.

/// The pieces of `stream`, none empty; `seed` says where it is cut.
pub fn pieces(stream: &[u8], seed: u16) -> Vec<&[u8]> {
    let mut state = u64::from(seed) | 1 << 32;
    let mut pieces = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        // Xorshift: any spread of short and long pieces will do.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let longest = 1 << (state % 11);
        let len = usize::try_from(state >> 20 & (longest - 1)).expect("below 1024") + 1;
        let (piece, after) = rest.split_at(len.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}
