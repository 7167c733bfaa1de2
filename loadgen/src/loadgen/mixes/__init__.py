"""Mixes by name: the TOML files in this folder. `loadgen.load.mix` reads them and says what can be written."""
