//! Congestion controllers that let one datagram pass, and tell what is in flight.
//!
//! A ping asks whether the peer is there, and an acknowledgement says that we are. quinn holds both back like data while
//! the congestion window is full and data waits, and its own probes back off: a sender that had filled its window before
//! a hole of some seconds would be mute for as long again after it. While `passing` runs, windows are as good as endless.

use std::any::Any;
use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{
    BbrConfig, Controller, ControllerFactory, ControllerMetrics, CubicConfig, NewRenoConfig,
};

/// Beyond what quinn paces.
const ENDLESS: u64 = 1 << 40;

thread_local! {
    static EXTRA: Cell<u64> = const { Cell::new(0) };
    static IN_FLIGHT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Runs `send` with windows that hold nothing back.
pub fn passing<T>(send: impl FnOnce() -> T) -> T {
    let _back = Back;
    EXTRA.set(ENDLESS);
    send()
}

/// Windows are what they were again, also after a panic.
struct Back;

impl Drop for Back {
    fn drop(&mut self) {
        EXTRA.set(0);
    }
}

/// Runs `handle`; the bytes in flight behind the last acknowledgement that it came upon. (quinn tells controllers only.)
pub fn in_flight_after(handle: impl FnOnce()) -> Option<u64> {
    IN_FLIGHT.set(None);
    handle();
    IN_FLIGHT.get()
}

pub fn factory(name: &str) -> Result<Arc<dyn ControllerFactory + Send + Sync>, String> {
    match name {
        "cubic" => Ok(Arc::new(Factory(Arc::new(CubicConfig::default())))),
        "bbr" => Ok(Arc::new(Factory(Arc::new(BbrConfig::default())))),
        "reno" => Ok(Arc::new(Factory(Arc::new(NewRenoConfig::default())))),
        other => Err(format!("{other:?} is none of cubic, bbr and reno")),
    }
}

struct Factory<F>(Arc<F>);

impl<F: ControllerFactory> ControllerFactory for Factory<F> {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        Box::new(Passing(self.0.clone().build(now, mtu)))
    }
}

struct Passing(Box<dyn Controller>);

impl Controller for Passing {
    fn window(&self) -> u64 {
        self.0.window() + EXTRA.get()
    }

    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.0.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.0.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        IN_FLIGHT.set(Some(in_flight));
        self.0.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, is_persistent: bool, lost_bytes: u64) {
        self.0.on_congestion_event(now, sent, is_persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.0.on_mtu_update(new_mtu);
    }

    fn metrics(&self) -> ControllerMetrics {
        self.0.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Passing(self.0.clone_box()))
    }

    fn initial_window(&self) -> u64 {
        self.0.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self.0.into_any()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_endless_for_one_call_also_if_it_panics() {
        let controller = factory("cubic").unwrap().build(Instant::now(), 1200);
        let window = controller.window();
        assert!(passing(|| controller.window()) > u32::MAX.into(), "beyond what quinn paces");
        assert_eq!(controller.window(), window);
        assert!(std::panic::catch_unwind(|| passing(|| panic!("on purpose"))).is_err());
        assert_eq!(controller.window(), window);
    }

    #[test]
    fn controllers_have_names() {
        for name in ["cubic", "bbr", "reno"] {
            assert!(factory(name).unwrap().build(Instant::now(), 1200).window() > 0);
        }
        assert!(factory("vegas").is_err());
    }
}
