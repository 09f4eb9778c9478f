"""Do intervals, verdicts and plans keep their promises? Simulated suites through the statistics of the report."""
