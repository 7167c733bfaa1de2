//! An endpoint: many connections over one socket, one timer, batches in and out.
//!
//! Rules:
//! - Only connections that something happened to are looked at: they wait in a queue for their events and in another one
//!   for what they have to transmit. Timers stand in one ordered set.
//! - quinn's handles are slab indexes and are used again, so connections have numbers of their own, and a handle leads to
//!   its connection until that has drained.
//! - Whoever is worked on is out of its queue for so long: should that panic, the others go on.
//! - Strangers: with as many connections as are allowed they are refused; with many unfinished handshakes they first
//!   prove their address (Retry).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use quinn_proto::{
    ConnectionHandle, ConnectionId, ConnectionIdGenerator, DatagramEvent, EndpointConfig, Incoming,
    RandomConnectionIdGenerator, ServerConfig,
};

use crate::connection::{Connection, Facts, Packets};
use crate::event::{Ending, Event, Kind};
use crate::qlog;
use crate::settings::{Limits, client_config, server_crypto, server_transport};

/// UDP_MAX_SEGMENTS of kernels before 6.9.
const MAX_SEGMENTS: usize = 64;

/// What GSO takes at once over either family: 65,535 less the headers of IPv6 and UDP.
const MAX_TRANSMIT_BYTES: usize = 65_487;

/// Of the id that a client calls a server by before it knows the server's own; RFC 9000 section 17.2 has no longer ones.
const FIRST_ID_BYTES: usize = 20;

/// Of a peer's connections. The others have many streams in place of large windows.
const WIDE_CONNECTIONS: usize = 2;

/// Answers to strangers that wait for the socket; 1,200 bytes each at most.
const MAX_ANSWERS: usize = 1024;

pub struct Transmit {
    pub data: Vec<u8>,
    pub segment_size: usize,
    pub address: SocketAddr,
}

/// How connections of this endpoint start.
pub enum Role {
    Client { crypto: Box<rustls::ClientConfig>, server_name: String },
    Server { wide: Arc<ServerConfig>, narrow: Arc<ServerConfig> },
}

/// Of the connections that live.
#[derive(Default)]
struct Census {
    live: usize,
    handshaking: usize,
}

pub struct Core {
    endpoint: quinn_proto::Endpoint,
    role: Role,
    limits: Limits,
    qlog: Option<qlog::Directory>,
    connections: HashMap<u64, Connection>,
    /// Of those that are in `connections` no more.
    departed: Packets,
    /// Retry packets that were sent.
    retries: u64,
    by_handle: HashMap<ConnectionHandle, u64>,
    last_number: u64,
    with_events: VecDeque<u64>,
    with_transmits: VecDeque<u64>,
    timers: BTreeSet<(Instant, u64)>,
    /// Answers that belong to no connection.
    answers: VecDeque<Transmit>,
    /// Connections that ended before they were any.
    stillborn: VecDeque<(u64, Event)>,
    now: Instant,
    /// Used again and again.
    pub buffer: Vec<u8>,
}

impl Core {
    pub fn new(
        config: EndpointConfig,
        role: Role,
        limits: Limits,
        qlog: Option<qlog::Directory>,
        now: Instant,
    ) -> Self {
        let server = match &role {
            Role::Server { narrow, .. } => Some(narrow.clone()),
            Role::Client { .. } => None,
        };
        Self {
            endpoint: quinn_proto::Endpoint::new(Arc::new(config), server, true, None),
            role,
            limits,
            qlog,
            connections: HashMap::new(),
            departed: Packets::default(),
            retries: 0,
            by_handle: HashMap::new(),
            last_number: 0,
            with_events: VecDeque::new(),
            with_transmits: VecDeque::new(),
            timers: BTreeSet::new(),
            answers: VecDeque::new(),
            stillborn: VecDeque::new(),
            now,
            buffer: Vec::new(),
        }
    }

    // Datagrams, events and time.

    pub fn receive(&mut self, data: &[u8], segment_size: usize, remote: SocketAddr, now: Instant) {
        self.now = now;
        let mut heard: Vec<u64> = Vec::new();
        let segment_size = if segment_size == 0 { data.len() } else { segment_size };
        for datagram in data.chunks(segment_size.max(1)) {
            // Each in memory of its own: quinn keeps slices, and one of them would keep the whole batch.
            let number = match self.handle(BytesMut::from(datagram), remote, now) {
                Some(DatagramEvent::ConnectionEvent(handle, event)) => self.by_handle.get(&handle).map(|number| {
                    if let Some(connection) = self.connections.get_mut(number) {
                        connection.handle_event(event);
                    }
                    *number
                }),
                Some(DatagramEvent::NewConnection(incoming)) => self.stranger(incoming, now),
                Some(DatagramEvent::Response(transmit)) => {
                    self.answer(transmit);
                    None
                }
                None => None,
            };
            if let Some(number) = number
                && heard.last() != Some(&number)
            {
                heard.push(number);
            }
        }
        for number in heard {
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.heard(now);
            }
            self.touch(number);
        }
    }

    fn handle(&mut self, datagram: BytesMut, remote: SocketAddr, now: Instant) -> Option<DatagramEvent> {
        self.buffer.clear();
        self.endpoint.handle(now, remote, None, None, datagram, &mut self.buffer)
    }

    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        self.now = now;
        if let Some(answer) = self.answers.pop_front() {
            return Some(answer);
        }
        while let Some(number) = self.with_transmits.pop_front() {
            if let Some(connection) = self.connections.get_mut(&number) {
                self.buffer.clear();
                let segments = (MAX_TRANSMIT_BYTES / usize::from(connection.quic.current_mtu())).clamp(1, MAX_SEGMENTS);
                if let Some(transmit) = connection.poll_transmit(now, segments, &mut self.buffer) {
                    self.with_transmits.push_back(number); // Behind the others.
                    return Some(Transmit {
                        segment_size: transmit.segment_size.unwrap_or(transmit.size),
                        data: std::mem::take(&mut self.buffer),
                        address: transmit.destination,
                    });
                }
                connection.in_transmits = false;
            }
            self.settle(number);
        }
        None
    }

    pub fn poll_event(&mut self) -> Option<(u64, Event)> {
        while let Some(number) = self.with_events.pop_front() {
            let Some(connection) = self.connections.get_mut(&number) else { continue };
            if let Some(event) = connection.poll_event() {
                self.with_events.push_front(number);
                // Reading makes credit, and credit has to be told.
                self.queue_transmit(number);
                return Some((number, event));
            }
            connection.in_events = false;
            self.settle(number);
        }
        self.stillborn.pop_front()
    }

    /// Right now, while there is something to transmit.
    pub fn get_timer(&self) -> Option<Instant> {
        if !(self.with_transmits.is_empty() && self.answers.is_empty()) {
            return Some(self.now);
        }
        self.timers.first().map(|(at, _)| *at)
    }

    pub fn handle_timer(&mut self, now: Instant) {
        self.now = now;
        while let Some((at, number)) = self.timers.first().copied()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(connection) = self.connections.get_mut(&number) {
                connection.timer_at = None;
                connection.handle_timeout(now);
                self.touch(number);
            }
        }
    }

    // Calls on connections.

    /// The new connection's number. Where it cannot even begin, its Closed follows.
    pub fn connect(&mut self, remote: SocketAddr, path_mtu: Option<u16>, now: Instant) -> u64 {
        self.now = now;
        let wide = self.may_be_wide(remote);
        let Role::Client { crypto, server_name } = &self.role else {
            return self.refuse_to_start("a server does not connect".into());
        };
        let id = RandomConnectionIdGenerator::new(FIRST_ID_BYTES).generate_cid();
        let qlog = self.qlog.as_mut().and_then(|directory| directory.stream("client", id, now));
        let started =
            client_config((**crypto).clone(), &self.limits, wide, remote, path_mtu, id, qlog).and_then(|config| {
                self.endpoint.connect(now, config, remote, server_name).map_err(|error| error.to_string())
            });
        match started {
            Ok((handle, quic)) => {
                let connection = Connection::new(quic, handle, &self.limits, wide, now);
                self.add(connection)
            }
            Err(error) => self.refuse_to_start(error),
        }
    }

    fn refuse_to_start(&mut self, reason: String) -> u64 {
        let number = self.next_number();
        let ending = Ending { kind: Kind::Transport, code: 0, reason, by_peer: false, established: false };
        self.stillborn.push_back((number, Event::Closed(ending)));
        number
    }

    /// Runs `call` on a connection that has not ended, and sees to what follows from it.
    pub fn call<Result>(
        &mut self,
        number: u64,
        call: impl FnOnce(&mut Connection, Instant) -> Result,
    ) -> Option<Result> {
        let now = self.now;
        let connection = self.connections.get_mut(&number).filter(|connection| connection.live())?;
        let result = call(connection, now);
        self.queue_events(number);
        self.queue_transmit(number);
        Some(result)
    }

    pub fn facts(&self, number: u64) -> Option<Facts> {
        let connection = self.connections.get(&number).filter(|connection| connection.live())?;
        Some(connection.facts())
    }

    pub fn packets(&self) -> Packets {
        self.connections.values().fold(self.departed, |sum, connection| sum + connection.packets())
    }

    pub fn retries(&self) -> u64 {
        self.retries
    }

    /// What qlog has to say in the log.
    pub fn notices(&self) -> Vec<String> {
        self.qlog.as_ref().map(qlog::Directory::notices).unwrap_or_default()
    }

    // Strangers.

    pub fn refuse_strangers(&mut self) {
        self.limits.max_connections = 0;
    }

    /// Handshakes from now on show another certificate. What was asked by Retry before is still answered.
    pub fn use_certificate(&mut self, certificate: &[u8], private_key: &[u8]) -> Result<(), String> {
        let Role::Server { wide, narrow } = &mut self.role else { return Err("a client has no certificate".into()) };
        let crypto = |is_wide| server_crypto(certificate, private_key, &self.limits, is_wide);
        let (wide_crypto, narrow_crypto) = (crypto(true)?, crypto(false)?);
        Arc::make_mut(wide).crypto = wide_crypto;
        Arc::make_mut(narrow).crypto = narrow_crypto;
        self.endpoint.set_server_config(Some(narrow.clone()));
        Ok(())
    }

    fn stranger(&mut self, incoming: Incoming, now: Instant) -> Option<u64> {
        self.buffer.clear();
        let census = self.census();
        if census.live >= self.limits.max_connections {
            let refusal = self.endpoint.refuse(incoming, &mut self.buffer);
            self.answer(refusal);
            return None;
        }
        let crowded = census.handshaking >= self.limits.retry_above_handshakes;
        if crowded && !incoming.remote_address_validated() && incoming.may_retry() {
            if let Ok(retry) = self.endpoint.retry(incoming, &mut self.buffer) {
                if self.answer(retry) {
                    self.retries += 1;
                }
            }
            return None;
        }
        self.let_in(incoming, now)
    }

    /// The configuration, with a qlog of the connection's own where that was asked for.
    fn logged(&mut self, config: Arc<ServerConfig>, id: ConnectionId, wide: bool, now: Instant) -> Arc<ServerConfig> {
        let Some(directory) = &mut self.qlog else { return config };
        let Some(stream) = directory.stream("server", id, now) else { return config };
        let Ok(mut transport) = server_transport(&self.limits, wide) else { return config };
        transport.qlog_stream(Some(stream));
        let mut own = (*config).clone();
        own.transport_config(Arc::new(transport));
        Arc::new(own)
    }

    fn let_in(&mut self, incoming: Incoming, now: Instant) -> Option<u64> {
        let is_wide = self.may_be_wide(incoming.remote_address());
        let Role::Server { wide, narrow } = &self.role else { return None };
        let config = if is_wide { wide } else { narrow }.clone();
        let config = self.logged(config, *incoming.orig_dst_cid(), is_wide, now);
        match self.endpoint.accept(incoming, now, &mut self.buffer, Some(config)) {
            Ok((handle, quic)) => {
                let connection = Connection::new(quic, handle, &self.limits, is_wide, now);
                Some(self.add(connection))
            }
            Err(error) => {
                if let Some(response) = error.response {
                    self.answer(response);
                    // Not one that could not even be decrypted: that may be anything.
                    let number = self.next_number();
                    self.stillborn.push_back((number, Event::Closed(Ending::of(error.cause, false))));
                }
                None
            }
        }
    }

    fn census(&self) -> Census {
        let mut census = Census::default();
        for connection in self.connections.values().filter(|connection| connection.live()) {
            census.live += 1;
            census.handshaking += usize::from(connection.handshaking());
        }
        census
    }

    /// The first few connections with a peer. Strangers do not count: anybody can pretend to be one.
    fn may_be_wide(&self, remote: SocketAddr) -> bool {
        let wide = self.connections.values().filter(|connection| connection.is_wide_with(remote.ip())).count();
        wide < WIDE_CONNECTIONS
    }

    /// Beyond a bound answers are dropped (false), as any network drops: who asks a stranger's question asks again.
    fn answer(&mut self, transmit: quinn_proto::Transmit) -> bool {
        if self.answers.len() >= MAX_ANSWERS {
            return false;
        }
        self.answers.push_back(Transmit {
            segment_size: transmit.size,
            data: std::mem::take(&mut self.buffer),
            address: transmit.destination,
        });
        true
    }

    // The tables.

    /// How much is kept, here and in quinn: all zero when nobody is there.
    pub fn summary(&self) -> String {
        let handles = self.by_handle.len().max(self.endpoint.open_connections());
        let queued = self.with_events.len() + self.with_transmits.len() + self.answers.len() + self.stillborn.len();
        let (connections, timers) = (self.connections.len(), self.timers.len());
        format!("Endpoint(connections={connections}, handles={handles}, timers={timers}, queued={queued})")
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn add(&mut self, connection: Connection) -> u64 {
        let number = self.next_number();
        self.by_handle.insert(connection.handle, number);
        self.connections.insert(number, connection);
        self.touch(number);
        number
    }

    fn touch(&mut self, number: u64) {
        self.queue_events(number);
        self.queue_transmit(number);
        self.settle(number);
    }

    fn queue_events(&mut self, number: u64) {
        if let Some(connection) = self.connections.get_mut(&number)
            && !std::mem::replace(&mut connection.in_events, true)
        {
            self.with_events.push_back(number);
        }
    }

    fn queue_transmit(&mut self, number: u64) {
        if let Some(connection) = self.connections.get_mut(&number)
            && !std::mem::replace(&mut connection.in_transmits, true)
        {
            self.with_transmits.push_back(number);
        }
    }

    /// Passes on what connection and endpoint have to tell each other, and arms the timer. A connection that has drained
    /// and has reported its end leaves the tables.
    fn settle(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        while let Some(event) = connection.quic.poll_endpoint_events() {
            if event.is_drained() {
                self.by_handle.remove(&connection.handle);
            }
            if let Some(event) = self.endpoint.handle_event(connection.handle, event) {
                connection.quic.handle_event(event);
            }
        }
        let gone = connection.quic.is_drained() && connection.silent;
        let at = if gone { None } else { connection.next_timeout() };
        if at != connection.timer_at {
            if let Some(before) = std::mem::replace(&mut connection.timer_at, at) {
                self.timers.remove(&(before, number));
            }
            self.timers.extend(at.map(|at| (at, number)));
        }
        if gone && let Some(departed) = self.connections.remove(&number) {
            self.departed = self.departed + departed.packets();
        }
    }
}
