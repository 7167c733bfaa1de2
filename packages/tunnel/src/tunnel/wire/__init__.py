"""PROTOCOL.md as code, sans-IO: numbers, messages, and the codec between messages and bytes."""
