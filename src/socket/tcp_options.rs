//! The options of a TCP stream: those of `std::net`, and those that people reach for through socket2.

use super::tcp_stream::TcpStream;
use super::waiting::{Side, buffer_size, time_to_live};
use crate::transport::shared::{Ecn, Keepalive, Mark, Readiness, SocketOptions, StreamInfo};
use std::io;
use std::sync::Arc;
use std::time::Duration;

impl TcpStream {
    /// With `true`, what would wait is `WouldBlock`.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.settings().set_nonblocking(nonblocking);
        Ok(())
    }

    /// How long a read waits (`WouldBlock` after that); zero is `InvalidInput`.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.settings().set_timeout(Side::Read, timeout)
    }

    /// How long a write waits for room (`WouldBlock` after that); zero is `InvalidInput`.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.settings().set_timeout(Side::Write, timeout)
    }

    /// As set.
    pub fn read_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.settings().timeout(Side::Read))
    }

    /// As set.
    pub fn write_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.settings().timeout(Side::Write))
    }

    /// The failure that no call has told yet. Told once.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.state().failure.take().map(io::Error::from))
    }

    /// The last error that did not end the connection: what a router said of it (ICMP unreachable, time exceeded; RFC 9293 §3.9.2.2). Stays until another
    /// takes its place; a connection that then times out fails with it.
    pub fn soft_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.state().soft_failure.map(io::Error::from))
    }

    /// Sends small segments at once (no Nagle, RFC 9293 §3.7.4).
    pub fn set_nodelay(&self, no_delay: bool) -> io::Result<()> {
        self.change(|options| options.no_delay = no_delay)
    }

    /// As set.
    pub fn nodelay(&self) -> io::Result<bool> {
        Ok(self.options().no_delay)
    }

    /// The time to live of what is sent: 1 to 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        let ttl = time_to_live(ttl)?;
        self.change(|options| options.time_to_live = ttl)
    }

    /// As set.
    pub fn ttl(&self) -> io::Result<u32> {
        Ok(self.options().time_to_live.into())
    }

    /// What dropping the last handle does: `None` closes in the background; zero resets; else what is unsent after this time is lost. The drop
    /// itself never waits.
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        self.change(|options| options.linger = linger)
    }

    /// As set.
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        Ok(self.options().linger)
    }

    /// Probes an idle peer (RFC 9293 §3.8.4); `None` does not.
    pub fn set_keepalive(&self, keepalive: Option<Keepalive>) -> io::Result<()> {
        self.change(|options| options.keepalive = keepalive)
    }

    /// As set.
    pub fn keepalive(&self) -> io::Result<Option<Keepalive>> {
        Ok(self.options().keepalive)
    }

    /// Gives the connection up when sent data stays unacknowledged this long (RFC 5482).
    pub fn set_user_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.change(|options| options.user_timeout = timeout)
    }

    /// As set.
    pub fn user_timeout(&self) -> io::Result<Option<Duration>> {
        Ok(self.options().user_timeout)
    }

    /// Whether to tell the peer the user timeout, and to heed what it tells of its own (RFC 5482); off by default. Unless [`TcpStream::set_user_timeout`] was
    /// called, the longer of the two counts, within the bounds of the configuration. To have it in the SYN already, set it in
    /// [`super::ConnectOptions::options`].
    pub fn set_advertise_user_timeout(&self, on: bool) -> io::Result<()> {
        self.change(|options| options.advertise_user_timeout = on)
    }

    /// As set.
    pub fn advertise_user_timeout(&self) -> io::Result<bool> {
        Ok(self.options().advertise_user_timeout)
    }

    /// Bytes that may wait unread. From then on the buffer stays so, however fast the path is.
    pub fn set_recv_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.change(|options| (options.receive_buffer, options.tunes_receive_buffer) = (buffer_size(bytes), false))
    }

    /// As set.
    pub fn recv_buffer_size(&self) -> io::Result<usize> {
        Ok(self.options().receive_buffer)
    }

    /// Bytes that may wait unacknowledged. From then on the buffer stays so, however fast the path is.
    pub fn set_send_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.change(|options| (options.send_buffer, options.tunes_send_buffer) = (buffer_size(bytes), false))?;
        self.wake(Readiness::WRITABLE);
        Ok(())
    }

    /// As set, or as grown.
    pub fn send_buffer_size(&self) -> io::Result<usize> {
        Ok(self.options().send_buffer)
    }

    /// Congestion control by name: `"cubic"`, `"newreno"`. An unknown name is `NotFound`.
    pub fn set_congestion_control(&self, name: &str) -> io::Result<()> {
        let chosen = name.parse()?;
        self.change(|options| options.congestion_control = chosen)
    }

    /// The name of the congestion control.
    pub fn congestion_control(&self) -> io::Result<&'static str> {
        Ok(self.options().congestion_control.name())
    }

    /// Whether the connection takes part in explicit congestion notification (RFC 3168). Counts only before the handshake: set it in
    /// [`ConnectOptions`](super::ConnectOptions), or for the stack.
    pub fn set_ecn(&self, ecn: Ecn) -> io::Result<()> {
        self.change(|options| options.ecn = ecn)
    }

    /// As set. What was agreed on is in [`TcpStream::info`].
    pub fn ecn(&self) -> io::Result<Ecn> {
        Ok(self.options().ecn)
    }

    /// DSCP of what is sent (IPv4: TOS). The two ECN bits are TCP's own (RFC 3168) and not taken from here.
    pub fn set_traffic_class(&self, traffic_class: u8) -> io::Result<()> {
        self.change(|options| options.traffic_class = traffic_class)
    }

    /// As set.
    pub fn traffic_class(&self) -> io::Result<u8> {
        Ok(self.options().traffic_class)
    }

    /// Acknowledges at once instead of waiting for company.
    pub fn set_quickack(&self, quick_ack: bool) -> io::Result<()> {
        self.change(|options| options.quick_ack = quick_ack)
    }

    /// As set.
    pub fn quickack(&self) -> io::Result<bool> {
        Ok(self.options().quick_ack)
    }

    /// Figures of the connection as the transport layer last noted them; asking makes it note newer ones. It notes none of a connection that nobody has asked
    /// about yet, or that has been idle for a while: there the call waits until it has, or, under a simulation, gives the state alone.
    pub fn info(&self) -> io::Result<StreamInfo> {
        let noted = {
            let mut state = self.state();
            state.is_described = true;
            state.info.as_deref().cloned()
        };
        self.handle.shared.mark(Mark::Options);
        noted.map_or_else(|| self.wait_described(), Ok)
    }

    fn options(&self) -> SocketOptions {
        SocketOptions::clone(&self.state().options)
    }

    fn change(&self, change: impl FnOnce(&mut SocketOptions)) -> io::Result<()> {
        change(Arc::make_mut(&mut self.state().options));
        self.handle.shared.mark(Mark::Options);
        Ok(())
    }
}
