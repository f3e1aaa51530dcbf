"""May it go now: saturation and shedding."""
