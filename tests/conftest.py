"""What all tests have in common."""

from hypothesis import HealthCheck, settings

# How long an example takes says something of the machine, not of the code: speed is measured in bench/.
settings.register_profile("finback", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("finback")
