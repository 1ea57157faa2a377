#!/usr/bin/env python3
"""An agent in Python: answers every message in its inbox once, however often it is killed.

Any program that follows the on-disk contract is an agent; docs/writing-an-agent.md explains this one.

Usage: agent.py [SESSION_FOLDER [IDLE_S]]    ends when nothing was there to do for IDLE_S seconds; without it, never.
The host that starts it names the folder in its environment: [runtime] command = ["python3", "/path/to/agent.py"]
"""
import json
import os
import pathlib
import sqlite3
import sys
import time

POLL_S = 0.05
DUE_SQL = """SELECT id, kind, trigger, channel_type, platform_id, thread_id, content FROM messages_in
    WHERE status = 'pending' AND kind <> 'system' AND (on_wake = 0 OR ?)
      AND (process_after IS NULL OR datetime(process_after) <= datetime('now')) ORDER BY seq"""


def connect(path, mode):
    """Rollback journal (SQLite's default), never WAL: a host refuses session files in WAL mode."""
    return sqlite3.connect(f"file:{path}?mode={mode}", uri=True, timeout=5, isolation_level=None)


def next_seq(inbound, outbound):
    """A seq is unique over both tables; the host's are even, an agent's are odd."""
    highest = max(inbound.execute("SELECT coalesce(max(seq), 0) FROM messages_in").fetchone()[0],
                  outbound.execute("SELECT coalesce(max(seq), 0) FROM messages_out").fetchone()[0])
    return highest + 1 if highest % 2 == 0 else highest + 2


def acknowledge(outbound, message_id, status):
    outbound.execute("INSERT OR REPLACE INTO processing_ack VALUES (?, ?, datetime('now'))", (message_id, status))


def think(content):
    """Here a real agent would ask a model; this one repeats what it was told."""
    files = "".join(f" ({attachment['localPath']})" for attachment in content.get("attachments", []))
    return f"You said: {content.get('text') or content.get('prompt', '')}{files}"


def handle(inbound, outbound, row):
    """Claim, work, then the answer and the acknowledgement in one commit: killed anywhere, it answers once."""
    message_id, _kind, trigger, channel_type, platform_id, thread_id, content = row
    acknowledge(outbound, message_id, "processing")
    answer = json.dumps({"text": think(json.loads(content))}, separators=(",", ":")) if trigger else None
    outbound.execute("BEGIN IMMEDIATE")
    if answer:
        outbound.execute(
            "INSERT INTO messages_out (id, seq, in_reply_to, timestamp, kind, channel_type, platform_id, thread_id,"
            " content) VALUES (?, ?, ?, datetime('now'), 'chat', ?, ?, ?, ?)",
            (f"re-{message_id}", next_seq(inbound, outbound), message_id, channel_type, platform_id, thread_id, answer))
    acknowledge(outbound, message_id, "completed")
    outbound.execute("COMMIT")


def main(folder, idle_s):
    inbound, outbound = connect(folder / "inbound.db", "ro"), connect(folder / "outbound.db", "rw")
    is_fresh, last_work = True, time.monotonic()
    while time.monotonic() - last_work < idle_s:
        (folder / ".heartbeat").touch()
        done = {row[0] for row in outbound.execute("SELECT message_id FROM processing_ack WHERE status <> 'processing'")}
        for row in [row for row in inbound.execute(DUE_SQL, (is_fresh,)).fetchall() if row[0] not in done]:
            handle(inbound, outbound, row)
            last_work = time.monotonic()
        is_fresh = False
        time.sleep(POLL_S)


if __name__ == "__main__":
    session_folder = sys.argv[1] if len(sys.argv) > 1 else os.environ["NANORELAY_SESSION_DIR"]
    main(pathlib.Path(session_folder), float(sys.argv[2]) if len(sys.argv) > 2 else float("inf"))
