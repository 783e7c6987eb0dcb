"""One call of triage_latest_failures of gopatchworks/patchworks-mcp, and what it met, as a line of JSON.

The simulator has fewer failed runs, so 199 runs of any status are looked at: 201 requests, one after the other.
"""

import json
import sys
import time

sys.path.insert(0, sys.argv[1])
import patchworks_client as client  # noqa: E402

calls = []
send = client.session.send
get_flow_runs = client.get_flow_runs


def timed(request, **options):
    began = time.monotonic()
    try:
        return send(request, **options)
    finally:
        calls.append(time.monotonic() - began)


def many_runs(**options):
    pages = [get_flow_runs(**{**options, "status": None, "per_page": 100, "page": page})["data"] for page in (1, 2)]
    runs = pages[0] + pages[1]
    return {"data": (runs * 2)[:199]}


client.session.send = timed
client.get_flow_runs = many_runs
began = time.monotonic()
try:
    items = client.triage_latest_failures(limit=200)["items"]
    failed = sum("error" in item["summary"] for item in items)
except RuntimeError:
    items, failed = [], 1
print(
    json.dumps(
        {
            "requests": len(calls),
            "seconds": time.monotonic() - began,
            "summaries": len(items),
            "failed": failed,
            "longestSeconds": max(calls),
        }
    )
)
