//! ICMP for IPv4 (RFC 792, RFC 1122 §3.2.2, RFC 1812 §5.2.7, RFC 1191 §4).
//!
//! Owns: the messages' headers. What follows them (the quoted packet of an error, the data of an echo) is the caller's
//! slice behind the returned length. Refuses: whether to believe or answer a message. The checksum covers header and data
//! and is verified by [`checksum`](super::checksum::checksum) over all of it.

use std::net::Ipv4Addr;

use super::cursor::{Reader, Writer};
use super::error::Malformed;

/// The header of one ICMP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmpv4Message {
    /// Type 8: "ping"; data follows.
    EchoRequest {
        /// Whose request.
        identifier: u16,
        /// Which one.
        sequence: u16,
    },
    /// Type 0: the answer, with the request's identifier, sequence and data.
    EchoReply {
        /// As in the request.
        identifier: u16,
        /// As in the request.
        sequence: u16,
    },
    /// Type 3: the quoted packet could not be delivered.
    DestinationUnreachable {
        /// Why.
        code: UnreachableCode,
        /// With [`UnreachableCode::FragmentationNeeded`] the size in bytes that would have passed; zero from routers older
        /// than RFC 1191, and with every other code.
        next_hop_mtu: u16,
    },
    /// Type 4: obsolete (RFC 6633), to be ignored; the quoted packet follows.
    SourceQuench,
    /// Type 5: send to `gateway` what goes to the quoted packet's destination.
    Redirect {
        /// For which destinations.
        code: RedirectCode,
        /// The better first hop.
        gateway: Ipv4Addr,
    },
    /// Type 11: the quoted packet's time ran out.
    TimeExceeded {
        /// Which of its times.
        code: TimeExceededCode,
    },
    /// Type 12: something in the quoted packet's header is wrong.
    ParameterProblem {
        /// The byte of the header, with [`ParameterProblemCode::Pointer`].
        pointer: u8,
        /// What is wrong.
        code: ParameterProblemCode,
    },
    /// Type 13: "what time is it?" Times are milliseconds since midnight UT.
    TimestampRequest {
        /// Whose request.
        identifier: u16,
        /// Which one.
        sequence: u16,
        /// When the request left.
        originate: u32,
        /// When it arrived; without meaning in a request.
        receive: u32,
        /// When the reply left; without meaning in a request.
        transmit: u32,
    },
    /// Type 14: the answer to a timestamp request.
    TimestampReply {
        /// As in the request.
        identifier: u16,
        /// As in the request.
        sequence: u16,
        /// As in the request.
        originate: u32,
        /// When the request arrived.
        receive: u32,
        /// When the reply left.
        transmit: u32,
    },
    /// Any other type; also a type above with a code it does not have.
    Other {
        /// The type.
        kind: u8,
        /// The code.
        code: u8,
        /// The second word of the header.
        rest: [u8; 4],
    },
}

/// Declares an enum of ICMP codes with its two conversions, which must agree.
macro_rules! codes {
    ($(#[$about:meta])* $name:ident { $($(#[$code_about:meta])* $code:ident = $number:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$code_about])* $code,)*
            /// A code without a name.
            Unknown(u8),
        }

        impl From<u8> for $name {
            fn from(number: u8) -> Self {
                match number {
                    $($number => Self::$code,)*
                    other => Self::Unknown(other),
                }
            }
        }

        impl From<$name> for u8 {
            fn from(code: $name) -> Self {
                match code {
                    $($name::$code => $number,)*
                    $name::Unknown(number) => number,
                }
            }
        }
    };
}

codes! {
    /// Why a destination is unreachable (RFC 792; RFC 1122 §3.2.2.1; RFC 1812 §5.2.7.1).
    UnreachableCode {
        /// No route to the network.
        Network = 0,
        /// The last router cannot reach the host.
        Host = 1,
        /// The host does not speak the protocol.
        Protocol = 2,
        /// Nobody listens on the port.
        Port = 3,
        /// Too big for the next link, and "don't fragment" is set.
        FragmentationNeeded = 4,
        /// A source route cannot be followed.
        SourceRouteFailed = 5,
        /// Nobody knows the network.
        NetworkUnknown = 6,
        /// Nobody knows the host.
        HostUnknown = 7,
        /// The source is isolated (obsolete).
        SourceHostIsolated = 8,
        /// The network is administratively prohibited.
        NetworkProhibited = 9,
        /// The host is administratively prohibited.
        HostProhibited = 10,
        /// The network is unreachable for this type of service.
        NetworkTypeOfService = 11,
        /// The host is unreachable for this type of service.
        HostTypeOfService = 12,
        /// A filter prohibits the communication.
        CommunicationProhibited = 13,
        /// The precedence is not permitted for the host.
        HostPrecedenceViolation = 14,
        /// The precedence is below what the network requires.
        PrecedenceCutoff = 15,
    }
}

codes! {
    /// For which destinations a redirect holds (RFC 792).
    RedirectCode {
        /// The network (obsolete: RFC 1812 §5.2.7.2).
        Network = 0,
        /// The host.
        Host = 1,
        /// The network, for this type of service.
        NetworkTypeOfService = 2,
        /// The host, for this type of service.
        HostTypeOfService = 3,
    }
}

codes! {
    /// Which time was exceeded (RFC 792).
    TimeExceededCode {
        /// Time to live, in transit.
        TimeToLive = 0,
        /// Fragment reassembly time, at the destination.
        Reassembly = 1,
    }
}

codes! {
    /// What is wrong with a header (RFC 792; RFC 1122 §3.2.2.5; RFC 1108).
    ParameterProblemCode {
        /// The byte that the pointer names.
        Pointer = 0,
        /// A required option is missing.
        MissingOption = 1,
        /// A length is wrong.
        BadLength = 2,
    }
}

// Message types (IANA "ICMP Type Numbers").
const ECHO_REPLY: u8 = 0;
const DESTINATION_UNREACHABLE: u8 = 3;
const SOURCE_QUENCH: u8 = 4;
const REDIRECT: u8 = 5;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;
const TIMESTAMP_REQUEST: u8 = 13;
const TIMESTAMP_REPLY: u8 = 14;

impl Icmpv4Message {
    /// Bytes of every header but the timestamps'.
    pub const HEADER_LENGTH: usize = 8;
    /// Bytes of a timestamp message.
    pub const TIMESTAMP_LENGTH: usize = 20;
    /// Where in the header the checksum stands.
    pub const CHECKSUM_OFFSET: usize = 2;

    /// Reads a header, and says how many bytes it took: where the data begins. The checksum is not verified.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), Malformed> {
        let mut reader = Reader::new("ICMP", bytes);
        let kind = reader.take_u8("type")?;
        let code = reader.take_u8("code")?;
        let _checksum = reader.take_u16("checksum")?;
        let rest = reader.take_array("rest of header")?;
        let message = match kind {
            TIMESTAMP_REQUEST | TIMESTAMP_REPLY if code == 0 => parse_timestamp(&mut reader, kind, rest)?,
            _ => Self::from_header(kind, code, rest),
        };
        Ok((message, message.header_length()))
    }

    /// The messages whose header is one of eight bytes. Unused bytes are ignored (RFC 792: "must be zero when sent").
    fn from_header(kind: u8, code: u8, rest: [u8; 4]) -> Self {
        let (first, second) = halves(rest);
        match (kind, code) {
            (ECHO_REQUEST, 0) => Self::EchoRequest { identifier: first, sequence: second },
            (ECHO_REPLY, 0) => Self::EchoReply { identifier: first, sequence: second },
            (DESTINATION_UNREACHABLE, _) => Self::DestinationUnreachable { code: code.into(), next_hop_mtu: second },
            (SOURCE_QUENCH, 0) => Self::SourceQuench,
            (REDIRECT, _) => Self::Redirect { code: code.into(), gateway: rest.into() },
            (TIME_EXCEEDED, _) => Self::TimeExceeded { code: code.into() },
            (PARAMETER_PROBLEM, _) => Self::ParameterProblem { pointer: rest[0], code: code.into() },
            _ => Self::Other { kind, code, rest },
        }
    }

    /// Bytes that `emit` writes: 20 for timestamps, else 8.
    pub const fn header_length(&self) -> usize {
        match self {
            Self::TimestampRequest { .. } | Self::TimestampReply { .. } => Self::TIMESTAMP_LENGTH,
            _ => Self::HEADER_LENGTH,
        }
    }

    /// Whether the message reports an error: nothing may ever be sent because of one (RFC 1122 §3.2.2).
    ///
    /// Unknown types count as errors, since to stay silent about them is always safe.
    pub const fn is_error(&self) -> bool {
        match self {
            Self::EchoRequest { .. } | Self::EchoReply { .. } | Self::TimestampRequest { .. } | Self::TimestampReply { .. } => false,
            Self::DestinationUnreachable { .. }
            | Self::SourceQuench
            | Self::Redirect { .. }
            | Self::TimeExceeded { .. }
            | Self::ParameterProblem { .. }
            | Self::Other { .. } => true,
        }
    }

    /// Writes the first [`header_length`](Self::header_length) bytes of `out`, with a checksum of zero for the caller to
    /// fill in; panics if `out` is shorter.
    pub fn emit(&self, out: &mut [u8]) {
        let mut writer = Writer::new(&mut out[..self.header_length()]);
        let (kind, code, rest) = self.header();
        writer.put(&[kind, code, 0, 0]);
        writer.put(&rest);
        if let Self::TimestampRequest { originate, receive, transmit, .. } | Self::TimestampReply { originate, receive, transmit, .. } =
            *self
        {
            writer.put_u32(originate);
            writer.put_u32(receive);
            writer.put_u32(transmit);
        }
    }

    /// Type, code and second word.
    fn header(&self) -> (u8, u8, [u8; 4]) {
        match *self {
            Self::EchoRequest { identifier, sequence } => (ECHO_REQUEST, 0, word(identifier, sequence)),
            Self::EchoReply { identifier, sequence } => (ECHO_REPLY, 0, word(identifier, sequence)),
            Self::DestinationUnreachable { code, next_hop_mtu } => (DESTINATION_UNREACHABLE, code.into(), word(0, next_hop_mtu)),
            Self::SourceQuench => (SOURCE_QUENCH, 0, [0; 4]),
            Self::Redirect { code, gateway } => (REDIRECT, code.into(), gateway.octets()),
            Self::TimeExceeded { code } => (TIME_EXCEEDED, code.into(), [0; 4]),
            Self::ParameterProblem { pointer, code } => (PARAMETER_PROBLEM, code.into(), [pointer, 0, 0, 0]),
            Self::TimestampRequest { identifier, sequence, .. } => (TIMESTAMP_REQUEST, 0, word(identifier, sequence)),
            Self::TimestampReply { identifier, sequence, .. } => (TIMESTAMP_REPLY, 0, word(identifier, sequence)),
            Self::Other { kind, code, rest } => (kind, code, rest),
        }
    }
}

fn parse_timestamp(reader: &mut Reader<'_>, kind: u8, rest: [u8; 4]) -> Result<Icmpv4Message, Malformed> {
    let (identifier, sequence) = halves(rest);
    let originate = reader.take_u32("originate timestamp")?;
    let receive = reader.take_u32("receive timestamp")?;
    let transmit = reader.take_u32("transmit timestamp")?;
    Ok(if kind == TIMESTAMP_REQUEST {
        Icmpv4Message::TimestampRequest { identifier, sequence, originate, receive, transmit }
    } else {
        Icmpv4Message::TimestampReply { identifier, sequence, originate, receive, transmit }
    })
}

const fn halves([a, b, c, d]: [u8; 4]) -> (u16, u16) {
    (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

const fn word(first: u16, second: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (first.to_be_bytes(), second.to_be_bytes());
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::Reason;
    use crate::wire::testing::{assert_cuts_refused, bytes, config, mutate, mutations};

    #[test]
    fn fragmentation_needed_carries_the_mtu() {
        let message = Icmpv4Message::parse(&[3, 4, 0, 0, 0, 0, 5, 0xdc]).unwrap();
        let expected = Icmpv4Message::DestinationUnreachable { code: UnreachableCode::FragmentationNeeded, next_hop_mtu: 1500 };
        assert_eq!(message, (expected, 8));
    }

    #[test]
    fn a_redirect_names_the_gateway() {
        let (message, _) = Icmpv4Message::parse(&[5, 1, 0, 0, 192, 0, 2, 1]).unwrap();
        let gateway = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(message, Icmpv4Message::Redirect { code: RedirectCode::Host, gateway });
        assert!(message.is_error());
    }

    #[test]
    fn cut_messages_name_what_is_missing() {
        let error = |bytes: &[u8]| Icmpv4Message::parse(bytes).unwrap_err();
        assert_eq!(error(&[8, 0, 0, 0, 0, 0, 0]), Malformed::new("ICMP", "rest of header", Reason::Truncated));
        assert_eq!(error(&[13, 0, 0, 0, 0, 0, 0, 0, 0]).field, "originate timestamp");
    }

    #[test]
    fn an_echo_with_a_strange_code_is_no_echo() {
        let (message, _) = Icmpv4Message::parse(&[8, 1, 0, 0, 1, 2, 3, 4]).unwrap();
        assert_eq!(message, Icmpv4Message::Other { kind: 8, code: 1, rest: [1, 2, 3, 4] });
        let (message, length) = Icmpv4Message::parse(&[13, 9, 0, 0, 1, 2, 3, 4]).unwrap();
        assert_eq!((message, length), (Icmpv4Message::Other { kind: 13, code: 9, rest: [1, 2, 3, 4] }, 8));
    }

    #[test]
    fn every_code_survives_both_conversions() {
        for number in 0..=u8::MAX {
            assert_eq!(u8::from(UnreachableCode::from(number)), number);
            assert_eq!(u8::from(RedirectCode::from(number)), number);
            assert_eq!(u8::from(TimeExceededCode::from(number)), number);
            assert_eq!(u8::from(ParameterProblemCode::from(number)), number);
        }
        assert_eq!(UnreachableCode::from(16), UnreachableCode::Unknown(16));
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn round_trip(kind in prop_oneof![0..16_u8, any::<u8>()], code in 0..17_u8, rest: [u8; 4], times: [u8; 12]) {
            let bytes = [&[kind, code, 0, 0][..], &rest, &times].concat();
            let (message, length) = Icmpv4Message::parse(&bytes).unwrap();
            let mut out = [0xa5; 20];
            message.emit(&mut out);
            prop_assert_eq!(Icmpv4Message::parse(&out[..length]), Ok((message, length)));
            assert_cuts_refused(&out[..length], Icmpv4Message::parse);
        }

        #[test]
        fn no_input_panics(data in bytes(30), mutations in mutations()) {
            let valid = [&[13, 0][..], &[7; 18]].concat();
            for data in [data, mutate(valid, &mutations)] {
                if let Ok((message, length)) = Icmpv4Message::parse(&data) {
                    prop_assert!(length <= data.len() && length == message.header_length());
                }
            }
        }
    }
}
