//! The IEEE 802.1Q tag, as it stands behind the Ethernet addresses and the tag's own type.

use super::addresses::EtherType;
use super::cursor::{Reader, Writer};
use super::error::Malformed;

/// Tag control information and the type of what follows: the four bytes after [`EtherType::VLAN`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VlanTag {
    /// Priority code point, 0 to 7.
    pub priority: u8,
    /// Whether this frame may be dropped before others.
    pub drop_eligible: bool,
    /// VLAN identifier, 0 (priority only) to 4095 (reserved).
    pub identifier: u16,
    /// What follows the tag.
    pub ethertype: EtherType,
}

impl VlanTag {
    /// Bytes on the wire.
    pub const LENGTH: usize = 4;
    const IDENTIFIER_MASK: u16 = 0x0fff;

    /// Reads the first [`LENGTH`](Self::LENGTH) bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new("802.1Q", bytes);
        let control = reader.take_u16("tag control information")?;
        let ethertype = EtherType(reader.take_u16("type")?);
        Ok(Self { ethertype, ..Self::from_control(control) })
    }

    /// A tag from its control information alone, as devices report it beside the frame; the type is left zero.
    pub fn from_control(control: u16) -> Self {
        Self {
            priority: (control >> 13) as u8,
            drop_eligible: control & 0x1000 != 0,
            identifier: control & Self::IDENTIFIER_MASK,
            ethertype: EtherType::default(),
        }
    }

    /// The control information: priority, drop eligibility and identifier in 16 bits.
    pub fn control(&self) -> u16 {
        u16::from(self.priority & 7) << 13 | u16::from(self.drop_eligible) << 12 | self.identifier & Self::IDENTIFIER_MASK
    }

    /// Writes the first [`LENGTH`](Self::LENGTH) bytes of `out`; panics if it is shorter.
    pub fn emit(&self, out: &mut [u8]) {
        let mut writer = Writer::new(&mut out[..Self::LENGTH]);
        writer.put_u16(self.control());
        writer.put_u16(self.ethertype.0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::testing::{assert_cuts_refused, bytes, config};

    #[test]
    fn fields_lie_where_the_standard_says() {
        let tag = VlanTag::parse(&[0xb0, 0x64, 0x08, 0x00]).unwrap();
        assert_eq!(tag, VlanTag { priority: 5, drop_eligible: true, identifier: 100, ethertype: EtherType::IPV4 });
        assert_eq!(VlanTag::parse(&[0xb0, 0x64, 0x08]).unwrap_err().field, "type");
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn round_trip(priority in 0..8_u8, drop_eligible: bool, identifier in 0..4096_u16, ethertype: u16) {
            let tag = VlanTag { priority, drop_eligible, identifier, ethertype: EtherType(ethertype) };
            let mut out = [0xa5; VlanTag::LENGTH];
            tag.emit(&mut out);
            prop_assert_eq!(VlanTag::parse(&out), Ok(tag));
            assert_cuts_refused(&out, VlanTag::parse);
        }

        #[test]
        fn no_input_panics(data in bytes(6)) {
            let _ = VlanTag::parse(&data);
        }
    }
}
