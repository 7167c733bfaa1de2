"""Mixes by name: the TOML files in this folder. `loadgen.soak.mix` reads them and says what can be written."""
