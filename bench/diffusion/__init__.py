"""The diffusion: schedules, samplers, and the keyed draws of training."""
