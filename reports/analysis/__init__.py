"""The statistics of the measurement protocol, version 2: from curves to verdicts. Reads no files."""
