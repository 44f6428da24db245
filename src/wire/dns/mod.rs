//! DNS messages (RFC 1035, RFC 3596 for IPv6, RFC 6891 for EDNS, RFC 2782 for services).
//!
//! Owns: names with their text form and compression, the header, questions, records, EDNS options, whole messages in and
//! out. Refuses: questions of trust (which answer belongs to which question, who may say so) and time; those are the
//! resolver's.
//!
//! Read first: [`name`], then [`message`].

mod decoder;
pub mod edns;
mod encoder;
pub mod header;
pub mod message;
pub mod name;
mod packer;
pub mod record;
pub mod record_data;

pub use edns::{Edns, EdnsOption};
pub use header::{Header, Opcode, ResponseCode};
pub use message::{Message, Question};
pub use name::{Name, ParseNameError};
pub use record::{ParseRecordTypeError, Record, RecordClass, RecordType};
pub use record_data::{CharacterString, RecordData, StartOfAuthority};
