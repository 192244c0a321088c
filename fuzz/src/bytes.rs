//! Input as a list of choices.

/// What is left of an input. When it is used up, it gives zeros; loops ask [`Self::is_empty`].
#[derive(Clone, Debug)]
pub struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    /// All of an input.
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// A choice of two.
    pub fn coin(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `end`, which is 1 to 256.
    pub fn below(&mut self, end: usize) -> usize {
        assert!((1..=256).contains(&end));
        usize::from(self.byte()) % end
    }

    /// One of several.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Sixteen bits.
    pub fn half(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Any number, most of them small: what small numbers meet, and where large ones end, is found soon.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=191 => small.into(),
            power @ 192..=254 => (1_u64 << (power - 191)).wrapping_add(self.byte().into()).wrapping_sub(128),
            255 => u64::from_le_bytes(self.array()),
        }
    }

    /// The next bytes, zeros behind the end.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let (head, rest) = self.0.split_at(N.min(self.0.len()));
        out[..head.len()].copy_from_slice(head);
        self.0 = rest;
        out
    }

    /// As many bytes as the next one says, and are left.
    pub fn some(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte());
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}
