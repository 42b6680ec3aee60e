"""Pure tensor functions: no Pyro, no modules, no randomness that is not passed in."""
