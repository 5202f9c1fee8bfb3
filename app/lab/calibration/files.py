"""The names of the files of a calibration, in its folder; besides `app.routing.pool_file.POOL`."""

SEARCHES, THOUGHTS, POLICY, REPORT = "searches.jsonl", "thoughts.jsonl", "policy.json", "report.html"
