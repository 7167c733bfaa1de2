"""What is offered, when, and by whom: `mix`, `schedule`, `generator`."""
