"""What is broken on purpose during a soak: `plan` says what and when, `driver` does it, `marks` tells the generator."""
