//! RFC 9293, Appendix B: every MUST, MUST NOT, SHOULD and SHOULD NOT of TCP's requirement summary, one test each, named by its number.
//!
//! A peer whose every byte is crafted talks to one host under virtual time ([`peer`]); what concerns programs goes through the socket interface.
//! Where Appendix B has one number for several rows, the test covers all of them. Items about IPv6 wait for IPv6 itself.
//!
//! Beside them, by section, what a peer can see of the RFCs around it: [`timestamps`] (7323), [`blind_attacks`] (5961), [`retransmission`] (6298, 2018), [`rack_tlp`]
//! (8985), [`rate_reduction`] (6937), [`forward_rto`] (5682), [`sack_recovery`] (6675), [`new_reno`] (6582, 4015). Each of these files says at its head what of its RFC is not followed. [`coverage`] fails if a number or a
//! section is missing.
//!
//! What the stack does not do, or not as written:
//!
//! | item | | why |
//! |---|---|---|
//! | MUST-51, 52, 53, SHLD-24 | source routes | Deprecated: routers and hosts drop packets that carry them (RFC 7126 §4.3, §4.4 advise so), IPv6 removed its own (RFC 5095). An arriving one is ignored, and answered directly. |
//! | MUST-56 in SYN-SENT | an unreachable aborts the connection attempt | RFC 5461 §4.1: so does everybody; else a program waits minutes for an address that does not answer while another would. Once a connection is established nothing but its peer or time ends it. |
//! | SHLD-9 | tell the program between R1 and R2 | `TcpStream::info` tells of retransmissions, `TcpStream::soft_error` of what routers said; nobody is called. |
//! | SHLD-13 | programs should not use urgent data | The program's affair. |
//! | SHLD-20 | a way to disable error reports | They are only given to who asks. |
//! | SHLD-23 | programs should not change DiffServ during a connection | The program's affair. |
//! | SHLD-26 | abort on unreachable 2–4 | RFC 5927 §5.2: not once a connection is established; code 4 is path MTU discovery. |
//! | MAY-4, 6, 9, 10, 11, 14, 15, 17, 18 | optional | Not offered: same IP identification, keepalive with an octet, received DiffServ to programs, IP timestamp and record route, FLUSH, PUSH on SEND, notice of PUSH. |

mod acknowledging;
mod blind_attacks;
mod coverage;
mod failures;
mod forward_rto;
mod interface;
mod keepalive;
mod new_reno;
mod opening;
mod options;
mod peer;
mod rack_tlp;
mod rate_reduction;
mod retransmission;
mod sack_recovery;
mod shoulds;
mod timestamps;
mod urgent;
mod window;
