"""The names of the files of a calibration, in its folder."""

POOL, SEARCHES, THOUGHTS, POLICY, REPORT = "pool.jsonl", "searches.jsonl", "thoughts.jsonl", "policy.json", "report.html"
