"""One seed of the simulation on one pairing of engines: its plan, its run, and how to see it again.

Rules:
- The model engine gets as many seeds as are asked for, each pairing of the real ones a tenth.
- A seed and a pairing are all there is: the same ones give the same run.
"""

from random import Random

from tests.sim.engines import engines_of, seeded
from tests.sim.plans import Plan, random_plan
from tests.sim.run import Run

from tunnel.engine.settings import ServerTls

MODEL = "model"
REAL = ("aioquic", "quinn", "aioquic to quinn", "quinn to aioquic")
"""Client and server; one name where they are of one kind."""
SHARE = 10
"""Seeds of the model for each of a real pairing."""


def plan_of(pairing: str, seed: int) -> Plan:
    return random_plan(seed, transactions=6 if pairing == MODEL else 4)


def play(pairing: str, seed: int, server_tls: ServerTls) -> None:
    """Raises where something that must hold does not, with the plan and the command that replays it."""
    try:
        with seeded(Random(seed)):
            plan = plan_of(pairing, seed)
            Run(plan, engines_of(pairing, server_tls, plan.faults)).check()
    except Exception as error:
        error.add_note(f"{plan_of(pairing, seed)}\nsee it again: {replay(pairing, seed)}")
        raise


def replay(pairing: str, seed: int) -> str:
    return f"make sim SEED={seed} ENGINES='{pairing}'"
