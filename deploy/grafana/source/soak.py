"""What the applications see: outcomes, stalls, times, and whether the generator itself can be believed."""

from deploy.grafana.source.panels import Board, Kind, Panel, Section, per_second, quantile, with_all

RATIO_OK = 'sum({0}(soak_transactions_total{{outcome="ok"}}[{1}])) / sum({0}(soak_transactions_total{{}}[{1}]))'

VERDICT = Section(
    "Verdict",
    (
        Panel(
            "Transactions that were ok",
            "The share of all that ended in the time range. Below 100 %, the panels below say how they ended, in "
            "which phase, and whether a fault was being injected.",
            "percentunit",
            {"ok": RATIO_OK.format("increase", "$__range")},
            Kind.NUMBER,
            width=4,
            good_from=0.9999,
        ),
        Panel(
            "Ends that never came",
            "eof_missing: every byte arrived, the end of the stream did not. It is the bug that this project exists "
            "for: look for the hop that lost it in the FIN ledger, on the dashboard of the proxies.",
            "short",
            {"eof_missing": 'sum(increase(soak_transactions_total{outcome="eof_missing"}[$__range]))'},
            Kind.NUMBER,
            width=4,
            bad_from=0.5,
        ),
        Panel(
            "Stalls",
            "Phases without progress for longer than their stall limit, in the time range. Outside of faults there "
            "should be none: see in which phase, and what the proxies' /pending says.",
            "short",
            {"stalls": "sum(increase(soak_stalls_total{}[$__range]))"},
            Kind.NUMBER,
            width=4,
            bad_from=0.5,
        ),
        Panel(
            "Stalled now",
            "Transactions that make no progress at this moment. Ask the proxies' /pending for the oldest stream "
            "before they time out.",
            "short",
            {"stalled": "sum(soak_stalled_transactions{})"},
            Kind.NUMBER,
            width=4,
            bad_from=1,
        ),
        Panel(
            "Timeouts",
            "Phases that ended a transaction because they took too long, in the time range. Each was a stall before: "
            "begin with the phase.",
            "short",
            {"timeouts": "sum(increase(soak_timeouts_total{}[$__range]))"},
            Kind.NUMBER,
            width=4,
            bad_from=0.5,
        ),
        Panel(
            "Run",
            "Which run this is. With the seed, the same transactions can be had again; reports are named after the "
            "run.",
            "string",
            {"{{run_id}}, seed {{seed}}, revision {{revision}}": "soak_run_info{}"},
            Kind.LABELS,
            width=4,
        ),
        Panel(
            "Faults",
            "What was broken, and when. A stall or a bad outcome outside of a fault and of the recovery behind it is "
            "a finding.",
            "short",
            {"{{fault}}": "max by (fault) (soak_fault_active{})"},
            Kind.STATES,
            width=24,
        ),
    ),
)

OUTCOMES = Section(
    "How transactions ended",
    (
        Panel(
            "Outcomes",
            "Transactions that ended, by outcome. Anything but ok has a line in anomalies.jsonl of the run's report, "
            "with its phase and its detail.",
            "ops",
            {"{{outcome}}": per_second("soak_transactions_total{}", "outcome")},
            Kind.STACK,
            width=12,
        ),
        Panel(
            "Share that was ok",
            "A dip that no fault explains is a finding. A gap means that nothing ended: then see whether anything was "
            "started.",
            "percentunit",
            {"ok": RATIO_OK.format("rate", "$__rate_interval")},
            width=12,
        ),
    ),
)

STALLS = Section(
    "Stalls and timeouts",
    (
        Panel(
            "Stalls by phase",
            "Counted when they begin. The phase names the culprit: eof_wait is a lost or late end, ttfb and body are "
            "data that stands still, socks_connect is the dial.",
            "ops",
            {"{{phase}}": per_second("soak_stalls_total{}", "phase")},
            Kind.BARS,
        ),
        Panel(
            "Stalled now, by phase",
            "Transactions without progress at each moment. A step that stays is a hang, a hill that goes with a fault "
            "is the fault.",
            "short",
            {"{{phase}}": "sum by (phase) (soak_stalled_transactions{})"},
            Kind.STACK,
        ),
        Panel(
            "Timeouts by phase",
            "Stalls that did not recover. Compare with the stalls: what is in both was a hang, what is only there was "
            "a pause.",
            "ops",
            {"{{phase}}": per_second("soak_timeouts_total{}", "phase")},
            Kind.BARS,
        ),
    ),
)

TIMES = Section(
    "Where the time goes",
    (
        Panel(
            "Wait for the end of the stream (eof_wait)",
            "From the last expected byte to the end. It belongs at the bottom; a band at three to four seconds is "
            "ends that the rescue brought through. Ends that never came are not in it: they are timeouts of this "
            "phase.",
            "s",
            {"{{le}}": per_second('soak_phase_duration_seconds_bucket{phase="eof_wait"}', "le")},
            Kind.HEAT,
            width=12,
        ),
        Panel(
            "Phases, 99th percentile",
            "The phase that grows is where to look: the SOCKS phases at proxy-client, socks_connect at the dial, ttfb "
            "and body at the tunnel and the target.",
            "s",
            {"{{phase}}": quantile(0.99, "soak_phase_duration_seconds_bucket{}", "phase")},
            width=12,
        ),
        Panel(
            "Response time by scenario, median",
            "From the scheduled start to the end, so that a stall cannot hide behind a load that waits for it. "
            "Compare scenarios with each other, and with the run before.",
            "s",
            {"{{scenario}}": quantile(0.5, "soak_response_time_seconds_bucket{}", "scenario")},
            width=12,
        ),
        Panel(
            "Response time by scenario, 99th percentile",
            "The slowest hundredth. If it rises and the median does not, some transactions wait for something: see "
            "the phases.",
            "s",
            {"{{scenario}}": quantile(0.99, "soak_response_time_seconds_bucket{}", "scenario")},
            width=12,
        ),
    ),
)

GENERATOR = Section(
    "The generator",
    (
        Panel(
            "Lag, 99th percentile",
            "How late transactions were started, and the watchdog's sweep came. From a quarter of a stall limit on it "
            "is the generator that stalls: lower the rate, or give it a processor.",
            "s",
            {
                "start": quantile(0.99, "soak_schedule_lag_seconds_bucket{}"),
                "event loop": quantile(0.99, "soak_event_loop_lag_seconds_bucket{}"),
            },
            width=6,
        ),
        Panel(
            "Not started",
            "Transactions that were due and dropped, because too many were in flight or it was too late. Then the run "
            "measured less than it says: find what does not end, or lower the rate.",
            "ops",
            {"{{scenario}}": with_all("soak_transactions_dropped_total{}", "scenario")},
            Kind.BARS,
            width=6,
        ),
        Panel(
            "In flight",
            "Transactions under way. It should be level; if it climbs, they take longer than they come, or hang.",
            "short",
            {"{{scenario}}": "sum by (scenario) (soak_transactions_in_flight{})"},
            Kind.STACK,
            width=6,
        ),
        Panel(
            "Payload",
            "What went through the proxies, by direction. It follows the load; where it falls and transactions in "
            "flight rise, data stands still.",
            "Bps",
            {"{{direction}}": per_second("soak_payload_bytes_total{}", "direction")},
            width=6,
        ),
    ),
)

SOAK = Board(
    "soak",
    "finback: soak",
    "What the applications see, and whether it is the proxies, a fault or the generator.",
    jobs_of="soak_transactions_started_total",
    sections=(VERDICT, OUTCOMES, STALLS, TIMES, GENERATOR),
)
