"""What all that was counted comes to: `thresholds`, `verdict`."""
