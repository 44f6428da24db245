//! Selective acknowledgment blocks (RFC 2018 §3), the value of a TCP option.

use super::sequence::SequenceNumber;

/// One range of received data: `left` is the first number in it, `right` the first behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlock {
    /// First sequence number of the block.
    pub left: SequenceNumber,
    /// Sequence number that follows the last of the block.
    pub right: SequenceNumber,
}

/// Up to four SACK blocks, in the order of the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlocks {
    /// Blocks beyond `length` are zero, so that derived equality is right.
    blocks: [SackBlock; Self::CAPACITY],
    length: u8,
}

impl SackBlocks {
    /// What 40 bytes of options hold; with timestamps only three fit (RFC 2018 §3).
    pub const CAPACITY: usize = 4;

    /// Appends a block; returns whether there was room for it.
    pub fn push(&mut self, block: SackBlock) -> bool {
        let Some(space) = self.blocks.get_mut(usize::from(self.length)) else {
            return false;
        };
        *space = block;
        self.length += 1;
        true
    }

    /// The blocks in the order of the wire.
    pub fn as_slice(&self) -> &[SackBlock] {
        self.blocks.get(..self.len()).unwrap_or_default()
    }

    /// The blocks in the order of the wire.
    pub fn iter(&self) -> std::slice::Iter<'_, SackBlock> {
        self.as_slice().iter()
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl<'a> IntoIterator for &'a SackBlocks {
    type Item = &'a SackBlock;
    type IntoIter = std::slice::Iter<'a, SackBlock>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Takes as many as there is room for.
impl FromIterator<SackBlock> for SackBlocks {
    fn from_iter<I: IntoIterator<Item = SackBlock>>(blocks: I) -> Self {
        let mut taken = Self::default();
        blocks.into_iter().take(Self::CAPACITY).for_each(|block| {
            taken.push(block);
        });
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_blocks_and_no_more() {
        let block = |left: u32| SackBlock { left: left.into(), right: (left + 1).into() };
        let mut blocks: SackBlocks = (0..6).map(block).collect();
        assert_eq!(blocks.as_slice(), [block(0), block(1), block(2), block(3)]);
        assert!(!blocks.push(block(9)));
        assert_eq!(blocks.len(), SackBlocks::CAPACITY);
        assert!(SackBlocks::default().is_empty());
    }
}
