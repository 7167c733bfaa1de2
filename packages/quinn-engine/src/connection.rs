//! One connection as the port has it: honest flow control, endings that can cross any call, and a ping that is answered.
//!
//! Rules:
//! - Bytes are read from quinn only while fewer than `delivered` of the stream wait for `consumed`. So credit follows the
//!   reader: quinn grants what was read, and nobody reads ahead of the application's socket.
//! - Readable is an edge: who stops reading before Blocked is queued again when `consumed` has made room.
//! - A stream that ended with bytes unconsumed still counts against the peer's streams.
//! - quinn wakes blocked streams last in, first out, and a stream may take all there is; here the longest wait goes first,
//!   and a stream takes a share while others wait. The control stream has room of its own.
//! - Of a stranger only the control stream is read: what else it sends waits in quinn, within the credit of the greeting.
//! - After Closed was reported nothing is, and no call has an effect; the connection only drains.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::ops::Add;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{
    Chunks, ConnectionEvent, ConnectionHandle, ConnectionStats, Dir, Event as QuicEvent, ReadError, StreamEvent,
    StreamId, Transmit, VarInt, WriteError,
};

use crate::congestion;
use crate::event::{Ending, Event};
use crate::settings::{Limits, Windows, handshake_timeout, size};

/// The client's first bidirectional stream.
const CONTROL_STREAM: u64 = 0;

/// What a stream may send in its turn while others wait for room.
const SHARE_BYTES: usize = 64 * 1024;

/// After so long without a word of ours, the peer's are answered whatever is in flight: quinn holds back even
/// acknowledgements while data waits for the congestion window.
const MUTE: Duration = Duration::from_millis(500);

#[derive(PartialEq, Clone, Copy)]
enum Sending {
    Open,
    /// FIN was written; it may still be overtaken by a reset.
    Finished,
    Acknowledged,
    /// By us, or by the peer's STOP_SENDING.
    Reset,
}

#[derive(PartialEq, Clone, Copy)]
enum Receiving {
    Open,
    /// The peer's FIN was delivered; bytes before it may still be unconsumed.
    Ended,
    /// Stopped here or reset by the peer: nothing is reported any more.
    Discarding,
}

struct Stream {
    sending: Sending,
    receiving: Receiving,
    /// Accepted by `send`.
    accepted: u64,
    unconsumed: u64,
    /// In the queue of streams to read.
    readable: bool,
    /// Reading stopped before quinn said that there was no more.
    unread: bool,
    /// Its place in the line, while a `send` that came up short waits for room. Who got nothing in its turn keeps it.
    short_since: Option<u64>,
    /// Its turn has come: Writable was reported.
    woken: bool,
    /// Ended and unconsumed: quinn has forgotten it, the peer's stream limit has not.
    held: bool,
}

impl Stream {
    fn new() -> Self {
        Self {
            sending: Sending::Open,
            receiving: Receiving::Open,
            accepted: 0,
            unconsumed: 0,
            readable: false,
            unread: false,
            short_since: None,
            woken: false,
            held: false,
        }
    }

    fn over(&self) -> bool {
        matches!(self.sending, Sending::Acknowledged | Sending::Reset)
            && self.receiving != Receiving::Open
            && self.unconsumed == 0
    }
}

pub struct Facts {
    pub stats: ConnectionStats,
    pub last_received_at: Instant,
    pub buffered_send_bytes: u64,
    pub flow_control_waits: u64,
}

/// Counts that only grow; `received` counts datagrams, because quinn does.
#[derive(Default, Clone, Copy)]
pub struct Packets {
    pub sent: u64,
    pub received: u64,
    pub lost: u64,
}

impl Add for Packets {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { sent: self.sent + other.sent, received: self.received + other.received, lost: self.lost + other.lost }
    }
}

pub struct Connection {
    pub quic: quinn_proto::Connection,
    pub handle: ConnectionHandle,
    pub handshake_deadline: Option<Instant>,
    /// In the endpoint's queues.
    pub in_events: bool,
    pub in_transmits: bool,
    pub timer_at: Option<Instant>,
    /// Closed was reported.
    pub silent: bool,
    limits: Limits,
    windows: Windows,
    started_at: Instant,
    established: bool,
    events: VecDeque<Event>,
    readable: VecDeque<StreamId>,
    /// Server: the same of a stranger, until `accept`.
    strangers: Vec<StreamId>,
    accepted: bool,
    streams: HashMap<u64, Stream>,
    ending: Option<Ending>,
    /// The next datagram is not to wait for the congestion window.
    urgent: bool,
    /// The peer was heard after we had been mute, and no acknowledgement went out since.
    owes_ack: bool,
    sent_at: Instant,
    ping_asked: bool,
    /// The first one that is not answered.
    pinged_at: Option<Instant>,
    last_received_at: Instant,
    frames_received: u64,
    acks_received: u64,
    wants_stream: bool,
    stream_limit: u64,
    held_streams: u64,
    turn: u64,
    short_streams: usize,
    flow_control_waits: u64,
    /// Accepted, of streams whose end is not acknowledged.
    unacknowledged: u64,
    /// Accepted, of all streams there ever were.
    accepted_bytes: u64,
    /// STREAM frames sent when nothing was in flight.
    landed: Option<u64>,
    /// The same, and `accepted_bytes`, when there was nothing to send either.
    at_rest: Option<(u64, u64)>,
}

impl Connection {
    pub fn new(
        quic: quinn_proto::Connection,
        handle: ConnectionHandle,
        limits: &Limits,
        wide: bool,
        now: Instant,
    ) -> Self {
        let server = quic.side().is_server();
        let stream_limit = if server { limits.greeting_streams } else { 0 };
        let windows = limits.windows(wide);
        Self {
            quic,
            handle,
            handshake_deadline: Some(now + handshake_timeout(limits)),
            in_events: false,
            in_transmits: false,
            timer_at: None,
            silent: false,
            limits: limits.clone(),
            windows,
            started_at: now,
            established: false,
            events: VecDeque::new(),
            readable: VecDeque::new(),
            strangers: Vec::new(),
            accepted: !server,
            streams: HashMap::new(),
            ending: None,
            urgent: false,
            owes_ack: false,
            sent_at: now,
            ping_asked: false,
            pinged_at: None,
            last_received_at: now,
            frames_received: 0,
            acks_received: 0,
            wants_stream: false,
            stream_limit,
            held_streams: 0,
            turn: 0,
            short_streams: 0,
            flow_control_waits: 0,
            unacknowledged: 0,
            accepted_bytes: 0,
            landed: None,
            at_rest: None,
        }
    }

    /// Whether calls have an effect.
    pub fn live(&self) -> bool {
        self.ending.is_none() && !self.silent
    }

    pub fn is_wide_with(&self, peer: IpAddr) -> bool {
        self.windows.wide() && self.accepted && self.live() && self.quic.remote_address().ip() == peer
    }

    pub fn handshaking(&self) -> bool {
        self.quic.is_handshaking() && self.live()
    }

    // Events.

    pub fn poll_event(&mut self) -> Option<Event> {
        if self.silent {
            return None;
        }
        // Once it has ended, what quinn still has to tell is nobody's business any more.
        if self.ending.is_none() {
            self.pump();
        }
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        while let Some(id) = self.readable.pop_front() {
            if !self.accepted && u64::from(id) != CONTROL_STREAM {
                self.strangers.push(id);
            } else if let Some(event) = self.read(id) {
                return Some(event);
            }
        }
        let ending = self.ending.take()?;
        self.silent = true;
        self.streams.clear();
        Some(Event::Closed(ending))
    }

    pub fn handle_event(&mut self, event: ConnectionEvent) {
        let in_flight = congestion::in_flight_after(|| self.quic.handle_event(event));
        if in_flight == Some(0) {
            self.landed = Some(self.quic.stats().frame_tx.stream);
        }
    }

    /// After datagrams of it were handled: whether the peer was heard, and whether a ping was answered.
    pub fn heard(&mut self, now: Instant) {
        let stats = self.quic.stats();
        let frames = frames(&stats);
        if frames != self.frames_received {
            self.frames_received = frames;
            self.last_received_at = now;
            if now >= self.sent_at + MUTE {
                self.urgent = true;
                self.owes_ack = true;
            }
        }
        if stats.frame_rx.acks != self.acks_received {
            self.acks_received = stats.frame_rx.acks;
            // An ACK that comes earlier was on its way before the ping arrived.
            if self.pinged_at.is_some_and(|at| now >= at + stats.path.min_rtt.mul_f32(0.9)) {
                self.pinged_at = None;
                self.events.push_back(Event::PingAnswered);
            }
        }
    }

    pub fn poll_transmit(&mut self, now: Instant, segments: usize, buffer: &mut Vec<u8>) -> Option<Transmit> {
        let acks_sent = self.owes_ack.then(|| self.quic.stats().frame_tx.acks);
        let transmit = if self.urgent {
            congestion::passing(|| self.quic.poll_transmit(now, 1, buffer))
        } else {
            self.quic.poll_transmit(now, segments, buffer)
        };
        if transmit.is_some() {
            self.urgent = false;
            self.sent_at = now;
            self.owes_ack &= acks_sent == Some(self.quic.stats().frame_tx.acks);
            if std::mem::take(&mut self.ping_asked) {
                self.pinged_at.get_or_insert(now);
            }
        } else if let Some(frames) = self.landed.take()
            && frames == self.quic.stats().frame_tx.stream
        {
            self.at_rest = Some((frames, self.accepted_bytes));
        }
        transmit
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.quic.handle_timeout(now);
        self.urgent |= self.owes_ack; // quinn delays acknowledgements: this may be the time of one.
        if self.handshaking() && self.handshake_deadline.is_some_and(|deadline| now >= deadline) {
            self.quic.close(now, VarInt::from_u32(0), Bytes::new());
            self.urgent = true;
            self.end(Ending::timed_out(false));
        }
    }

    pub fn next_timeout(&mut self) -> Option<Instant> {
        let handshake = if self.handshaking() { self.handshake_deadline } else { None };
        [self.quic.poll_timeout(), handshake].into_iter().flatten().min()
    }

    pub fn close(&mut self, code: u64, reason: &str, now: Instant) {
        self.quic.close(now, size(code), Bytes::copy_from_slice(reason.as_bytes()));
        self.urgent = true;
        self.end(Ending::local(code, reason, self.established));
    }

    /// Takes back what was not reported yet.
    fn end(&mut self, ending: Ending) {
        self.events.clear();
        self.readable.clear();
        self.ending = Some(ending);
    }

    fn pump(&mut self) {
        self.quic.set_send_window(self.send_window());
        let mut writable = Vec::new();
        while let Some(event) = self.quic.poll() {
            match event {
                QuicEvent::Connected => {
                    self.established = true;
                    self.handshake_deadline = None;
                    let address = self.quic.remote_address();
                    self.events.push_front(Event::Connected { address, started_at: self.started_at });
                }
                QuicEvent::ConnectionLost { reason } if self.live() => {
                    self.ending = Some(Ending::of(reason, self.established));
                }
                QuicEvent::Stream(StreamEvent::Opened { .. }) => self.accept_streams(),
                QuicEvent::Stream(StreamEvent::Readable { id }) => self.queue_reading(id),
                QuicEvent::Stream(StreamEvent::Writable { id }) => writable.push(u64::from(id)),
                QuicEvent::Stream(StreamEvent::Finished { id }) => self.end_sending(id.into(), Sending::Acknowledged),
                QuicEvent::Stream(StreamEvent::Stopped { id, error_code }) => self.stopped(id, error_code),
                QuicEvent::Stream(StreamEvent::Available { .. }) => self.tell_of_streams(),
                _ => {}
            }
        }
        self.wake(writable);
    }

    fn accept_streams(&mut self) {
        while let Some(id) = self.quic.streams().accept(Dir::Bi) {
            self.add_stream(id);
            self.queue_reading(id);
        }
    }

    fn add_stream(&mut self, id: StreamId) {
        self.streams.insert(id.into(), Stream::new());
        if u64::from(id) == CONTROL_STREAM {
            let _ = self.quic.send_stream(id).set_priority(1);
        }
    }

    fn stopped(&mut self, id: StreamId, code: VarInt) {
        if self.quic.send_stream(id).reset(code).is_ok() {
            self.end_sending(id.into(), Sending::Reset);
            self.events.push_back(Event::Stopped { stream: id.into(), code: code.into_inner() });
        }
    }

    /// Those that wait for room, longest wait first.
    fn wake(&mut self, mut writable: Vec<u64>) {
        writable.sort_unstable_by_key(|id| self.streams.get(id).and_then(|stream| stream.short_since));
        for id in writable {
            if let Some(stream) = self.streams.get_mut(&id)
                && stream.short_since.is_some()
                && !std::mem::replace(&mut stream.woken, true)
            {
                self.events.push_back(Event::Writable { stream: id });
            }
        }
    }

    fn leave_turn(&mut self, id: u64) {
        if let Some(stream) = self.streams.get_mut(&id) {
            self.short_streams -= usize::from(stream.short_since.take().is_some());
            stream.woken = false;
        }
    }

    // Receiving.

    fn queue_reading(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id.into())
            && stream.receiving == Receiving::Open
            && !stream.readable
        {
            stream.readable = true;
            self.readable.push_back(id);
        }
    }

    fn read(&mut self, id: StreamId) -> Option<Event> {
        let number = u64::from(id);
        let stream = self.streams.get_mut(&number)?;
        stream.readable = false;
        if stream.receiving != Receiving::Open {
            return None;
        }
        let mut room = (self.limits.delivered_bytes() - stream.unconsumed) as usize;
        if room == 0 {
            stream.unread = true;
            let code = self.quic.recv_stream(id).received_reset().ok()??;
            return Some(self.reset_received(number, code));
        }
        self.limit_streams(self.held_streams + 1); // In case this was its end, and until we know.
        let mut chunks = Vec::new();
        let outcome = {
            let mut stream = self.quic.recv_stream(id);
            match stream.read(true) {
                Ok(reading) => read_chunks(reading, &mut room, &mut chunks),
                Err(_) => Outcome::Blocked,
            }
        };
        self.delivered(number, chunks, outcome)
    }

    fn delivered(&mut self, number: u64, chunks: Vec<Bytes>, outcome: Outcome) -> Option<Event> {
        let count: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let stream = self.streams.get_mut(&number)?;
        stream.unconsumed += count;
        stream.unread = matches!(outcome, Outcome::Full);
        let end = matches!(outcome, Outcome::End);
        if end {
            stream.receiving = Receiving::Ended;
        }
        self.hold(number);
        self.limit_streams(self.held_streams);
        if let Outcome::Reset(code) = outcome {
            return Some(self.reset_received(number, code));
        }
        self.retire_if_over(number);
        (end || count > 0).then_some(Event::Data { stream: number, chunks, end })
    }

    fn reset_received(&mut self, number: u64, code: VarInt) -> Event {
        self.discard(number);
        Event::Reset { stream: number, code: code.into_inner() }
    }

    pub fn consumed(&mut self, number: u64, count: u64) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.unconsumed -= count.min(stream.unconsumed);
        if stream.unread && 2 * stream.unconsumed <= self.limits.delivered_bytes() {
            stream.unread = false;
            self.queue_reading(id_of(number));
        } else if stream.unconsumed == 0 && stream.receiving != Receiving::Open {
            self.hold(number);
            self.limit_streams(self.held_streams);
            self.retire_if_over(number);
        }
    }

    pub fn stop(&mut self, number: u64, code: u64) {
        let Some(stream) = self.streams.get(&number) else { return };
        if stream.receiving == Receiving::Open {
            let _ = self.quic.recv_stream(id_of(number)).stop(size(code));
        }
        self.discard(number);
    }

    fn discard(&mut self, number: u64) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.receiving = Receiving::Discarding;
        stream.unconsumed = 0;
        self.hold(number);
        self.limit_streams(self.held_streams);
        self.retire_if_over(number);
    }

    /// A stream that is over for quinn, or is with the next acknowledgement, counts on while bytes of it are unconsumed.
    /// `limit_streams` follows.
    fn hold(&mut self, number: u64) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let over = stream.receiving == Receiving::Ended && stream.sending != Sending::Open;
        let held = over && stream.unconsumed > 0;
        if held != std::mem::replace(&mut stream.held, held) {
            self.held_streams = if held { self.held_streams + 1 } else { self.held_streams - 1 };
        }
    }

    /// quinn tells the peer of free streams once an eighth of them has come free; a peer that is about to run out of them
    /// is told of each. (A limit of none makes every free stream worth telling.)
    fn limit_streams(&mut self, held: u64) {
        if self.stream_limit == 0 {
            return;
        }
        let limit = self.stream_limit.saturating_sub(held);
        self.quic.set_max_concurrent_streams(Dir::Bi, size(limit));
        if 4 * self.quic.streams().remote_open_streams(Dir::Bi) > 3 * limit {
            self.quic.set_max_concurrent_streams(Dir::Bi, VarInt::from_u32(0));
            self.quic.set_max_concurrent_streams(Dir::Bi, size(limit));
        }
    }

    fn retire_if_over(&mut self, number: u64) {
        if self.streams.get(&number).is_some_and(Stream::over) {
            self.streams.remove(&number);
            if self.windows.wide() {
                self.tell_of_streams();
            }
        }
    }

    /// Lifts a server's limits from those of the greeting to the full ones.
    pub fn accept(&mut self) {
        if !std::mem::replace(&mut self.accepted, true) {
            self.readable.extend(self.strangers.drain(..));
            self.stream_limit = self.windows.streams;
            self.limit_streams(self.held_streams);
            self.quic.set_receive_window(self.windows.connection(&self.limits));
        }
    }

    // Sending.

    pub fn open(&mut self) -> Option<u64> {
        let opened = if self.has_room() { self.quic.streams().open(Dir::Bi) } else { None };
        self.wants_stream = opened.is_none();
        let id = opened?;
        self.add_stream(id);
        Some(id.into())
    }

    /// For one more large window of ours; how many streams there may be otherwise is the peer's to say.
    fn has_room(&self) -> bool {
        !self.windows.wide() || (self.streams.len() as u64) < self.windows.streams
    }

    fn tell_of_streams(&mut self) {
        if self.wants_stream && self.has_room() {
            self.wants_stream = false;
            self.events.push_back(Event::StreamsAvailable);
        }
    }

    pub fn send(&mut self, number: u64, data: &[u8]) -> usize {
        let Some(stream) = self.streams.get(&number) else { return 0 };
        if stream.sending != Sending::Open || data.is_empty() {
            return 0;
        }
        let control = number == CONTROL_STREAM;
        let others_wait = self.short_streams > usize::from(stream.short_since.is_some());
        let offered = if others_wait && !control { data.len().min(SHARE_BYTES) } else { data.len() };
        let reserve = if control { self.limits.control_window_bytes } else { 0 };
        self.quic.set_send_window(self.send_window() + reserve);

        let mut taken = 0;
        let mut blocked = false;
        while taken < offered && !blocked {
            match self.quic.send_stream(id_of(number)).write(&data[taken..offered]) {
                Ok(count) => taken += count,
                Err(WriteError::Blocked) => blocked = true,
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => return taken, // `Stopped` follows.
            }
        }
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.accepted += taken as u64;
            self.unacknowledged += taken as u64;
            self.accepted_bytes += taken as u64;
        }
        if taken < data.len() {
            self.came_up_short(number, taken, blocked);
        } else {
            self.leave_turn(number);
        }
        taken
    }

    /// quinn says Writable where it has blocked the stream; where it only took its share, its next turn comes anyway.
    fn came_up_short(&mut self, number: u64, taken: usize, blocked: bool) {
        self.flow_control_waits += 1;
        if taken > 0 {
            self.leave_turn(number);
        }
        if !blocked {
            self.events.push_back(Event::Writable { stream: number });
        }
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.woken = !blocked;
            if stream.short_since.is_none() {
                self.turn += 1;
                self.short_streams += 1;
                stream.short_since = Some(self.turn);
            }
        }
    }

    pub fn finish(&mut self, number: u64) {
        if self.streams.get(&number).is_some_and(|stream| stream.sending == Sending::Open) {
            let _ = self.quic.send_stream(id_of(number)).finish();
            self.end_sending(number, Sending::Finished);
        }
    }

    pub fn reset(&mut self, number: u64, code: u64) {
        // quinn panics at the numbers of streams that cannot be sent on.
        if self.streams.contains_key(&number) && self.quic.send_stream(id_of(number)).reset(size(code)).is_ok() {
            self.end_sending(number, Sending::Reset);
        }
    }

    fn end_sending(&mut self, number: u64, how: Sending) {
        self.leave_turn(number);
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.sending = how;
            if how != Sending::Finished {
                self.unacknowledged -= std::mem::take(&mut stream.accepted);
            }
            self.hold(number);
            self.retire_if_over(number);
        }
        self.limit_streams(self.held_streams);
    }

    /// Bytes that were taken and not acknowledged: the cap, and more where the path holds more, so that one congestion
    /// window may be on its way while another one waits.
    fn send_window(&self) -> u64 {
        let path = 2 * self.quic.congestion_state().window();
        path.min(2 * self.limits.stream_window_cap_bytes).max(self.limits.send_cap_bytes)
    }

    // State.

    pub fn ping(&mut self) {
        self.quic.ping();
        self.ping_asked = true;
        self.urgent = true;
    }

    pub fn packets(&self) -> Packets {
        let stats = self.quic.stats();
        Packets { sent: stats.path.sent_packets, received: stats.udp_rx.datagrams, lost: stats.path.lost_packets }
    }

    pub fn facts(&self) -> Facts {
        let stats = self.quic.stats();
        // quinn does not tell. Since the last rest it is what was accepted; else what it can be at most, because a stream's
        // bytes count until its end is acknowledged.
        let buffered_send_bytes = match self.at_rest {
            Some((frames, accepted)) if frames == stats.frame_tx.stream => self.accepted_bytes - accepted,
            _ => self.unacknowledged.min(self.send_window()),
        };
        Facts {
            stats,
            last_received_at: self.last_received_at,
            buffered_send_bytes,
            flow_control_waits: self.flow_control_waits,
        }
    }
}

enum Outcome {
    Blocked,
    /// As much as may be delivered was.
    Full,
    End,
    Reset(VarInt),
}

fn read_chunks(mut reading: Chunks<'_>, room: &mut usize, chunks: &mut Vec<Bytes>) -> Outcome {
    while *room > 0 {
        match reading.next(*room) {
            Ok(Some(chunk)) => {
                *room -= chunk.bytes.len();
                chunks.push(chunk.bytes);
            }
            Ok(None) => return Outcome::End,
            Err(ReadError::Blocked) => return Outcome::Blocked,
            Err(ReadError::Reset(code)) => return Outcome::Reset(code),
        }
    }
    Outcome::Full
}

fn id_of(number: u64) -> StreamId {
    StreamId::from(size(number))
}

/// Frames come out of packets that authenticated, and out of nothing else.
fn frames(stats: &ConnectionStats) -> u64 {
    let rx = &stats.frame_rx;
    rx.acks
        + rx.crypto
        + rx.connection_close
        + rx.data_blocked
        + u64::from(rx.handshake_done)
        + rx.immediate_ack
        + rx.max_data
        + rx.max_stream_data
        + rx.max_streams_bidi
        + rx.new_connection_id
        + rx.new_token
        + rx.path_challenge
        + rx.path_response
        + rx.ping
        + rx.reset_stream
        + rx.retire_connection_id
        + rx.stream_data_blocked
        + rx.streams_blocked_bidi
        + rx.stop_sending
        + rx.stream
}
